"""One run of a group while it trains: its place, its arrays, its folder. `train` moves several of them together."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from llmesr_jax.core.errors import InputError, TrainingError
from llmesr_jax.models import recommender
from llmesr_jax.models.kernels import touched_rows
from llmesr_jax.semantic import tables as tables_lib
from llmesr_jax.training import batches, optimizer, provenance, state, steps, traced
from llmesr_jax.training import config as config_lib
from llmesr_jax.training.checkpoint import Checkpoints
from llmesr_jax.training.experiment import Experiment, open_workdir
from llmesr_jax.training.logs import Log

_VALID_GROUPS, _VALID_METRICS = ("overall", "tail_item", "tail_user"), ("H@10", "N@10")


@dataclasses.dataclass
class Progress:
    """Where a run stands; as JSON in every checkpoint. `active` lists the places of the seeds that still learn.

    A seed in `failed` is not among them any more: {seed: which term of the loss was not finite, and where}.
    """

    epoch: int  # finished epochs
    steps: int  # finished steps of the epoch under way
    active: list[int]
    best: list[float]  # per seed, the best validation value so far
    best_epoch: list[int]
    failed: dict[str, str] = dataclasses.field(default_factory=dict)

    def sound(self, seeds: Sequence[int]) -> list[int]:
        """The places of the seeds that did not fail."""
        return [i for i, seed in enumerate(seeds) if str(seed) not in self.failed]


class Program(NamedTuple):
    """What all runs of a group have in common: the model, what is on the device, how a window of steps is called."""

    model: recommender.Recommender
    adam: Any
    plan: batches.BatchPlan
    data: batches.Interactions
    tables: dict[str, jax.Array]
    example: Any
    touched_only: bool
    width: int  # steps of a window, `train.window`

    def fresh(self, seeds: tuple[int, ...]) -> dict[str, Any]:
        """The arrays of a run that begins: as a checkpoint holds them."""
        states = state.create(self.model, self.adam, self.tables, self.example, seeds)
        best = jax.tree.map(jnp.copy, states.params)  # buffers of its own: the state's are donated
        sums = steps.zero_sums(self.model, state.take(best, 0), self.tables, self.example, len(seeds))
        return {"state": states, "best": best, "sums": sums}

    def started(self, precision: str) -> Program:
        """The program once its states are made: without the PCA, which only starts a table, and in `precision`."""
        tables = {name: table for name, table in self.tables.items() if name != "item_pca"}
        return self._replace(tables=recommender.in_precision(tables, precision))

    def window(
        self, states: state.State, sums: Any, order: np.ndarray, epoch: int, numbers: dict[str, np.ndarray]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of `steps.run_window` for the next steps of some lanes.

        Args:
          states, sums: stacked over the lanes.
          order: int32 (lanes, steps, B), at most `width` steps.
          epoch: from 1.
          numbers: float32 (lanes,) each.
        """
        count = order.shape[1]
        order = np.pad(order, ((0, 0), (0, self.width - count), (0, 0)), constant_values=-1)
        args = (self.model, self.adam, self.plan, states, sums, self.tables, self.data, order)
        options = {"touched_only": self.touched_only, "numbers_S": numbers}
        return (*args, np.int32(count), np.float32(epoch)), options


def program(experiment: Experiment) -> Program:
    """Brings data and tables to the device.

    Raises:
      InputError: the data are too large, or the method has tables that `train.table_updates=touched` does not know.
    """
    plan = experiment.epochs.plan
    data = batches.interactions(experiment.corpus, plan)
    tables = tables_lib.on_device(experiment.tables)
    example = steps.example_batch(plan, data, tables)
    settings = config_lib.section(experiment.config, "train")
    touched_only = settings.table_updates == "touched"
    if touched_only:
        params = jax.eval_shape(experiment.recommender.init, jax.random.key(0), tables, example)
        in_steps = {name: table for name, table in tables.items() if name != "item_pca"}
        touched_rows.check(params, in_steps, experiment.corpus.num_items)
    adam = optimizer.adam()
    adam = optimizer.averaging(adam, settings.average) if settings.average else adam
    return Program(experiment.recommender, adam, plan, data, tables, example, touched_only, settings.window)


class ActiveRun(contextlib.AbstractContextManager):
    """A run under way; opens its folder, and continues what is there.

    Attributes:
      experiment: the run.
      numbers: its traced settings, by key.
      progress: where it stands.
      states, sums: stacked over the seeds that still learn.
      best: stacked over all seeds.
      error: what stopped it, None while a seed is left.

    Raises:
      InputError: the folder is another run's, or all its checkpoints are damaged.
    """

    def __init__(self, experiment: Experiment, shared: Program):
        self.experiment, self.seeds = experiment, experiment.seeds
        self.folder = Path(experiment.config.workdir)
        self.numbers = traced.numbers(experiment.config)
        self.error: InputError | None = None
        self._settings = config_lib.section(experiment.config, "train")
        self._files = contextlib.ExitStack()
        # Finds what does not fit together before anything is written.
        shapes = jax.eval_shape(lambda: shared.fresh(self.seeds))
        open_workdir(experiment)
        with contextlib.ExitStack() as files:
            self.checkpoints = files.enter_context(Checkpoints(self.folder / "checkpoints"))
            restored = self.checkpoints.restore(lambda p: _like(shapes, p["active"]))
            if restored is not None:
                tree, self.progress = jax.tree.map(jnp.asarray, restored[0]), Progress(**restored[1])
                print(f"{self.folder}: continuing {self._place()}", flush=True)
            else:
                count = len(self.seeds)
                tree = shared.fresh(self.seeds)
                self.progress = Progress(0, 0, list(range(count)), [-math.inf] * count, [0] * count)
            self.states, self.best, self.sums = tree["state"], tree["best"], tree["sums"]
            self.log = files.enter_context(Log(self.folder, self.progress.epoch, experiment.config))
            provenance.write(experiment)
            self._files = files.pop_all()

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Waits for what is being written."""
        self._files.close()

    @property
    def position(self) -> tuple[int, int]:
        """Finished epochs, and steps of the one under way."""
        return self.progress.epoch, self.progress.steps

    @property
    def learns(self) -> bool:
        """Whether an epoch is left to do, and a seed to do it."""
        return self.error is None and bool(self.progress.active) and self.progress.epoch < self._settings.epochs

    @property
    def monitored(self) -> Any:
        """The parameters to validate, stacked over the seeds that still learn."""
        return optimizer.monitored(self.states.params, self.states.opt_state)

    def order(self, epoch: int) -> np.ndarray:
        """int32 (S, steps, B): who is in which step of an epoch, for the seeds that still learn."""
        return np.stack([self.experiment.epochs.order(self.seeds[i], epoch) for i in self.progress.active])

    def save(self) -> None:
        """Starts writing a checkpoint."""
        step = self.progress.epoch * self.experiment.epochs.steps + self.progress.steps
        tree = {"state": self.states, "best": self.best, "sums": self.sums}
        self.checkpoints.save(step, tree, dataclasses.asdict(self.progress))

    def saved(self) -> str:
        """Waits for the checkpoint: one line about it."""
        self.checkpoints.wait()
        return f"{self.folder}: saved {self._place()}; the same command continues"

    @property
    def is_dead(self) -> bool:
        """Whether every seed that learned has failed."""
        return not any(i in self.progress.active for i in self.progress.sound(self.seeds))

    def check_finite(self, sums: dict[str, np.ndarray], first: int, last: int) -> None:
        """Notes the seeds that have a term of the loss that is not finite after these steps; prints a line for each.

        They go on through the steps until `drop_failed`. Where no seed is left, `error` says so.
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

    def drop_failed(self) -> None:
        """Takes the seeds that have failed out of those that learn."""
        sound = self.progress.sound(self.seeds)
        kept = [j for j, i in enumerate(self.progress.active) if i in sound]
        if len(kept) < len(self.progress.active):
            self.states, self.sums = state.take((self.states, self.sums), kept)
            self.progress.active = [self.progress.active[j] for j in kept]

    def end_epoch(self, total_steps: int, values: Sequence[dict] | None, seconds: float, name: str) -> None:
        """Keeps parameters that are better, drops seeds that have not been for long, writes lines and a checkpoint.

        Args:
          total_steps: of the epoch.
          values: the validation's summary for each seed that still learns; None: not validated, nor monitored.
          seconds: the epoch took.
          name: of the run, at the start of what is printed.
        """
        settings, progress, epoch = self._settings, self.progress, self.progress.epoch + 1
        losses = {name: np.asarray(value) / total_steps for name, value in self.sums.items()}
        values = values and [value[settings.valid_protocol] for value in values]
        monitored = values and [value["overall"][settings.monitor] for value in values]
        monitoring = epoch > settings.monitor_after
        better = [j for j, i in enumerate(progress.active) if not monitoring or monitored[j] > progress.best[i]]
        for j in better:
            progress.best[progress.active[j]] = monitored[j] if monitoring else -math.inf
            progress.best_epoch[progress.active[j]] = epoch
        if better:
            places = [progress.active[j] for j in better]
            self.best = state.put(self.best, places, state.take(self.monitored, better))
        for j, i in enumerate(progress.active):
            line = {f"loss/{term}": float(value[j]) for term, value in losses.items()}
            if values:
                line |= {f"valid/{g}/{m}": values[j][g][m] for g in _VALID_GROUPS for m in _VALID_METRICS}
                line[f"valid/overall/{settings.monitor}"] = monitored[j]
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
        progress.epoch, progress.steps = epoch, 0
        self.sums = {name: jnp.zeros(len(progress.active), jnp.float32) for name in self.sums}
        self.save()

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
    """What to say of the seeds of a run that failed, by what its results.json holds; empty where none did."""
    failed = results.get("failed", {})
    if not failed:
        return ""
    told = "; ".join(f"seed {seed} failed ({what})" for seed, what in failed.items())
    seeds = results["seeds"]
    return f"{told}, so the numbers are those of seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))} alone"


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
        raise InputError(f"{path}: not readable ({error}); delete it, and the same command makes it again") from error
    return results if done else None


def _like(shapes, active: list[int]):
    """Shapes of a checkpoint in which only the `active` seeds still learn."""
    cut = lambda x: jax.ShapeDtypeStruct((len(active), *x.shape[1:]), x.dtype)  # noqa: E731
    return {**jax.tree.map(cut, shapes), "best": shapes["best"]}
