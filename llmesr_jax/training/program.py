"""What runs that train together share: the model, the arrays on the device, and the calls of its compiled parts."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from llmesr_jax.models import kept, recommender
from llmesr_jax.models.axes import Axes, check_tables, in_steps
from llmesr_jax.models.kernels import touched_rows
from llmesr_jax.models.placement import Placement
from llmesr_jax.models.types import Batch
from llmesr_jax.semantic import tables as tables_lib
from llmesr_jax.training import config as config_lib
from llmesr_jax.training import (
    epoch_plan,
    interactions,
    mesh,
    optimizer,
    state,
    steps,
    surgeries,
)
from llmesr_jax.training.experiment import Experiment
from llmesr_jax.training.start import Start
from llmesr_jax.training.streaming import Streamed, is_streamed


class Program(NamedTuple):
    """What runs that train together share.

    Attributes:
      model: pure functions.
      optimizer: of all trained parameters.
      plan: static facts about a batch.
      data: the interactions on the device, or `Streamed` to it.
      tables: the frozen tables, on the device.
      example: a batch of zeros, for its shapes; its rows all have one length.
      touched_only: `train.table_updates=touched`.
      width: steps per window, `train.window`.
      axes: which arrays are over items and users.
      terms: names of the terms of the loss.
      placement: of the arrays on the devices of `train.mesh`; None for one device.
    """

    model: recommender.Recommender
    optimizer: optax.GradientTransformation
    plan: epoch_plan.BatchPlan
    data: interactions.Interactions | Streamed
    tables: dict[str, jax.Array]
    example: Batch
    touched_only: bool
    width: int
    axes: Axes
    terms: tuple[str, ...]
    placement: Placement | None = None

    @classmethod
    def of(cls, experiment: Experiment, shape: mesh.Shape | None = None, resident: bool = False) -> Program:
        """Brings data and tables to the device.

        Args:
          experiment: the run, or one of those that train together.
          shape: of the mesh; None: that of `train.mesh`.
          resident: put all interactions on the device, whatever `train.interactions` says.
        Raises:
          InputError: the data are too large; a table over items or users has a wrong number of rows; the method or the
            optimiser does not work with `train.table_updates=touched`; or a setting or the method with `train.mesh`.
        """
        shape = mesh.shape_of(experiment.config, jax.device_count()) if shape is None else shape
        mesh.check(experiment.config, shape, experiment.recommender)
        plan = experiment.epochs.plan
        settings, model = config_lib.section(experiment.config, "train"), experiment.recommender
        several = shape != mesh.Shape()
        setting = "resident" if resident or several else settings.interactions
        tables = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in experiment.tables.items()}
        if is_streamed(setting, experiment.corpus, model, experiment.config.method):
            data = Streamed(experiment.corpus, plan, experiment.tables.get("similar_users"))
        else:
            data = interactions.resident(experiment.corpus, plan)
        in_example = data.example() if isinstance(data, Streamed) else data
        example = steps.example_batch(steps.plain_rows(plan), in_example, tables)
        touched_only = settings.table_updates == "touched"
        outline = model.outline(tables, example)
        axes = outline.axes
        check_tables(tables, axes)
        paths = [path for path, _ in axes.params]
        made = optimizer.of_run(experiment.config, model, paths)
        if touched_only:
            touched_rows.check(outline.params, in_steps(tables, model.kinds), axes, example)
            touched_rows.check_optimizer(made, outline.params, axes)
        placement = mesh.placement(shape, axes)
        if placement is not None and placement.split:
            of_steps = in_steps(tables, model.kinds)
            touched_rows.check(outline.params, of_steps, axes, example, *steps.SPLIT)
        if settings.surgery != surgeries.NONE:
            made = optimizer.of_run(experiment.config, model, paths, len(outline.terms))
        tables = tables_lib.brought(experiment.tables, placement and placement.tables)
        if placement is not None:
            plan, data = plan.dealt(shape.data), placement.everywhere(data)
        static = touched_only, settings.window, axes, outline.terms, placement
        return cls(model, made, plan, data, tables, example, *static)

    def shapes(self, seeds: tuple[int, ...]) -> dict[str, Any]:
        """Shapes of the arrays in a checkpoint, which are the same on any mesh."""
        on_one = self._replace(placement=None)
        if self.placement is not None:
            on_one = on_one._replace(tables=jax.eval_shape(self.placement.whole_tables, self.tables))
        return jax.eval_shape(lambda: on_one.fresh(seeds))

    def fresh(self, seeds: tuple[int, ...], start: Start | None = None) -> dict[str, Any]:
        """The arrays of a new run, in the structure of a checkpoint.

        Args:
          seeds: in the order of lanes.
          start: the run whose parameters replace those drawn; the optimiser starts fresh.
        """
        states = state.create(self.model, self.optimizer, self.tables, self.example, seeds, self.placement)
        if start is not None:
            drawn = states.params if self.placement is None else self.placement.host(states.params)
            params = self.placed(start.into(drawn, seeds, self.axes.by_path))
            states = states.replace(params=params, opt_state=_fresh_optimizer(self.optimizer, params, self.placement))
        best = state.copy(states.params)  # a copy, because the state's buffers are donated
        return {"state": states, "best": best, "sums": self.zero_sums(len(seeds))}

    def zero_sums(self, lanes: int) -> dict[str, jax.Array]:
        """See `steps.zero_sums`."""
        return steps.zero_sums(self.terms, lanes, self.placement)

    def placed(self, tree_S: Any) -> Any:
        """A tree of whole arrays, stacked over lanes, copied to the devices."""
        return state.copy(jax.device_put(tree_S) if self.placement is None else self.placement.lanes(tree_S))

    def targets(self, shapes_S: Any) -> Any:
        """Shapes and shardings of a tree stacked over lanes; only with a placement."""
        return self.placement.shapes(shapes_S)

    def restored(self, tree_S: Any) -> Any:
        """A tree stacked over lanes, as read from a checkpoint, copied to the devices."""
        if self.placement is None:
            return self.placed(tree_S)
        empty = lambda x: x if isinstance(x, jax.Array) else self.placement.everywhere(x)  # noqa: E731
        return jax.tree.map(empty, tree_S)

    def to_save(self, tree_S: Any) -> tuple[Any, Any]:
        """A tree stacked over lanes as a checkpoint stores it, and its shapes without rows of zeros."""
        if self.placement is None:
            return tree_S, tree_S
        settled = self.placement.settled(tree_S)
        return settled, jax.eval_shape(functools.partial(self.placement.whole, lead=1), settled)

    def on_host(self, tree_S: Any) -> Any:
        """A tree stacked over lanes, as whole arrays on the host; the same in every process."""
        return jax.device_get(tree_S) if self.placement is None else self.placement.host(tree_S)

    def started(self, precision: str) -> Program:
        """The program after its states are made: tables in `precision`, without those that only start a parameter."""
        tables = in_steps(self.tables, self.model.kinds)
        return self._replace(tables=recommender.in_precision(tables, precision))

    def before_epoch(self, states: state.State, epoch: int) -> state.State:
        """The states, stacked over lanes, with the method's change before the first step of an epoch (from 1)."""
        if self.model.before_epoch is None:
            return states
        return steps.before_epoch(self.model, states, self.tables, self.data, np.float32(epoch), self.placement)

    def data_of(self, order: np.ndarray) -> interactions.Interactions:
        """The interactions that the batches of these samples, int32 (lanes, steps, B), read."""
        return self.data.window(order) if isinstance(self.data, Streamed) else self.data

    def send_ahead(self, order: np.ndarray) -> None:
        """Begins to send to the device what later steps, int32 (lanes, steps, B), read, if it is not there already."""
        if isinstance(self.data, Streamed) and order.shape[1]:
            self.data.send_ahead(self._whole_window(order))

    def _whole_window(self, order: np.ndarray) -> np.ndarray:
        """The samples of at most `width` steps, padded to `width` steps."""
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
        if self.placement is not None:
            options |= {"split": self.placement.split, "mesh": self.placement.mesh}
        return (*args, np.int32(count), np.float32(epoch)), options


@kept.jit(static_argnames=("optimizer", "placement"))
def _fresh_optimizer(
    optimizer: optax.GradientTransformation, params_S: Any, placement: Placement | None
) -> optax.OptState:
    made = jax.vmap(optimizer.init)(params_S)
    return made if placement is None else placement.constrained(made)
