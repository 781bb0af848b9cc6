"""Many runs, one after the other or together: finished runs are skipped, interrupted runs continue."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from llmesr_jax.core.errors import InputError, TrainingError
from llmesr_jax.core.interrupts import Stop
from llmesr_jax.models import kept
from llmesr_jax.ranking import evaluate, metrics
from llmesr_jax.training import active_run, experiment, logs, loop, mesh, steps, traced
from llmesr_jax.training import config as config_lib
from llmesr_jax.training.experiment import Experiment

Outcome = dict[str, Any] | InputError


def run(cells: Mapping[str, ConfigDict], *, stop: Stop | None = None) -> dict[str, Outcome]:
    """Trains all cells of a sweep, each in its own folder.

    Cells that share a program (`traced.program`) share data, tables and compiled code, and are lanes of one `vmap` if
    the device, or `train.lanes`, takes several. Programs are trained in the order of their first cells; a cell that
    starts from another one comes after it.

    Args:
      cells: {name: configuration}, each with its own workdir.
      stop: as in `loop.train`.
    Returns: for each cell the content of its results.json, or the InputError that stopped it, in the order of `cells`.
    Raises:
      KeyboardInterrupt: `stop` was requested; everything is saved.
    """
    for loggers in {config.loggers for config in cells.values()}:
        logs.loggers(loggers)
    found: dict[str, Outcome] = {}
    for names in programs(cells):
        failed = {name: error for name in names if (error := _start_failed(cells[name], cells, found))}
        left = [name for name in names if name not in failed]
        for chunk, outcomes in [(list(failed), list(failed.values())), *_train(left, cells, stop)]:
            found |= dict(zip(chunk, outcomes, strict=True))
            for name in chunk:
                if isinstance(found[name], InputError):
                    print(f"error: {name}: {found[name]}", file=sys.stderr, flush=True)
                elif note := active_run.left_out(found[name]):
                    print(f"error: {name}: {note}", file=sys.stderr, flush=True)
        jax.clear_caches()  # no other program needs this one's code
        kept.forget()
    return {name: found[name] for name in cells}


def programs(cells: Mapping[str, ConfigDict]) -> list[list[str]]:
    """The names of the cells, grouped by program; no cell comes before the one from which it starts."""
    found: dict[tuple[int, str], list[str]] = {}
    for name, config in cells.items():
        found.setdefault((_stage(config, cells), traced.program(config)), []).append(name)
    return [found[key] for key in sorted(found, key=lambda key: key[0])]


def _stage(config: ConfigDict, cells: Mapping[str, ConfigDict]) -> int:
    """The length of the chain of cells from which this cell starts.

    Raises:
      InputError: the chain is a circle.
    """
    stage, source = 0, _source(config, cells)
    while source is not None:
        if stage == len(cells):
            raise InputError(
                f"--start={config.start}: is the folder of a run of this sweep, which would start from itself; expected "
                "a run outside of this sweep, or --grid=start=@<method> with that method among those of --grid=method="
            )
        stage, source = stage + 1, _source(cells[source], cells)
    return stage


def _source(config: ConfigDict, cells: Mapping[str, ConfigDict]) -> str | None:
    """The name of the cell from which a configuration starts; None if it starts from none of them."""
    return next((name for name, other in cells.items() if config.start and other.workdir == config.start), None)


def _start_failed(
    config: ConfigDict, cells: Mapping[str, ConfigDict], outcomes: Mapping[str, Outcome]
) -> InputError | None:
    source = _source(config, cells)
    if source is None or not isinstance(outcomes[source], InputError):
        return None
    return InputError(f"starts from {source}, which failed")


def _train(
    names: Sequence[str], cells: Mapping[str, ConfigDict], stop: Stop | None
) -> Iterator[tuple[list[str], list[Outcome]]]:
    """(names, outcomes) of cells of one program, as many cells at a time as their lanes fit together."""
    if not names:
        return
    try:
        first = experiment.prepare(cells[names[0]])
    except InputError as error:
        yield list(names), [error] * len(names)
        return
    experiments = {name: experiment.vary(first, cells[name]) for name in names}
    for chunk in _chunks(experiments):
        print(f"\n{'; '.join(chunk)}: {first.describe()}", flush=True)
        try:
            yield chunk, loop.train_together([experiments[name] for name in chunk], stop=stop)
        except InputError as error:
            yield chunk, [error] * len(chunk)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):  # JAX documents no attribute for the kind of error
                raise
            lanes = sum(len(experiments[name].seeds) for name in chunk)
            less = f"run the same command with --config.train.lanes={max(lanes // 2, 1)} to continue"
            yield chunk, [TrainingError(f"the device has no memory for {lanes} lanes together; {less}")] * len(chunk)


def _chunks(experiments: Mapping[str, Experiment]) -> Iterator[list[str]]:
    """The names, in order, in groups whose lanes run together; finished runs need no lanes."""
    chunk, filled = [], 0
    for name, one in experiments.items():
        lanes = 0 if _is_finished(one.config) else len(one.seeds)
        devices = mesh.shape_of(one.config, jax.device_count()).lane
        if chunk and filled + lanes > steps.most_lanes(one.config.train.lanes) * devices:
            yield chunk
            chunk, filled = [], 0
        chunk.append(name)
        filled += lanes
    yield chunk


def states(cells: Mapping[str, ConfigDict]) -> str:
    """A table of the cells and their progress, from their folders alone; reads no data."""
    rows = [("cell", "state", "program")]
    numbers = {name: i for i, names in enumerate(programs(cells), 1) for name in names}
    rows += [(name, _state(config), str(numbers[name])) for name, config in cells.items()]
    return evaluate.align(rows)


def _state(config: ConfigDict) -> str:
    folder = Path(config.workdir)
    if not (folder / experiment.CONFIG_FILE).exists():
        return "to do"
    try:
        changes = config_lib.difference(experiment.read_config(folder)[0], config)
        if changes:
            return f"in the way: another run ({'; '.join(changes[:2])})"
        if (results := active_run.finished(config)) is not None:
            failed = ", ".join(results.get("failed", {}))
            return f"finished, without seed {failed}, which failed" if failed else "finished"
    except InputError as error:
        return f"in the way: {error}"
    return f"started, {_epochs(folder / 'metrics.jsonl')} epochs done"


def _epochs(path: Path) -> int:
    try:
        return max(json.loads(line)["epoch"] for line in path.read_text().splitlines())
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _is_finished(config: ConfigDict) -> bool:
    try:
        return active_run.finished(config) is not None
    except InputError:
        return False


def table(cells: Mapping[str, ConfigDict], outcomes: Mapping[str, Outcome]) -> str:
    """The test metrics of the cells that have results, for each data set under both protocols, as text."""
    tables = []
    for dataset in dict.fromkeys(config.dataset for config in cells.values()):
        results = {
            name: outcome["test"]
            for name, outcome in outcomes.items()
            if cells[name].dataset == dataset and not isinstance(outcome, InputError)
        }
        if results:
            tables += [f"{dataset}:"] * (len(set(config.dataset for config in cells.values())) > 1)
            tables += [evaluate.results_table(results, protocol) for protocol in metrics.PROTOCOLS]
            notes = [f"{name}: {note}" for name in results if (note := active_run.left_out(outcomes[name]))]
            tables += ["\n".join(notes)] if notes else []
    return "\n\n".join(tables)


def check(outcomes: Mapping[str, Outcome]) -> None:
    """Raises InputError if cells failed, or seeds in them; the message names these cells."""
    failed = [name for name, outcome in outcomes.items() if isinstance(outcome, InputError)]
    partly = [name for name, outcome in outcomes.items() if name not in failed and active_run.left_out(outcome)]
    told = [f"{len(failed)} of {len(outcomes)} cells failed: {'; '.join(failed)}"] * bool(failed)
    told += [f"in {len(partly)} of {len(outcomes)} cells seeds failed: {'; '.join(partly)}"] * bool(partly)
    if told:
        raise InputError(f"{'; '.join(told)}; see their messages above")
