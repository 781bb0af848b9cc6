"""The batches of one epoch of training, one by one, with the other inputs of every measurement."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from llmesr_jax.data import groups
from llmesr_jax.experiments.gradients import parameter_groups
from llmesr_jax.models.axes import in_steps
from llmesr_jax.models.recommender import Params
from llmesr_jax.models.types import Array, Batch
from llmesr_jax.semantic import tables as tables_lib
from llmesr_jax.training import batches, epoch_plan, interactions, steps
from llmesr_jax.training.experiment import Experiment

_NEXT, NEGATIVES, DROPOUT, DIRECTIONS = range(4)  # what a key is for


class Batches:
    """The batches of the epoch after `epoch`, by index, with the model, the tables and the groups of items.

    Attributes:
      params: the parameters to measure.
      epoch: float32, the number of the epoch, from 1.
      order: int (steps, B), each batch's samples in the order of its rows, < 0 for padding; modulo the number of users,
        the rows of users.
      tail_V: bool (V,), tail items.
      groups: names of the parts of the model, see `parameter_groups`.
    """

    def __init__(self, experiment: Experiment, params: Params, epoch: int):
        self.experiment, self.model, self.params = experiment, experiment.recommender, params
        self.plan, self.corpus = experiment.epochs.plan, experiment.corpus
        tables = tables_lib.on_device(experiment.tables)
        self.groups = parameter_groups.names(params)
        self.epoch = np.float32(epoch + 1)
        self.tail_V = jnp.asarray(~groups.head_items(self.corpus))
        self.key = jax.random.fold_in(jax.random.key(experiment.seeds[0]), epoch)
        self._data = interactions.resident(self.corpus, self.plan)
        self.axes = self.model.axes(tables, steps.example_batch(self.plan, self._data, tables))
        self.tables = in_steps(tables, self.model.kinds)
        order = experiment.epochs.order(experiment.seeds[0], epoch + 1)
        # make_batch puts the longest sequence first; sorted the same way, a batch's rows are these users.
        lengths = epoch_plan.student_lengths(self.corpus, self.plan, order)
        self.order = np.take_along_axis(order, np.argsort(-lengths, axis=1, kind="stable"), axis=1)

    def __getitem__(self, step: int) -> Batch:
        return _make_batch(self.plan, self._data, self.tables, self.order[step], self.draw(NEGATIVES, step))

    def draw(self, use: int, step: int = 0) -> Array:
        """A key for one use at one step."""
        return jax.random.fold_in(jax.random.fold_in(self.key, use), step)


_make_batch = jax.jit(batches.make_batch, static_argnums=0)
