"""A run that starts from another run: from its best parameters, if they match.

For each seed, the best parameters of the run that the setting `start` names replace drawn ones with the same path and
shape. Rows of items and users are matched by raw id, so the catalogue may have grown: a row that the source run lacks
keeps its drawn numbers. The optimiser starts fresh.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import raw_ids, reading
from llmesr_jax.training import config as config_lib
from llmesr_jax.training.checkpoint import Checkpoints
from llmesr_jax.training.experiment import Experiment, read_config
from llmesr_jax.training.progress import Progress
from llmesr_jax.training.stages import HERE

ENCODER = "backbone"  # the name that methods give to the backbone, in paths of parameters


class Start(NamedTuple):
    """The run to start from.

    Attributes:
      folder: of the run.
      seeds: the seeds of `params`.
      best_epochs: the epoch of each seed's parameters.
      params: {path: host array}, stacked over `seeds`.
      rows: {"item": int array, "user": int array}: for each item or user of this run its row in that run, -1 for none;
        None if both runs have the same data, and so the same rows.
    """

    folder: Path
    seeds: tuple[int, ...]
    best_epochs: tuple[int, ...]
    params: Mapping[str, np.ndarray]
    rows: Mapping[str, np.ndarray] | None

    def describe(self, params_S: Any, axes: Mapping[str, str], both: bool = False) -> str:
        """A few lines on which parameters are taken from that run and which are drawn.

        Args:
          params_S: arrays or shapes of the drawn parameters.
          axes: {path: "item" or "user"} of the parameters over either axis.
          both: whether both an item table and the encoder must fit; else one of the two.
        Raises:
          InputError: they do not fit.
        """
        drawn = _named(params_S)
        fits = {path: self._fits(path, x.shape, axes.get(path)) for path, x in drawn.items()}
        items = [path for path in drawn if axes.get(path) == "item"]
        encoder = [path for path in drawn if path.startswith(f"{ENCODER}/")]
        taken = any(fits[path] for path in items), bool(encoder) and all(fits[path] for path in encoder)
        if not (all(taken) if both else any(taken)):
            of_items = "; ".join(
                f"{path} is {self._shape(path)} there and {tuple(drawn[path].shape[1:])} here" for path in items
            )
            unfit = f"its {'encoder' if taken[0] else 'item table'} does not fit"
            raise InputError(
                f"--start={self.folder}: {unfit if any(taken) else 'neither its item table nor its encoder fits'} this "
                f"model ({of_items}); expected a run with the same backbone, width and settings"
            )
        lines = [f"takes {_parts(fits, True)}"]
        if self.rows is not None:
            found = [f"{(row >= 0).sum()} of {len(row)} {axis}s" for axis, row in self.rows.items()]
            lines.append(f"rows by raw id: {', '.join(found)}")
        if anew := _parts(fits, False):
            lines.append(f"freshly drawn: {anew}")
        return "\n".join(f"  {line}" for line in lines)

    def into(self, params_S: Any, seeds: Iterable[int], axes: Mapping[str, str]) -> Any:
        """`params_S`, stacked over `seeds`, with the parameters of the run to start from wherever they fit."""
        places = np.asarray([self.seeds.index(seed) for seed in seeds])

        def one(path, drawn_S):
            name = _name(path)
            if not self._fits(name, drawn_S.shape, axes.get(name)):
                return drawn_S
            found = self.params[name][places].astype(drawn_S.dtype)
            if self.rows is None or name not in axes:
                return jax.device_put(found)
            rows = _table_rows(self.rows[axes[name]], drawn_S.shape[1], found.shape[1])
            return jax.device_put(np.where(_over_rows(rows >= 0, drawn_S), found[:, rows], drawn_S))

        return jax.tree_util.tree_map_with_path(one, params_S)

    def _fits(self, path: str, shape: tuple[int, ...], axis: str | None) -> bool:
        found = self._shape(path)
        if self.rows is not None and axis is not None:
            return found is not None and found[1:] == tuple(shape[2:])
        return found == tuple(shape[1:])

    def _shape(self, path: str) -> tuple[int, ...] | None:
        return self.params[path].shape[1:] if path in self.params else None


def check(folder: str | Path, seeds: Iterable[int]) -> None:
    """Raises InputError if there is no run to start from, or it lacks one of these seeds; reads no parameters."""
    if str(folder).startswith(HERE):
        raise InputError(
            f"--start={folder}: is not a run; expected a run of that method in the same command, or the folder of a run"
        )
    source = config_lib.seed_list(read_config(Path(folder))[0])
    if missing := [seed for seed in seeds if seed not in source]:
        raise InputError(
            f"--start={folder}: has no seed {missing[0]}; expected some of {', '.join(map(str, source))}; set these "
            "with --seeds"
        )


def read(experiment: Experiment) -> Start | None:
    """The run that an experiment's setting `start` names; None if it names none.

    Raises:
      InputError: there is no run; it has no intact checkpoint; a seed is missing or failed; or its data have changed,
        so that rows cannot be matched.
    """
    if not experiment.config.start:
        return None
    folder = Path(experiment.config.start)
    config, identity = read_config(folder)
    check(folder, experiment.seeds)
    with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        restored = checkpoints.restore()
    if restored is None:
        raise InputError(f"--start={folder}: has no checkpoint yet; train that run first")
    progress, seeds = Progress(**restored[1]), config_lib.seed_list(config)
    if failed := [seed for seed in experiment.seeds if str(seed) in progress.failed]:
        raise InputError(
            f"--start={folder}: seed {failed[0]} failed in that run ({progress.failed[str(failed[0])]}); choose other "
            "--seeds"
        )
    rows = None
    if identity.get("interactions") != experiment.corpus.digest:
        rows = _rows(experiment, config, identity)
    kept = [seeds.index(seed) for seed in experiment.seeds]
    params = {path: x[kept] for path, x in _named(restored[0]["best"]).items()}
    return Start(folder, experiment.seeds, tuple(progress.best_epoch[i] for i in kept), params, rows)


def _rows(experiment: Experiment, config: Any, identity: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The row in the run to start from of each user and item."""
    source = reading.load(config.dataset, config.data_dir or None, config_lib.section(config, "data"))
    if source.digest != identity.get("interactions"):
        raise InputError(
            f"--start={config.workdir}: the data in {source.folder or source.name} are not those of its training, so "
            "rows cannot be matched; keep the old data in one folder and the new data in another"
        )
    return {kind: raw_ids.rows_in(experiment.corpus, source, kind) for kind in ("item", "user")}


def _table_rows(rows: np.ndarray, length: int, source_length: int) -> np.ndarray:
    """int64 (length,): the row in the source's table of each row of a table, -1 for none.

    A table over items has the row of padding before them, and the mask token's after them.
    """
    if length == len(rows):
        return rows
    inner = np.where(rows >= 0, rows + 1, -1)
    return np.concatenate([[0], inner, np.full(length - len(rows) - 1, source_length - 1)])


def _over_rows(mask: np.ndarray, like: jax.Array) -> np.ndarray:
    return mask.reshape(1, -1, *(1,) * (like.ndim - 2))


def _parts(fits: Mapping[str, bool], wanted: bool) -> str:
    """The parts of a model whose arrays all fit, or all do not (`wanted`); of a mixed part, the single arrays."""
    found: dict[str, None] = {}
    for path in fits:
        part = path.partition("/")[0]
        whole = {fits[other] for other in fits if other.partition("/")[0] == part}
        if fits[path] == wanted:
            found[part if len(whole) == 1 else path] = None
    return ", ".join(found)


def _named(tree: Any) -> dict[str, Any]:
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
