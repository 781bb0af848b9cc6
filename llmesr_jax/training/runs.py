"""Reads a run's folder: configuration, data and best parameters; and computes its metrics again."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmesr_jax.core.axes import in_steps
from llmesr_jax.core.errors import InputError
from llmesr_jax.data import groups
from llmesr_jax.ranking import evaluate, inference, metrics
from llmesr_jax.semantic import tables as tables_lib
from llmesr_jax.training import experiment, interactions, state
from llmesr_jax.training.checkpoint import Checkpoints
from llmesr_jax.training.progress import Progress
from llmesr_jax.training.validation import Validation

SPLITS = ("test", "valid")
_ROUNDING = 0.02  # a metric over few users may differ by this much if one pair of scores changes its order


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Run:
    """A run that is trained, or partly trained.

    Attributes:
      experiment: with the current folders of the run and of the data.
      params_S: the best parameters so far of each of `seeds`, stacked.
      progress: of the training, for all seeds of the experiment.
    """

    experiment: experiment.Experiment
    params_S: Any
    progress: Progress

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that did not fail."""
        return tuple(self.experiment.seeds[i] for i in self.progress.sound(self.experiment.seeds))

    @functools.cached_property
    def tables(self) -> dict[str, Any]:
        """{name: array} of the frozen tables that the trained model reads, on the device."""
        return tables_lib.on_device(in_steps(self.experiment.tables, self.experiment.recommender.kinds))

    @functools.cached_property
    def served_S(self) -> Any:
        """The parameters that vectors are computed from, stacked over seeds: the method makes them from `params_S`."""
        model, data = self.experiment.recommender, None
        if model.for_serving is None:
            return self.params_S
        data = interactions.resident(self.experiment.corpus, self.experiment.epochs.plan)
        served = [
            inference.served(model, state.take(self.params_S, i), self.tables, data) for i in range(len(self.seeds))
        ]
        return state.stack(served)

    def __repr__(self) -> str:
        return f"<{self.experiment.config.workdir}: {self.describe()}>"

    def describe(self) -> str:
        """One line: the model, the data and the progress."""
        config, progress = self.experiment.config, self.progress
        best_epoch = dict(zip(self.experiment.seeds, progress.best_epoch))
        best = ", ".join(f"{best_epoch[seed]} (seed {seed})" for seed in self.seeds)
        failed = "".join(f"; seed {seed} failed ({what})" for seed, what in progress.failed.items())
        return f"{config.method} on {config.backbone}, {config.dataset}; {progress.epoch} epochs, best {best}{failed}"


def find(folder: str | Path) -> dict[str, Path]:
    """{name: folder} of the runs in a folder: the folder itself, by its method, or those below it, by their paths.

    Raises:
      InputError: there are none, or they are on different data, so that they cannot be compared.
    """
    folder = Path(folder)
    if (folder / experiment.CONFIG_FILE).exists():
        return {experiment.read_config(folder)[0].method: folder}
    found = {str(path.parent.relative_to(folder)): path.parent for path in sorted(folder.rglob(experiment.CONFIG_FILE))}
    if not found:
        wanted = "expected the folder of a run, or of several, made by launch.train"
        raise InputError(f"{folder}: {'has no run' if folder.is_dir() else 'no such folder'}; {wanted}")
    data = {name: experiment.read_config(path)[1].get("interactions") for name, path in found.items()}
    first = next(iter(data))
    if other := next((name for name in data if data[name] != data[first]), None):
        raise InputError(
            f"{folder}: {first} and {other} are runs on different data; choose a folder of runs on the same data"
        )
    return found


def load(folder: str | Path, data_dir: str = "") -> Run:
    """Reads a run's folder and its data; changes nothing in the folder.

    Args:
      folder: of the run.
      data_dir: the folder of the data; empty: the folder that training read, if relative, from the current folder.
    Raises:
      InputError: the folder is not a run's, has no intact checkpoint, or the data are missing or not those of the
        training.
    """
    folder = Path(folder)
    config, identity = experiment.read_config(folder)
    if not data_dir:
        _check_data_are_here(folder, config.dataset, config.data_dir)
    config.workdir, config.data_dir = str(folder), data_dir or config.data_dir
    prepared = experiment.prepare(config)
    if changes := experiment.identity_changes(identity, prepared, start=False):
        raise InputError(
            f"{folder}: the data are not those of the training ({'; '.join(changes)}); "
            "set --data_dir to the folder of those, or train again in a new --workdir"
        )
    with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        restored = checkpoints.restore()
    if restored is None:
        raise InputError(f"{folder}: has no checkpoint yet; continue the training with the command that made the run")
    tree, progress = restored
    found = Progress(**progress)
    return Run(prepared, state.take(tree["best"], found.sound(prepared.seeds)), found)


def _check_data_are_here(folder: Path, dataset: str, data_dir: str) -> None:
    """Raises InputError if the training read its data from a relative path that is not in the current folder."""
    data = Path(data_dir or Path("data", dataset))
    in_memory = dataset == "demo" and not data_dir
    if not (in_memory or data.is_absolute() or data.exists()):
        raise InputError(
            f"{folder}: was trained on the data folder {data}, a path relative to the current folder, which does not "
            "exist here; run the command in the folder where the run was trained, or set --data_dir=<folder>"
        )


def evaluate_run(
    run: Run,
    splits: Sequence[str] = SPLITS,
    protocols: Sequence[str] = metrics.PROTOCOLS,
    tail: groups.Tail = groups.TRAINING,
) -> dict[str, dict]:
    """{split: {protocol: {group: {metric: one number per seed}}}}, as in results.json.

    Args:
      run: of `load_run`, or `run_of`.
      splits: test, valid.
      protocols: full, sampled.
      tail: the definition of tail users and items; that of results.json is by training counts.
    """
    results, seeds, tables = {}, run.seeds, run.tables
    for split in splits:
        validation = Validation(run.experiment, split, tables, tail=tail)
        summaries = [validation.ranks(state.take(run.params_S, i), s, protocols, True)[0] for i, s in enumerate(seeds)]
        results[split] = evaluate.stack(summaries)
    return results


def compare(run: Run, results: Mapping[str, Mapping]) -> str:
    """One line that says whether `results`, of `evaluate_run`, agree with results.json.

    Raises:
      InputError: results.json cannot be read.
    """
    path = Path(run.experiment.config.workdir) / "results.json"
    try:
        stored = json.loads(path.read_text())
        if stored["epochs"] != run.progress.epoch:
            return f"{path} is of {stored['epochs']} epochs, so it is not compared"
        pairs = [pair for split in results for pair in _pairs(results[split], stored[split])]
    except FileNotFoundError:
        return f"{path} does not exist yet: the training has not ended"
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); delete the file, and run launch.train again to make it"
        ) from error
    differences = [abs((a or 0) - (b or 0)) for a, b in pairs if a != b]
    if not differences:
        return f"equal to {path} in all {len(pairs)} numbers"
    return f"differs from {path} in {len(differences)} of {len(pairs)} numbers, by at most {max(differences):.2g}; " + (
        "another device or version of jax rounds differently"
        if max(differences) < _ROUNDING
        else "that is more than rounding: the code of its method or backbone may have changed since"
    )


def _pairs(new: Any, old: Any) -> Iterator[tuple[float | None, float | None]]:
    if isinstance(new, Mapping):
        for name in new:
            if name in old:  # a group may be newer than the run
                yield from _pairs(new[name], old[name])
    else:
        yield from zip(new, old, strict=True)
