"""One run of a group while it trains: its progress, its arrays and its folder. `loop` trains several runs together."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from llmesr_jax.core import files
from llmesr_jax.core.errors import InputError, TrainingError
from llmesr_jax.core.spans import span
from llmesr_jax.models import recommender
from llmesr_jax.training import config as config_lib
from llmesr_jax.training import (
    optimizer,
    processes,
    provenance,
    run_lock,
    state,
    traced,
    watch,
)
from llmesr_jax.training import start as start_lib
from llmesr_jax.training.checkpoint import Checkpoints, begun
from llmesr_jax.training.experiment import Experiment, open_workdir
from llmesr_jax.training.logs import Log
from llmesr_jax.training.program import Program
from llmesr_jax.training.progress import Progress, parts
from llmesr_jax.training.validation import Validation, test

_VALID_GROUPS, _VALID_METRICS = ("overall", "tail_item", "tail_user"), ("H@10", "N@10")


class ActiveRun(contextlib.AbstractContextManager):
    """A run in training; opens its folder, and continues an existing training.

    Attributes:
      experiment: the run.
      seeds: all seeds of the run.
      folder: its workdir.
      numbers: {key: value} of its traced settings.
      progress: its progress.
      states, sums: the training state and the sums of the loss's values, stacked over the seeds that still train.
      best: the best parameters, stacked over all seeds.
      error: what stopped the run; None while a seed is left.

    Raises:
      InputError: the folder is another run's, another command is training it, all its checkpoints are damaged, or the
        run to start from does not match.
    """

    def __init__(self, experiment: Experiment, program: Program):
        self.experiment, self.seeds, self._program = experiment, experiment.seeds, program
        self.folder = Path(experiment.config.workdir)
        self.numbers = traced.numbers(experiment.config)
        self.error: InputError | None = None
        self._settings = config_lib.section(experiment.config, "train")
        self._files = contextlib.ExitStack()
        # Finds mismatches before anything is written.
        shapes = program.shapes(self.seeds)
        start = None if begun(self.folder) else self._start(shapes["state"].params, program)
        with contextlib.ExitStack() as files:
            files.enter_context(run_lock.alone(self.folder))
            open_workdir(experiment)
            with span("checkpoints"):
                self.checkpoints = files.enter_context(Checkpoints(self.folder / "checkpoints"))
                place = None if program.placement is None else program.targets
                restored = self.checkpoints.restore(lambda p: _like(shapes, p["active"]), place)
            if restored is not None:
                tree, self.progress = program.restored(restored[0]), Progress(**restored[1])
                print(f"{self.folder}: continuing {self._place()}", flush=True)
            else:
                count = len(self.seeds)
                tree = program.fresh(self.seeds, start)
                self.progress = Progress(0, 0, list(range(count)), [-math.inf] * count, [0] * count)
            self.states, self.best, self.sums = tree["state"], tree["best"], tree["sums"]
            processes.wait(f"{self.folder} is read")  # before the first process writes to it
            if processes.is_first():
                self.log = files.enter_context(Log(self.folder, self.progress.epoch, experiment.config))
                provenance.write(experiment)
            else:
                self.log = None
            self._files = files.pop_all()

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Waits until pending writes are done, and closes the files."""
        self._files.close()

    @property
    def position(self) -> tuple[int, int]:
        """Finished epochs, and steps of the current one."""
        return self.progress.epoch, self.progress.steps

    @property
    def learns(self) -> bool:
        """Whether an epoch is left to train, and a seed that still trains."""
        return self.error is None and bool(self.progress.active) and self.progress.epoch < self._settings.epochs

    def order(self, epoch: int) -> np.ndarray:
        """int32 (S, steps, B): the samples of each step of an epoch, for the seeds that still train."""
        return np.stack([self.experiment.epochs.order(self.seeds[i], epoch) for i in self.progress.active])

    def save(self) -> None:
        """Starts writing a checkpoint."""
        step = self.progress.epoch * self.experiment.epochs.steps + self.progress.steps
        tree, like = self._program.to_save({"state": self.states, "best": self.best, "sums": self.sums})
        with span("checkpoints"):
            self.checkpoints.save(step, tree, dataclasses.asdict(self.progress), like)

    def saved(self) -> str:
        """Waits for the checkpoint, and returns one line about it."""
        self.checkpoints.wait()
        return f"{self.folder}: saved {self._place()}; run the same command again to continue"

    @property
    def is_dead(self) -> bool:
        """Whether every seed that was still training has failed."""
        return not any(i in self.progress.active for i in self.progress.sound(self.seeds))

    def check_finite(self, sums: dict[str, np.ndarray], first: int, last: int) -> None:
        """Records the seeds for which a term of the loss is not finite after these steps, and prints a line for each.

        These seeds stay in the steps until `drop_failed`. If no seed is left, `error` is set.

        Args:
          sums: {term: (S,)}, over the seeds that still train.
          first, last: steps of the epoch, from 1.
        """
        failed, new = self.progress.failed, {}
        where = f"in steps {first} to {last} of epoch {self.progress.epoch + 1}"
        for name, values in sums.items():
            for i, value in zip(self.progress.active, values):
                if name != "total" and str(self.seeds[i]) not in failed and not np.isfinite(value):
                    new.setdefault(str(self.seeds[i]), f"the loss's term {name!r} is not finite {where}")
        failed |= new
        left = self.progress.sound(self.seeds)
        for seed, what in new.items() if len(self.seeds) > 1 else ():
            others = ", the other seeds continue" if left else ""
            print(f"{self.folder}: seed {seed}: {what}; it is left out{others}", file=sys.stderr, flush=True)
        if not left:
            each = "; ".join(f"seed {seed}: {what}" for seed, what in failed.items())
            self.error = TrainingError(
                f"{'all seeds failed: ' * (len(self.seeds) > 1)}{each}; the last checkpoint is kept; lower "
                "--config.train.learning_rate in a new --workdir"
            )

    def watch(self, values: Mapping[str, np.ndarray]) -> None:
        """Adds the numbers of a step that is monitored by `training.watch`: {name: (S,)}, over the training seeds."""
        watched = self.progress.watched
        for j, i in enumerate(self.progress.active):
            seed = str(self.seeds[i])
            one = {name: value[j] for name, value in values.items()}
            watched[seed] = watch.added(watched.get(seed, {}), one)

    def drop_failed(self, stopping: bool) -> None:
        """Removes failed seeds from those that still train; saves the run if it stops here, or if no seed is left.

        Args:
          stopping: no more steps will be taken, even if the epoch has some left.
        """
        if self.error is not None:
            return
        sound = self.progress.sound(self.seeds)
        kept = [j for j, i in enumerate(self.progress.active) if i in sound]
        if len(kept) < len(self.progress.active):
            self.states, self.sums = state.take((self.states, self.sums), kept)
            self.progress.active = [self.progress.active[j] for j in kept]
        if not kept or (stopping and self.progress.steps < self.experiment.epochs.steps):
            self.save()

    def end_epoch(self, validation: Validation, seconds: float, name: str) -> None:
        """Validates, keeps better parameters, stops seeds that have run out of patience, logs, and saves a checkpoint.

        Args:
          validation: of the validation split.
          seconds: duration of the epoch's steps.
          name: of the run, at the start of printed lines.
        """
        total_steps, started = self.experiment.epochs.steps, time.perf_counter()
        monitored_S = optimizer.monitored(self.states.params, self.states.opt_state)
        with span("validation"):
            values = self._validate(validation, monitored_S)
        seconds += time.perf_counter() - started
        settings, progress, epoch = self._settings, self.progress, self.progress.epoch + 1
        losses = {name: value / total_steps for name, value in self._program.on_host(self.sums).items()}
        values = values and [value[settings.valid_protocol] for value in values]
        monitored = values and [value["overall"][settings.monitor] for value in values]
        monitoring = epoch > settings.monitor_after
        better = [j for j, i in enumerate(progress.active) if not monitoring or monitored[j] > progress.best[i]]
        for j in better:
            progress.best[progress.active[j]] = monitored[j] if monitoring else -math.inf
            progress.best_epoch[progress.active[j]] = epoch
        if better:
            places = [progress.active[j] for j in better]
            self.best = state.put(self.best, places, state.take(monitored_S, better))
        for j, i in enumerate(progress.active):
            line = {f"loss/{term}": float(value[j]) for term, value in losses.items()}
            if values:
                line |= {f"valid/{g}/{m}": values[j][g][m] for g in _VALID_GROUPS for m in _VALID_METRICS}
                line[f"valid/overall/{settings.monitor}"] = monitored[j]
            line |= watch.means(progress.watched.get(str(self.seeds[i]), {}))
            if self.log is not None:
                self.log.write(epoch, self.seeds[i], line, seconds)
        self._say(name, epoch, losses, monitored, seconds)

        going_on = [j for j, i in enumerate(progress.active) if epoch - progress.best_epoch[i] < settings.patience]
        if len(going_on) < len(progress.active):
            for i in sorted(set(progress.active) - {progress.active[j] for j in going_on}):
                best = f"{progress.best[i]:.4f}@{progress.best_epoch[i]}"
                stopped = f"stopped, not better for train.patience={settings.patience} epochs (best {best})"
                print(f"{name}seed {self.seeds[i]}: {stopped}", flush=True)
            self.states = state.take(self.states, going_on)
            progress.active = [progress.active[j] for j in going_on]
        progress.epoch, progress.steps, progress.watched = epoch, 0, {}
        self.sums = self._program.zero_sums(len(progress.active))
        self.save()

    def end(self, splits: Callable[[str], Validation]) -> dict[str, Any] | InputError:
        """Tests a run that has nothing left to train, writes results.json and returns it; or returns `error`.

        Args:
          splits: "valid" or "test" -> the metrics of this split.
        """
        if self.error is not None:
            self.close()
            return self.error
        with span("checkpoints"):
            self.checkpoints.wait()
        progress, settings = self.progress, self._settings
        sound = progress.sound(self.seeds)
        best_epoch, seeds = [progress.best_epoch[i] for i in sound], tuple(self.seeds[i] for i in sound)
        best = state.take(self.best, sound) if progress.failed else self.best
        with span("test"), parts("test", 2 * len(seeds), settings.progress) as bar:
            results = test(self.experiment._replace(seeds=seeds), best, splits("test"), splits("valid"), bar.update)
        if progress.epoch <= settings.monitor_after:
            print(
                f"no epoch up to {progress.epoch} was monitored (train.monitor_after={settings.monitor_after}), "
                "so the newest parameters are tested; run the same command with a larger --epochs to continue",
                flush=True,
            )
        elif progress.active and max(best_epoch) == progress.epoch:
            print(
                f"still improving at epoch {progress.epoch}; run the same command with a larger --epochs to continue",
                flush=True,
            )
        results |= {"best_epoch": best_epoch, "epochs": progress.epoch, "early_stopped": not progress.active}
        if progress.failed:
            results["failed"] = progress.failed
        if self.log is not None:
            self.log.test(progress.epoch, seeds, results["test"])
            files.write_text(self.folder / "results.json", json.dumps(results, indent=1) + "\n")
        self.close()
        self.states = self.best = self.sums = None  # frees the device's memory for other runs
        return results

    def _validate(self, validation: Validation, monitored_S: Any) -> list[dict[str, Any]] | None:
        """The summary of each seed that still trains; None in an epoch without validation."""
        if not self._settings.validate_unmonitored and self.progress.epoch < self._settings.monitor_after:
            return None
        active = enumerate(self.progress.active)
        return [validation(state.take(monitored_S, j), self.seeds[i]) for j, i in active]

    def _start(self, shapes: Any, program: Program) -> start_lib.Start | None:
        """The run to start from, if there is one; prints what is taken from it."""
        found = start_lib.read(self.experiment)
        if found is not None:
            method = self.experiment.config.method
            both = recommender.needs(method, config_lib.section(self.experiment.config, method)).start
            told = found.describe(shapes, program.axes.by_path, both)
            epochs = ", ".join(f"seed {seed}: epoch {epoch}" for seed, epoch in zip(found.seeds, found.best_epochs))
            print(f"{self.folder}: starts from {found.folder} ({epochs})\n{told}", flush=True)
        return found

    def _place(self) -> str:
        steps = f", step {self.progress.steps}" if self.progress.steps else ""
        return f"after epoch {self.progress.epoch}{steps}"

    def _say(self, name: str, epoch: int, losses, monitored, seconds: float) -> None:
        start = f"{name}epoch {epoch:3d}  loss {np.mean(losses['total']):.4f}"  # its terms are in metrics.jsonl
        if monitored is None:
            print(f"{start}  not validated yet  {seconds:.1f} s", flush=True)
            return
        best = [
            "not monitored yet" if value == -math.inf else f"best {value:.4f}@{at}"
            for value, at in zip(self.progress.best, self.progress.best_epoch)
        ]
        values = ", ".join(
            f"{f'{self.seeds[i]}: ' if len(self.seeds) > 1 else ''}{value:.4f} ({best[i]})"
            for i, value in zip(self.progress.active, monitored)
        )
        metric = f"valid {self._settings.valid_protocol} {self._settings.monitor}"
        print(f"{start}  {metric} {values}  {seconds:.1f} s", flush=True)


def left_out(results: Mapping[str, Any]) -> str:
    """The message about failed seeds of a run, from its results.json; empty if none failed."""
    failed = results.get("failed", {})
    if not failed:
        return ""
    told = "; ".join(f"seed {seed} failed ({what})" for seed, what in failed.items())
    seeds = results["seeds"]
    return f"{told}, so the numbers are only those of seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def finished(config: ConfigDict) -> dict[str, Any] | None:
    """The results in the workdir, if the run there has nothing left to do.

    Raises:
      InputError: results.json cannot be read.
    """
    path = Path(config.workdir) / "results.json"
    if not path.exists():
        return None
    try:
        results = json.loads(path.read_text())
        done = results["early_stopped"] or results["epochs"] >= config.train.epochs
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); delete the file, and run the same command again"
        ) from error
    return results if done else None


def check_start_stays(config: ConfigDict, source: ConfigDict) -> None:
    """Checks that a run of the same command, from which a run that has begun started, is not trained further.

    Args:
      config: of the run that starts from the other.
      source: of the other run.
    Raises:
      InputError: it would be, and the run could not be continued after that.
    """
    results = Path(source.workdir, "results.json")
    if begun(config.workdir) and results.exists() and finished(source) is None:
        raise InputError(
            f"{config.workdir}: started from {source.workdir}, which this command would train up to epoch "
            f"{source.train.epochs}, so that this run could not be continued; choose another --workdir, or continue "
            f"this run alone, with --method={config.method} --start={source.workdir} --workdir={config.workdir}"
        )


def _like(shapes, active: list[int]):
    """Shapes of a checkpoint in which only the `active` seeds still train."""
    cut = lambda x: jax.ShapeDtypeStruct((len(active), *x.shape[1:]), x.dtype)  # noqa: E731
    return {**jax.tree.map(cut, shapes), "best": shapes["best"]}
