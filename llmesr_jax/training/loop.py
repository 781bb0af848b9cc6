"""Training: one loop, read from top to bottom."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from llmesr_jax.core import files
from llmesr_jax.core.errors import InputError
from llmesr_jax.core.interrupts import Stop
from llmesr_jax.training import active_run, logs, state, steps
from llmesr_jax.training import config as config_lib
from llmesr_jax.training.active_run import ActiveRun, Program, Progress
from llmesr_jax.training.experiment import Experiment, check_workdir
from llmesr_jax.training.progress import StepBar, parts
from llmesr_jax.training.schema import TrainConfig
from llmesr_jax.training.validation import Validation, test

__all__ = ["Progress", "Validation", "train", "train_together"]


def train(experiment: Experiment, *, stop: Stop | None = None) -> dict[str, Any]:
    """Trains all seeds of an experiment together and tests each at its best epoch.

    Everything goes to the experiment's workdir: config.json, starts.jsonl, checkpoints/, metrics.jsonl, results.json,
    ranks.npz. A folder that holds an unfinished run of the same configuration is continued, to the same numbers.

    A seed whose loss is not finite is left out from there on, and named by a line on stderr and in the results under
    "failed"; "seeds" are those that the numbers are of (`active_run.left_out`).

    Args:
      experiment: what to train.
      stop: ends the training at the end of the window of steps in which it is requested.
    Returns: what results.json holds.
    Raises:
      InputError: the workdir belongs to another run; no seed has a finite loss (terms and steps are named).
      KeyboardInterrupt: `stop` was requested, and the state is saved.
    """
    (outcome,) = train_together([experiment], stop=stop)
    if isinstance(outcome, InputError):
        raise outcome
    return outcome


def train_together(experiments: Sequence[Experiment], *, stop: Stop | None = None) -> list[dict[str, Any] | InputError]:
    """`train` for runs that share a program: all their seeds are lanes of the same steps.

    Each run has its own folder, validation and end, as alone. Where runs stand at different places, as after a kill,
    those that are behind go first.

    Args:
      experiments: equal but for workdir, seeds and traced numbers (`traced.program`), with the very same tables,
        recommender and epochs.
      stop: as of `train`.
    Returns: for each, what results.json holds, or the InputError that stopped it; the others go on without it.
    Raises:
      KeyboardInterrupt: `stop` was requested, and the states are saved.
    """
    settings: TrainConfig = config_lib.section(experiments[0].config, "train")
    outcomes = [_before(experiment) for experiment in experiments]
    if all(outcome is not None for outcome in outcomes):
        return outcomes
    shared = active_run.program(experiments[0])
    stop = stop or Stop()
    with stop.gracefully("stopping after the steps under way"), contextlib.ExitStack() as stack:
        runs: dict[int, ActiveRun] = {}
        for place, experiment in enumerate(experiments):
            if outcomes[place] is None:
                try:
                    runs[place] = stack.enter_context(ActiveRun(experiment, shared))
                except InputError as error:
                    outcomes[place] = error
        if runs:
            print(f"{', '.join(str(run.folder) for run in runs.values())}: compiling, then training", flush=True)
        shared = shared.started(experiments[0].config.precision)
        splits = functools.cache(lambda split: Validation(experiments[0], split, shared.tables))
        compiled = False
        while True:
            for place in [place for place, run in runs.items() if not run.learns]:
                outcomes[place] = _end(runs.pop(place), splits)
            if stop.requested:
                _stop(runs.values())
            if not runs:
                return outcomes
            position = min(run.position for run in runs.values())
            together = [run for run in runs.values() if run.position == position]
            started, total_steps = time.perf_counter(), experiments[0].epochs.steps
            compile_seconds = _steps(together, shared, settings, total_steps, stop, not compiled)
            if not compiled:
                compiled, started = True, started + compile_seconds
                print(f"compiled in {compile_seconds:.1f} s", flush=True)
            together = [run for run in together if run.error is None]
            for run in together:
                run.drop_failed()
            if stop.requested and any(run.progress.steps < total_steps for run in together):
                for run in together:
                    run.save()
                _stop(runs.values())
            for run in together:
                if not run.progress.active:  # the last that learned has failed
                    run.save()
            together = [run for run in together if run.progress.active]
            values = [_validate(run, splits("valid"), settings) for run in together]
            seconds = time.perf_counter() - started
            for run, of_seeds in zip(together, values):
                run.end_epoch(total_steps, of_seeds, seconds, f"{run.folder.name}: " * (len(runs) > 1))


def _before(experiment: Experiment) -> dict[str, Any] | InputError | None:
    """The results of a run that is finished, or what is wrong with its folder; None for one to train."""
    try:
        logs.loggers(experiment.config.loggers)
        check_workdir(experiment)
        found = active_run.finished(experiment.config)
    except InputError as error:
        return error
    if found is not None:
        folder = experiment.config.workdir
        print(
            f"{folder}: finished before, nothing trained; to train again, delete that folder or name another --workdir",
            flush=True,
        )
    return found


def _steps(
    runs: Sequence[ActiveRun],
    shared: Program,
    settings: TrainConfig,
    total: int,
    stop: Stop,
    compiling: bool,
) -> float:
    """Takes the steps that are left of the runs' epoch, all their lanes together, or those up to an interrupt.

    Args:
      compiling: the first call compiles, and the bar says so.
    Returns: seconds that the first call took, which is the compile if there is one.
    """
    epoch, first = runs[0].progress.epoch + 1, None
    order = np.concatenate([run.order(epoch) for run in runs])
    lanes = [len(run.progress.active) for run in runs]
    numbers = {
        key: np.repeat(np.asarray([run.numbers[key] for run in runs], np.float32), lanes) for key in runs[0].numbers
    }
    groups = steps.lane_groups(len(order), settings.lanes)
    states = state.split(state.join([run.states for run in runs]), groups)
    sums = state.split(state.join([run.sums for run in runs]), groups)
    ends = np.cumsum(lanes)
    slices = [slice(end - count, end) for end, count in zip(ends.tolist(), lanes)]
    done = runs[0].progress.steps
    with StepBar(epoch, settings.epochs, total, done, settings.progress) as bar:
        while done < total:
            window = order[:, done : done + shared.width]
            for i, group in enumerate(groups):
                part = {key: value[group] for key, value in numbers.items()}
                args, options = shared.window(states[i], sums[i], window[group], epoch, part)
                with bar.compiling() if compiling and first is None else contextlib.nullcontext():
                    called = time.perf_counter()
                    states[i], sums[i] = steps.run_window(*args, **options)
                if first is None:  # the call returns once it is compiled, before it has run
                    first = time.perf_counter() - called
            count = window.shape[1]
            values = jax.device_get(state.join(sums))
            for run, part in zip(runs, slices):
                run.check_finite({name: value[part] for name, value in values.items()}, done + 1, done + count)
            done += count
            bar.update(count, float(np.mean(values["total"])) / done)
            if stop.requested or all(run.is_dead for run in runs):
                break
    all_states, all_sums = state.join(states), state.join(sums)
    for run, states, sums in zip(runs, state.split(all_states, slices), state.split(all_sums, slices)):
        run.states, run.sums, run.progress.steps = states, sums, done
    return first or 0.0


def _validate(run: ActiveRun, validation: Validation, settings: TrainConfig) -> list[dict[str, Any]] | None:
    """The summary of each seed that still learns; None in an epoch that goes without."""
    if not settings.validate_unmonitored and run.progress.epoch < settings.monitor_after:
        return None
    return [validation(state.take(run.monitored, j), run.seeds[i]) for j, i in enumerate(run.progress.active)]


def _end(run: ActiveRun, splits) -> dict[str, Any] | InputError:
    """Tests a run that has nothing left to do and writes its results; or the error that stopped it."""
    if run.error is not None:
        run.close()
        return run.error
    run.checkpoints.wait()
    progress, folder = run.progress, run.folder
    sound = progress.sound(run.seeds)
    best_epoch, seeds = [progress.best_epoch[i] for i in sound], tuple(run.seeds[i] for i in sound)
    best = state.take(run.best, sound) if progress.failed else run.best
    settings: TrainConfig = config_lib.section(run.experiment.config, "train")
    monitor_after = settings.monitor_after
    with parts("test", 2 * len(seeds), settings.progress) as bar:
        results = test(run.experiment._replace(seeds=seeds), best, splits("test"), splits("valid"), bar.update)
    if progress.epoch <= monitor_after:
        print(
            f"nothing was monitored until epoch {progress.epoch} (train.monitor_after={monitor_after}), so the newest "
            "parameters are tested; to continue, run the same command with a larger --epochs",
            flush=True,
        )
    elif progress.active and max(best_epoch) == progress.epoch:
        print(
            f"still improving at epoch {progress.epoch}: to continue, run the same command with a larger --epochs",
            flush=True,
        )
    results |= {"best_epoch": best_epoch, "epochs": progress.epoch, "early_stopped": not progress.active}
    if progress.failed:
        results["failed"] = progress.failed
    run.log.test(progress.epoch, seeds, results["test"])
    files.write_text(folder / "results.json", json.dumps(results, indent=1) + "\n")
    run.close()
    run.states = run.best = run.sums = None  # the device's memory, for the others
    return results


def _stop(runs) -> None:
    """Waits for the checkpoints and ends the command."""
    for run in runs:
        print(run.saved(), flush=True)
    raise KeyboardInterrupt
