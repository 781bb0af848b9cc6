"""Training: one loop, to be read from top to bottom.

`train_together` opens the runs and loops over their epochs. `_epoch` is one epoch: what a method does before it, the
steps, the validation, and `ActiveRun.end_epoch`, which keeps the best parameters and writes a checkpoint. A `Program`
has what is on the device and compiled; an `ActiveRun` has what belongs to one run and its folder.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.interrupts import Stop
from llmesr_jax.core.spans import span
from llmesr_jax.data import groups as tail_and_head
from llmesr_jax.training import (
    active_run,
    ahead,
    logs,
    mesh,
    processes,
    state,
    steps,
    watch,
)
from llmesr_jax.training import config as config_lib
from llmesr_jax.training.active_run import ActiveRun
from llmesr_jax.training.experiment import Experiment, check_workdir
from llmesr_jax.training.program import Program
from llmesr_jax.training.progress import StepBar
from llmesr_jax.training.schema import TrainConfig
from llmesr_jax.training.validation import Validation

Outcome = dict[str, Any] | InputError


def train(experiment: Experiment, *, stop: Stop | None = None, following: Experiment | None = None) -> dict[str, Any]:
    """Trains all seeds of an experiment together and tests each at its best epoch.

    Everything goes to the experiment's workdir: config.json, starts.jsonl, checkpoints/, metrics.jsonl, results.json,
    ranks.npz. A folder that holds an unfinished run of the same configuration is continued, to the same numbers.

    A seed whose loss is not finite is not trained further. A line on stderr and "failed" in the results name it;
    "seeds" in the results are the seeds whose numbers they hold.

    Args:
      experiment: of `prepare`.
      stop: a `llmesr_jax.core.interrupts.Stop`. Its `request()`, called in a signal handler or another thread, ends the
        training after the current window of steps, and the state is saved. None: no one can ask for that.
      following: the run that the next call will train; it is prepared while this one trains.
    Returns: the content of results.json.
    Raises:
      InputError: the workdir belongs to another run, or all seeds failed (the message names terms and steps).
      KeyboardInterrupt: `stop` was requested; the state is saved.
    """
    (outcome,) = train_together([experiment], stop=stop, following=following)
    if isinstance(outcome, InputError):
        raise outcome
    return outcome


def train_together(
    experiments: Sequence[Experiment], *, stop: Stop | None = None, following: Experiment | None = None
) -> list[Outcome]:
    """`train` for runs that share a program: all their seeds are lanes of the same steps.

    Each run has its own folder, validation and early stopping, as if alone. If runs have trained different numbers of
    steps, as after a kill, those that are behind are trained first.

    Args:
      experiments: equal except for workdir, seeds, start and traced numbers (`traced.program`), and with the same
        objects as tables, recommender and epochs.
      stop, following: as in `train`.
    Returns: for each, the content of results.json, or the InputError that stopped it; the others continue without it.
    Raises:
      KeyboardInterrupt: `stop` was requested; the states are saved.
    """
    outcomes = [_before(experiment) for experiment in experiments]
    if None not in outcomes:
        return outcomes
    if jax.process_count() > 1:
        for experiment in experiments:
            processes.check_same(config_lib.to_json(experiment.config), "settings")
            processes.check_same(str(experiment.identity()), "data")
    program, stop = ahead.program_of(experiments[0]), stop or Stop()
    with stop.gracefully("stopping after the current steps"), contextlib.ExitStack() as stack:
        runs = _open(experiments, outcomes, program, stack)
        program = program.started(experiments[0].config.precision)
        splits = functools.cache(
            lambda split: Validation(experiments[0], split, program.tables, program.data, placement=program.placement)
        )
        for run in [run for run in runs.values() if run.learns][:1]:
            splits("valid").compile_ahead(run.states.params)
        if following is not None:
            ahead.begin(following)
        compiled = False
        while True:
            for place in [place for place, run in runs.items() if not run.learns]:
                outcomes[place] = runs.pop(place).end(splits)
            if processes.any_of(stop.requested):
                _leave(runs.values())
            if not runs:
                return outcomes
            position = min(run.position for run in runs.values())
            behind = [run for run in runs.values() if run.position == position]
            _epoch(behind, program, splits, stop, not compiled, len(runs) > 1)
            compiled = True


def _before(experiment: Experiment) -> Outcome | None:
    """The results of a finished run, or the error in its folder or loggers; None for a run that is to be trained."""
    try:
        logs.loggers(experiment.config.loggers)
        check_workdir(experiment)
        found = active_run.finished(experiment.config)
    except InputError as error:
        return error
    if found is not None:
        folder, epochs = experiment.config.workdir, experiment.config.train.epochs
        more = f" after {found['epochs']} epochs, not the {epochs} of --epochs" if found["epochs"] > epochs else ""
        print(
            f"{folder}: already finished{more}, nothing trained; to train again, delete this folder or choose another "
            "--workdir",
            flush=True,
        )
    return found


def _open(
    experiments: Sequence[Experiment], outcomes: list[Outcome | None], program: Program, stack: contextlib.ExitStack
) -> dict[int, ActiveRun]:
    """{place: run} of those that have no outcome yet; an error becomes the outcome of its run."""
    runs: dict[int, ActiveRun] = {}
    for place, experiment in enumerate(experiments):
        if outcomes[place] is None:
            try:
                runs[place] = stack.enter_context(ActiveRun(experiment, program))
            except InputError as error:
                outcomes[place] = error
    if runs:
        print(f"{', '.join(str(run.folder) for run in runs.values())}: compiling, then training", flush=True)
    return runs


def _epoch(
    runs: Sequence[ActiveRun],
    program: Program,
    splits: Callable[[str], Validation],
    stop: Stop,
    compiling: bool,
    named: bool,
) -> None:
    """Trains the rest of the runs' current epoch and validates; after an interrupt it saves the runs instead.

    Args:
      runs: all at the same epoch and step.
      program: what they share.
      splits: "valid" or "test" -> the metrics of this split.
      stop: ends the steps after the current window.
      compiling: these are the first steps of the process.
      named: print each run's name before its line.
    """
    started = time.perf_counter()
    settings: TrainConfig = config_lib.section(runs[0].experiment.config, "train")
    total = runs[0].experiment.epochs.steps
    epoch = runs[0].progress.epoch + 1
    if runs[0].progress.steps == 0:  # a run that continues inside an epoch has done this already
        for run in runs:
            run.states = program.before_epoch(run.states, epoch)
    with span("steps"):
        compile_seconds = _steps(runs, program, settings, total, stop, compiling)
    if compiling:
        started += compile_seconds
        print(f"compiled in {compile_seconds:.1f} s", flush=True)
    seconds = time.perf_counter() - started
    stopping = processes.any_of(stop.requested)
    for run in runs:
        run.drop_failed(stopping)
        if run.progress.active and run.error is None and run.progress.steps == total:
            run.end_epoch(splits("valid"), seconds, f"{run.folder.name}: " * named)


def _steps(
    runs: Sequence[ActiveRun], program: Program, settings: TrainConfig, total: int, stop: Stop, compiling: bool
) -> float:
    """Takes the remaining steps of the runs' epoch, for the lanes of all runs, or those up to an interrupt.

    Args:
      total: steps of an epoch.
      compiling: the first call compiles, and the bar says so.
    Returns: seconds that the first call took: the time to compile, if it compiled.
    """
    epoch, first = runs[0].progress.epoch + 1, None
    order = np.concatenate([run.order(epoch) for run in runs])
    lanes = [len(run.progress.active) for run in runs]
    numbers = {
        key: np.repeat(np.asarray([run.numbers[key] for run in runs], np.float32), lanes) for key in runs[0].numbers
    }
    devices = 1 if program.placement is None else program.placement.lane_shards
    groups = steps.lane_groups(len(order), settings.lanes, devices)
    states = state.split(state.join([run.states for run in runs]), groups)
    sums = state.split(state.join([run.sums for run in runs]), groups)
    filled = [mesh.filled(group.stop - group.start, devices) for group in groups]
    for i, (group, places) in enumerate(zip(groups, filled)):
        if len(places) > group.stop - group.start:
            states[i], sums[i] = state.take((states[i], sums[i]), places)
    ends = np.cumsum(lanes)
    slices = [slice(end - count, end) for end, count in zip(ends.tolist(), lanes)]
    done, before = runs[0].progress.steps, runs[0].progress.epoch * total
    every = settings.watch_gradients
    tail_V = ~tail_and_head.head_items(runs[0].experiment.corpus) if every else None
    with StepBar(epoch, settings.epochs, total, done, settings.progress and processes.is_first()) as bar:
        while done < total:
            window = order[:, done : done + watch.width(every, before + done, program.width)]
            watched: list[dict[str, np.ndarray]] = []
            for i, group in enumerate(groups):
                part = {key: value[group][filled[i]] for key, value in numbers.items()}
                args, options = program.window(states[i], sums[i], window[group][filled[i]], epoch, part)
                looked = None
                with bar.compiling() if compiling and first is None else contextlib.nullcontext():
                    called = time.perf_counter()
                    if watch.due(every, before + done):
                        looked = watch.before(program, states[i], window[group][filled[i]][:, 0], epoch, part, tail_V)
                    states[i], sums[i] = steps.run_window(*args, **options)
                    next_width = watch.width(every, before + done + window.shape[1], program.width)
                    program.send_ahead(_order_ahead(order, groups, i, done, window.shape[1], next_width))
                if first is None:  # the call returns once it is compiled, before it has run
                    first = time.perf_counter() - called
                if looked:
                    watched.append(watch.after(looked, program, states[i]))
            count = window.shape[1]
            values = program.on_host(state.join(_without_fill(sums, groups)))
            for run, part in zip(runs, slices):
                run.check_finite({name: value[part] for name, value in values.items()}, done + 1, done + count)
                if watched:
                    run.watch({name: np.concatenate([one[name] for one in watched])[part] for name in watched[0]})
            done += count
            bar.update(count, float(np.mean(values["total"])) / done)
            if processes.any_of(stop.requested) or all(run.is_dead for run in runs):
                break
    all_states = state.join(_without_fill(states, groups))
    all_sums = state.join(_without_fill(sums, groups))
    for run, states, sums in zip(runs, state.split(all_states, slices), state.split(all_sums, slices)):
        run.states, run.sums, run.progress.steps = states, sums, done
    return first or 0.0


def _order_ahead(
    order: np.ndarray, groups: Sequence[slice], group: int, done: int, count: int, width: int
) -> np.ndarray:
    """int32 (lanes, steps, B): the samples of the window that follows: of the next group of lanes, or, after the last
    group, of the first group's next steps (maybe none).
    """
    if group + 1 < len(groups):
        return order[groups[group + 1], done : done + count]
    return order[groups[0], done + count : done + count + width]


def _without_fill(parts: list[Any], groups: Sequence[slice]) -> list[Any]:
    """Stacked trees of groups of lanes, without the lanes that were added to fill the devices (`mesh.filled`)."""
    counts = [group.stop - group.start for group in groups]
    lanes = [len(jax.tree.leaves(part)[0]) for part in parts]
    return [p if n == count else state.take(p, np.arange(count)) for p, n, count in zip(parts, lanes, counts)]


def _leave(runs: Collection[ActiveRun]) -> None:
    """Waits for the checkpoints and ends the command."""
    for run in runs:
        print(run.saved(), flush=True)
    raise KeyboardInterrupt
