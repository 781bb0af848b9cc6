"""The training state of a group of seeds: one immutable pytree, every leaf with a leading axis S."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from llmesr_jax.models import kept
from llmesr_jax.models.placement import Placement
from llmesr_jax.models.recommender import Recommender
from llmesr_jax.models.types import Array, Batch, Tables


class State(flax.struct.PyTreeNode):
    """The training state of a seed; of several seeds, each leaf has a leading axis S.

    Attributes:
      params: the trained parameters.
      opt_state: the optimiser's state.
      step: int32 (), steps taken.
      key: uint32 key data of the seed; every random number of a step is drawn from fold_in(key, step).
    """

    params: Any
    opt_state: optax.OptState
    step: Array
    key: Array


def create(
    recommender: Recommender,
    optimizer: optax.GradientTransformation,
    tables: Tables,
    batch: Batch,
    seeds: tuple[int, ...],
    placement: Placement | None = None,
) -> State:
    """Fresh states, stacked over seeds.

    Args:
      recommender, optimizer: of the run.
      tables: all frozen tables, also those that only start a parameter.
      batch: any batch; only its shapes matter.
      seeds: in the order of lanes.
      placement: of the tables and of the result; None for one device.
    """
    return _create(recommender, optimizer, np.asarray(seeds, np.uint32), tables, batch, placement)


def create_ahead(
    recommender: Recommender,
    optimizer: optax.GradientTransformation,
    tables: Tables,
    batch: Batch,
    seeds: tuple[int, ...],
) -> None:
    """Begins to compile, in a thread, what `create` runs with these arguments."""
    _create.ahead(recommender, optimizer, np.asarray(seeds, np.uint32), tables, batch, None)


@kept.jit(static_argnames=("recommender", "optimizer", "placement"))
def _create(recommender, optimizer, seeds_S, tables, batch, placement):
    if placement is not None:
        made = _create(recommender, optimizer, seeds_S, placement.whole_tables(tables), batch, None)
        return placement.constrained(placement.padded(made, 1))

    def one(seed):
        key = jax.random.key(seed)
        params = recommender.init(jax.random.fold_in(key, 0), tables, batch)
        training_key = jax.random.key_data(jax.random.fold_in(key, 1))
        return State(params, optimizer.init(params), jnp.zeros((), jnp.int32), training_key)

    return over_lanes(one, seeds_S)


def over_lanes(one: Callable[..., Any], *trees_S: Any) -> Any:
    """Maps `one`, a function of one lane's trees, over the lanes of stacked trees.

    A single lane is mapped without `vmap`, which would take a third of the tracing time, and whose axis costs
    operations.
    """
    if len(jax.tree.leaves(trees_S)[0]) > 1:
        return jax.vmap(one)(*trees_S)
    found = one(*jax.tree.map(lambda x: x[0], trees_S))
    return jax.tree.map(lambda x: jnp.asarray(x)[None], found)


# Each of these works on a whole tree in one program; leaf by leaf, every shape would be compiled separately.


def take(tree: Any, index: int | list[int] | np.ndarray) -> Any:
    """One seed's part of a stacked tree, or several seeds', stacked."""
    return _take(tree, np.asarray(index, np.int32))


@jax.jit
def _take(tree, index):
    return jax.tree.map(lambda x: x[index], tree)


def put(tree: Any, index: list[int] | np.ndarray, part: Any) -> Any:
    """The stacked tree with the seeds at `index` replaced by the stacked `part`."""
    return _put(tree, np.asarray(index, np.int32), part)


@jax.jit
def _put(tree, index, part):
    return jax.tree.map(lambda x, y: x.at[index].set(y), tree, part)


@jax.jit
def copy(tree: Any) -> Any:
    """A copy of the tree."""
    return jax.tree.map(jnp.copy, tree)


def stack(trees: list[Any]) -> Any:
    """Stacks the trees of single seeds."""
    return jax.tree.map(lambda *xs: jnp.stack(xs), *trees)


def split(tree: Any, groups: list[slice]) -> list[Any]:
    """The stacked tree, cut along its seeds into groups."""
    if len(groups) == 1:
        return [tree]
    return _split(tree, tuple((group.start, group.stop) for group in groups))


@functools.partial(jax.jit, static_argnums=1)
def _split(tree, bounds):
    return [jax.tree.map(lambda x: x[start:end], tree) for start, end in bounds]


def join(parts: list[Any]) -> Any:
    """Inverse of `split`."""
    return parts[0] if len(parts) == 1 else _join(parts)


@jax.jit
def _join(parts):
    return jax.tree.map(lambda *xs: jnp.concatenate(xs), *parts)
