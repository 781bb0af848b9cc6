"""What runs that train together share: the model, what lies on the device, and how its compiled parts are called."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from llmesr_jax.models import recommender
from llmesr_jax.models.axes import Axes, check_tables, in_steps
from llmesr_jax.models.kernels import touched_rows
from llmesr_jax.models.types import Batch
from llmesr_jax.semantic import tables as tables_lib
from llmesr_jax.training import batches, optimizer, state, steps, surgeries
from llmesr_jax.training import config as config_lib
from llmesr_jax.training.experiment import Experiment
from llmesr_jax.training.start import Start
from llmesr_jax.training.streaming import Streamed, is_streamed


class Program(NamedTuple):
    """Attributes:
    model: pure functions.
    optimizer: of all trained parameters.
    plan: static facts of a batch.
    data: interactions on the device, or `Streamed` to it.
    tables: on the device.
    example: a batch, for its shapes but for the lengths of its rows.
    touched_only: `train.table_updates=touched`.
    width: steps of a window, `train.window`.
    axes: which arrays are over items and users.
    terms: names of the terms of the loss.
    """

    model: recommender.Recommender
    optimizer: optax.GradientTransformation
    plan: batches.BatchPlan
    data: batches.Interactions | Streamed
    tables: dict[str, jax.Array]
    example: Batch
    touched_only: bool
    width: int
    axes: Axes
    terms: tuple[str, ...]

    @classmethod
    def of(cls, experiment: Experiment, resident: bool = False) -> Program:
        """Brings data and tables to the device.

        Args:
          resident: interactions are brought there, whatever `train.interactions` says.
        Raises:
          InputError: the data are too large, a table over items or users has other rows, or the method or the optimiser does
            not go with `train.table_updates=touched`.
        """
        plan = experiment.epochs.plan
        settings, model = config_lib.section(experiment.config, "train"), experiment.recommender
        setting = "resident" if resident else settings.interactions
        streamed = is_streamed(setting, experiment.corpus, model, experiment.config.method)
        tables = tables_lib.on_device(experiment.tables)
        if streamed:
            data = Streamed(experiment.corpus, plan, experiment.tables.get("similar_users"))
        else:
            data = batches.interactions(experiment.corpus, plan)
        example = steps.example_batch(steps.plain_rows(plan), data.example() if streamed else data, tables)
        touched_only = settings.table_updates == "touched"
        outline = model.outline(tables, example)
        axes = outline.axes
        check_tables(tables, axes)
        paths = [path for path, _ in axes.params]
        made = optimizer.of_run(experiment.config, model, paths)
        if touched_only:
            touched_rows.check(outline.params, in_steps(tables, model.kinds), axes, example)
            touched_rows.check_optimizer(made, outline.params, axes)
        if settings.surgery != surgeries.NONE:
            made = optimizer.of_run(experiment.config, model, paths, len(outline.terms))
        return cls(model, made, plan, data, tables, example, touched_only, settings.window, axes, outline.terms)

    def fresh(self, seeds: tuple[int, ...], start: Start | None = None) -> dict[str, Any]:
        """The arrays of a run that begins: as a checkpoint holds them.

        Args:
          start: whose parameters take the place of those drawn; the optimiser starts fresh.
        """
        states = state.create(self.model, self.optimizer, self.tables, self.example, seeds)
        if start is not None:
            params = state.copy(start.into(states.params, seeds, self.axes.by_path))
            states = states.replace(params=params, opt_state=_fresh_optimizer(self.optimizer, params))
        best = state.copy(states.params)  # buffers of its own: the state's are donated
        return {"state": states, "best": best, "sums": steps.zero_sums(self.terms, len(seeds))}

    def started(self, precision: str) -> Program:
        """The program once its states are made: without tables that only start a parameter, and in `precision`."""
        tables = in_steps(self.tables, self.model.kinds)
        return self._replace(tables=recommender.in_precision(tables, precision))

    def before_epoch(self, states: state.State, epoch: int) -> state.State:
        """The states, stacked over lanes, as the method needs them before the first step of an epoch (from 1)."""
        if self.model.before_epoch is None:
            return states
        return steps.before_epoch(self.model, states, self.tables, self.data, np.float32(epoch))

    def data_of(self, order: np.ndarray) -> batches.Interactions:
        """The interactions that the batches of these samples, int32 (lanes, steps, B), read."""
        return self.data.window(order) if isinstance(self.data, Streamed) else self.data

    def send_ahead(self, order: np.ndarray) -> None:
        """Begins to bring to the device what the next steps read, int32 (lanes, steps, B), if it is not there already."""
        if isinstance(self.data, Streamed) and order.shape[1]:
            self.data.send_ahead(self._whole_window(order))

    def _whole_window(self, order: np.ndarray) -> np.ndarray:
        """The samples of up to `width` steps, padded to as many."""
        return np.pad(order, ((0, 0), (0, self.width - order.shape[1]), (0, 0)), constant_values=-1)

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
        order = self._whole_window(order)
        args = (self.model, self.optimizer, self.plan, states, sums, self.tables, self.data_of(order), order)
        options = {"touched": self.axes if self.touched_only else None, "numbers_S": numbers}
        return (*args, np.int32(count), np.float32(epoch)), options


@functools.partial(jax.jit, static_argnames=("optimizer",))
def _fresh_optimizer(optimizer: optax.GradientTransformation, params_S: Any) -> optax.OptState:
    return jax.vmap(optimizer.init)(params_S)
