"""The parts of a training loop, for a loop of your own: for research that changes the step itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from llmesr_jax.core.errors import InputError
from llmesr_jax.models.recommender import Recommender
from llmesr_jax.models.types import Array, Tables
from llmesr_jax.training import mesh, state, traced
from llmesr_jax.training import start as start_lib
from llmesr_jax.training.epoch_plan import BatchPlan, Epochs
from llmesr_jax.training.experiment import Experiment
from llmesr_jax.training.interactions import Interactions
from llmesr_jax.training.program import Program
from llmesr_jax.training.state import State


class LoopParts(NamedTuple):
    """What one seed of an experiment is trained with.

    Attributes:
      model: pure functions of parameters and tables; a static argument of jitted functions, as are the next two.
      optimizer: the optax transformation; `update(gradient, state, params, learning_rate=rate)`.
      plan: static facts about a batch, for `make_batch`.
      tables: the frozen tables, on the device.
      data: the interactions, on the device.
      numbers: {key: float32 ()} of the traced settings, "train.learning_rate" among them.
      state: parameters and optimiser's state before the first step.
      epochs: the samples of each step.
      seed: of `state`.
    """

    model: Recommender
    optimizer: optax.GradientTransformationExtraArgs
    plan: BatchPlan
    tables: Tables
    data: Interactions
    numbers: Mapping[str, Array]
    state: State
    epochs: Epochs
    seed: int

    def order(self, epoch: int, without: Collection[int] = ()) -> np.ndarray:
        """int32 (steps, B): the samples of each step of an epoch (from 1), in the order of `train`.

        Args:
          epoch: from 1.
          without: rows of users (user - 1) from whom nothing is learned: their places hold -1 and stay empty. The other
            users' steps, negatives and dropout do not change. Those left out remain similar users of others, and their
            interactions count for the popularity of items.

        Raises:
          InputError: no such row.
        """
        order, num_users = self.epochs.order(self.seed, epoch), len(self.data.start_U)
        rows = np.asarray(sorted(without), np.int64)
        if len(rows) and not 0 <= rows[0] <= rows[-1] < num_users:
            raise InputError(f"without={without}: expected rows of users from 0 to {num_users - 1}")
        return np.where(np.isin(order % num_users, rows), np.int32(-1), order)


def loop_parts(experiment: Experiment, seed: int | None = None) -> LoopParts:
    """The parts from which `train` makes its loop, to write another loop with them.

    `train_step` on batches of `make_batch`, with the keys of `step_keys`, gives the same parameters as `train`.

    Args:
      experiment: of `prepare`.
      seed: None for the experiment's first seed.
    Raises:
      InputError: the data are too large, a setting does not suit the method, or the run to start from does not match.
    """
    program = Program.of(experiment, mesh.Shape(), resident=True)
    seed = experiment.seeds[0] if seed is None else seed
    first = state.take(program.fresh((seed,), start_lib.read(experiment))["state"], 0)
    program = program.started(experiment.config.precision)
    numbers = {key: jnp.float32(value) for key, value in traced.numbers(experiment.config).items()}
    optimizer = optax.with_extra_args_support(program.optimizer)
    made = (program.model, optimizer, program.plan, program.tables, program.data)
    return LoopParts(*made, numbers, first, experiment.epochs, seed)
