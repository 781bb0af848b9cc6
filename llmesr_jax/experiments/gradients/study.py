"""The study of a run: measured at its best parameters, or at epochs of a new training, and written to a folder.

`gradients.json` has all numbers except those of single users, `users.csv` a line for each user and epoch, and
`influence.csv`, if asked for, a line for each user. One file per epoch is kept in `epochs/`, so the same command
continues a study that was killed.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from llmesr_jax.core import files
from llmesr_jax.core.errors import InputError
from llmesr_jax.core.interrupts import Stop
from llmesr_jax.experiments.gradients import probe, summary, teachers
from llmesr_jax.training import config as config_lib
from llmesr_jax.training import loop, parts, runs, state
from llmesr_jax.training.checkpoint import Checkpoints
from llmesr_jax.training.experiment import Experiment

SETTINGS, RESULTS, USERS, INFLUENCE = "study.json", "gradients.json", "users.csv", "influence.csv"
_PER_EPOCH = "influence_per_epoch"  # not yet times the epochs that a state stands for: a later command may add epochs
_FOREVER = 10**6  # epochs of patience, so that no training of a study stops early


def study(
    workdir: str,
    out: str,
    options: probe.Options,
    epochs: Sequence[int] = (),
    data_dir: str = "",
    seed: int | None = None,
    *,
    stop: Stop | None = None,
) -> Path:
    """Measures a run, prints tables for each state, and writes the numbers.

    Args:
      workdir: the run.
      out: folder for the results; empty for `gradients` below the run.
      options: the measurements.
      epochs: measure after each of these epochs (0: the start) of a new training with the run's configuration. It takes
        the same steps, in `<out>/run`, which is deleted at the end. Empty: measure at the run's best parameters. If the
        run keeps a running average (`train.average`), both are the average, which validation and test use.
      data_dir: the folder of the data; empty for their folder at training.
      seed: one of the run's seeds; None for the first.
      stop: as in `loop.train`.
    Returns: the folder.
    Raises:
      InputError: `workdir` has no run, or not this seed; or `out` has other content, or a training that is already at a
        later epoch.
      KeyboardInterrupt: `stop` was requested during a training; its state is saved.
    """
    folder = Path(out or Path(workdir, "gradients"))
    run = runs.load(workdir, data_dir)
    seed = run.seeds[0] if seed is None else seed
    if seed not in run.seeds:
        what = run.progress.failed.get(str(seed))
        found = f"seed {seed} failed ({what})" if what else f"has no seed {seed}"
        raise InputError(f"{workdir}: {found}; expected one of: {', '.join(map(str, run.seeds))}")
    best = state.take(run.params_S, run.seeds.index(seed))
    best_epoch = run.progress.best_epoch[run.experiment.seeds.index(seed)]
    if not epochs and best_epoch < 1:
        raise InputError(
            f"{workdir}: seed {seed} has no best epoch yet; continue the training with the command that made the run"
        )
    wanted = sorted(set(epochs)) or [best_epoch]

    config = run.experiment.config
    about = {name: config[name] for name in ("method", "backbone", "dataset", "preset")}
    about |= {"seed": seed, "config": config_lib.digest(config), "data": run.experiment.corpus.digest}
    settings = {"run": about, "trained_again": bool(epochs), "options": dataclasses.asdict(options)}
    other = _other_end(options.between, workdir, run, seed, data_dir)
    if average := config.train.average:
        settings["run"] |= {"parameters": "running average"}
    _open(folder, settings)
    experiment = _of_one_seed(run.experiment, seed, folder / "run")
    print(f"{workdir}: {run.describe()}", flush=True)
    if average:
        print(f"train.average={average}: measured at the running average, which validation and test use", flush=True)
    if epochs and best_epoch not in wanted:
        told = f"the training here is not compared with the run's best parameters: they are of epoch {best_epoch}"
        print(f"{told}, which is not in --epochs", flush=True)
    for epoch in wanted:
        path = folder / "epochs" / f"{epoch}.json"
        made = _read(path) if path.exists() else {}
        taught = options.influence == "tracin" or (options.influence != "none" and epoch == wanted[-1])
        if not made or (taught and _PER_EPOCH not in made):
            params = _trained(experiment, epoch, stop) if epochs else best
            if epochs and epoch == best_epoch:
                print(_against(params, best, workdir), flush=True)
            params = jax.tree.map(jnp.asarray, params)
            if not made:
                found = probe.measure(experiment, params, epoch, options, other)
                header, rows = summary.user_rows(found, experiment.corpus)
                one = {"epoch": epoch, "names": found.terms, **summary.summarise(found, experiment.corpus)}
                made = {"summary": one, "header": header, "rows": rows}
            if taught:
                made[_PER_EPOCH] = teachers.measure(experiment, params, epoch, options, config.train.learning_rate)
            files.write_text(path, json.dumps(made) + "\n")
        one = _read(path)["summary"]
        print(f"\nepoch {epoch}\n\n{summary.table(one, one['names'])}", flush=True)
    _gather(folder, settings, wanted)
    shutil.rmtree(folder / "run", ignore_errors=True)  # else a search for runs below `workdir` finds it, too
    return folder


def read(folder: str | Path) -> dict[str, Any]:
    """A study's gradients.json: settings, and a summary for each of its `epochs`."""
    return _read(Path(folder) / RESULTS)


def read_users(folder: str | Path) -> list[dict[str, float]]:
    """The lines of a study's users.csv; NaN if a user has no gradient."""
    with (Path(folder) / USERS).open(newline="") as file:
        return [{name: float(x) if x else float("nan") for name, x in line.items()} for line in csv.DictReader(file)]


def _gather(folder: Path, settings: dict[str, Any], epochs: Sequence[int]) -> None:
    """The epochs' files as one JSON file, and the users of all of them as one CSV file."""
    found = [_read(folder / "epochs" / f"{epoch}.json") for epoch in epochs]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["epoch", *found[0]["header"]])
    for one in found:
        writer.writerows([one["summary"]["epoch"], *row] for row in one["rows"])
    files.write_text(folder / USERS, text.getvalue())
    if (kind := settings["options"]["influence"]) != "none":
        counted = found if kind == "tracin" else found[-1:]
        header = counted[-1][_PER_EPOCH][0]
        stands_for = [_stands_for(one["summary"]["epoch"], epochs) for one in counted]
        rows = teachers.added([one[_PER_EPOCH][1] for one in counted], stands_for)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([header, *rows])
        files.write_text(folder / INFLUENCE, text.getvalue())
        print(f"\n{teachers.table(header, rows)}", flush=True)
    results = {**settings, "jax": jax.__version__, "epochs": [one["summary"] for one in found]}
    files.write_text(folder / RESULTS, json.dumps(results, indent=1) + "\n")


def _other_end(between: str, workdir: str, run: runs.Run, seed: int, data_dir: str) -> Any:
    """The parameters at the other end of the line to `between` (see `Options.between`); None if that is ""."""
    if not between:
        return None
    same = Path(between).resolve() == Path(workdir).resolve()
    other = run if same else runs.load(between, data_dir)
    chosen = other.seeds[(other.seeds.index(seed) + 1) % len(other.seeds)] if same else other.seeds[0]
    if same and chosen == seed:
        raise InputError(f"--between={between}: the run has no seed but {seed}; expected a run with another seed")
    if other.experiment.corpus.digest != run.experiment.corpus.digest:
        raise InputError(
            f"--between={between}: was trained on other data than {workdir}; expected a run on the same data"
        )
    shapes = [
        {jax.tree_util.keystr(path): x.shape[1:] for path, x in jax.tree_util.tree_flatten_with_path(one.params_S)[0]}
        for one in (run, other)
    ]
    if differ := sorted(name for name in {**shapes[0], **shapes[1]} if shapes[0].get(name) != shapes[1].get(name)):
        raise InputError(
            f"--between={between}: has other parameters than {workdir} (first {differ[0]}); expected the same method, "
            "backbone and widths"
        )
    return jax.tree.map(jnp.asarray, state.take(other.params_S, other.seeds.index(chosen)))


def _stands_for(epoch: int, epochs: Sequence[int]) -> int:
    """The number of epochs that a state represents: those until the next measured epoch; 1 for the last."""
    later = [other for other in epochs if other > epoch]
    return min(later) - epoch if later else 1


def _open(folder: Path, settings: dict[str, Any]) -> None:
    """Makes the study's folder, or continues an existing one."""
    path = folder / SETTINGS
    if path.exists():
        there = _read(path)
        flat = lambda s: {k: v for part in s.values() for k, v in (part if isinstance(part, dict) else {}).items()}  # noqa: E731
        old, new = flat(there), flat(settings)
        changes = [f"{k}: {old.get(k)} -> {new[k]}" for k in new if old.get(k) != new[k]]
        if there != settings:
            what = "; ".join(changes) or "measured at other states"
            raise InputError(f"{folder}: has another study ({what}); choose another --out, or delete the folder")
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"{folder}: already exists and is not the folder of a study (no {SETTINGS}); choose another --out"
        )
    (folder / "epochs").mkdir(parents=True, exist_ok=True)
    files.write_text(path, json.dumps(settings, indent=1) + "\n")


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); delete the file, and run the same command again"
        ) from error


def _of_one_seed(experiment: Experiment, seed: int, workdir: Path) -> Experiment:
    """The run's experiment for one of its seeds, trained in a separate folder."""
    config = config_lib.from_json(config_lib.to_json(experiment.config))
    config.seeds, config.workdir, config.train.patience = str(seed), str(workdir), _FOREVER
    return experiment._replace(config=config, seeds=(seed,))


def _trained(experiment: Experiment, epoch: int, stop: Stop | None) -> Any:
    """The parameters that `launch.train` validates after `epoch` epochs: the running average, if there is one.

    Continues the training in the experiment's workdir.
    """
    if epoch == 0:
        return parts.loop_parts(experiment).state.params
    config = config_lib.from_json(config_lib.to_json(experiment.config))
    config.train.epochs = epoch
    loop.train(experiment._replace(config=config), stop=stop)
    folder = Path(config.workdir)
    with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        tree, progress = checkpoints.restore()
    if progress["epoch"] != epoch:
        raise InputError(
            f"{folder}: is already at epoch {progress['epoch']}, so epoch {epoch} cannot be measured; choose another "
            "--out, or delete this folder"
        )
    monitored = tree["state"]["opt_state"]["average"] if config.train.average else tree["state"]["params"]
    return state.take(monitored, 0)


def _against(params: Any, best: Any, workdir: str) -> str:
    """One line on whether the training here reached the run's best parameters."""
    far = max(float(np.abs(np.asarray(x) - np.asarray(y)).max()) for x, y in zip(*map(jax.tree.leaves, (params, best))))
    return (
        f"the parameters are those of {workdir}, bit for bit"
        if far == 0
        else f"the parameters differ from those of {workdir} by at most {far:.2g}: another device or version of jax"
    )
