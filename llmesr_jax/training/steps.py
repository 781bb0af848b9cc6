"""The jitted part of training: windows of steps, each with batch, loss, gradient and update, under vmap over lanes.

A lane is one seed of one run. The lanes of runs that share a program form one group (`llmesr_jax.training.traced`).
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from llmesr_jax.models import kept
from llmesr_jax.models.axes import Axes
from llmesr_jax.models.kernels import touched_rows
from llmesr_jax.models.kernels.split_rows import on_mesh
from llmesr_jax.models.placement import Placement
from llmesr_jax.models.recommender import Params, Recommender, loss_fn
from llmesr_jax.models.types import Array, Batch, Tables, on_device
from llmesr_jax.ranking.layout import RowPlan, padded
from llmesr_jax.training import optimizer
from llmesr_jax.training.batches import make_batch
from llmesr_jax.training.epoch_plan import BatchPlan
from llmesr_jax.training.interactions import Interactions
from llmesr_jax.training.optimizer import ByTerm
from llmesr_jax.training.state import State, over_lanes
from llmesr_jax.training.surgeries import Terms

SPLIT = "--mesh: rows are split over devices", "--mesh=data:1"  # for messages of `touched_rows.check`
_OF_SURGERY = 0x5C  # differs from the numbers that dropout folds in, the small numbers of layers


def step_keys(state: State) -> tuple[Array, Array]:
    """The random keys of a state's next step: for the batch (negatives, masks), and for dropout."""
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    batch_key, dropout_key = jax.random.split(key)
    return batch_key, dropout_key


def train_step(
    recommender: Recommender,
    optimizer: optax.GradientTransformation,
    state: State,
    tables: Tables,
    batch: Batch,
    dropout_key: Array,
    epoch: Array,
    touched: Axes | None = None,
    numbers: Mapping[str, Array] | None = None,
    split: Axes | None = None,
) -> tuple[State, dict[str, Array]]:
    """One update of one lane: the new state, and {term: value ()} of the loss, with `total`. Pure.

    Args:
      recommender, optimizer: the model and its optimiser; static under jit.
      state: of one seed.
      tables: the frozen tables.
      batch: of `make_batch`.
      dropout_key: the second key of `step_keys`.
      epoch: from 1, (), for methods whose weights depend on it.
      touched: the model's axes, for updates of only the rows that the batch trains (`touched_rows`); None for dense
        updates.
      numbers: {key: ()} that replace traced settings, such as the learning rate; None: those of `recommender` and
        `optimizer`.
      split: the model's axes, if arrays over items and users are split by rows over devices.
    Raises:
      InputError: while tracing with `touched` or `split`, for an array that `touched_rows.check` refuses.
    """
    if touched is not None:
        touched_rows.check(state.params, tables, touched, batch)
        rows, batch = touched_rows.touched(batch, touched, recommender.sizes.whole)
        large, state = state, touched_rows.cut(state, rows, touched, split is not None)
        tables = touched_rows.cut_tables(tables, rows, touched, split is not None)
        small, values = train_step(recommender, optimizer, state, tables, batch, dropout_key, epoch, numbers=numbers)
        return touched_rows.put_back(large, small, rows, touched, split is not None), values
    params, spread = state.params, lambda gradient: gradient
    if split is not None:
        touched_rows.check(params, tables, split, batch, *SPLIT)
        rows, batch = touched_rows.touched(batch, split, recommender.sizes.whole)
        params = touched_rows.cut(params, rows, split, split=True)
        tables = touched_rows.cut_tables(tables, rows, split, split=True)
        spread = functools.partial(touched_rows.spread, params=state.params, rows=rows, axes=split)
    if isinstance(optimizer, ByTerm):
        total, values, terms = by_term(recommender, params, tables, batch, dropout_key, epoch, numbers)
        gradients = terms._replace(gradients={name: spread(gradient) for name, gradient in terms.gradients.items()})
    else:
        value_and_grad = jax.value_and_grad(loss_fn, argnums=1, has_aux=True)
        (total, values), gradient = value_and_grad(recommender, params, tables, batch, dropout_key, epoch, numbers)
        gradients = spread(gradient)
    rate = {"learning_rate": numbers["train.learning_rate"]} if numbers else {}
    updates, opt_state = optax.with_extra_args_support(optimizer).update(
        gradients, state.opt_state, state.params, **rate
    )
    params = optax.apply_updates(state.params, updates)
    return state.replace(params=params, opt_state=opt_state, step=state.step + 1), {**values, "total": total}


def by_term(
    recommender: Recommender,
    params: Params,
    tables: Tables,
    batch: Batch,
    key: Array | None,
    epoch: Array,
    numbers: Mapping[str, Array] | None = None,
) -> tuple[Array, dict[str, Array], Terms]:
    """(total, values by term, the gradient of each term): one forward pass, and one backward pass for each term.

    Arguments as in `loss_fn`. The gradient of the total is the sum of the terms' gradients.
    """

    def weighted(params):
        terms = recommender.terms(params, tables, batch, key, epoch, numbers)
        values = {name: term.value for name, term in terms.items()}
        return {name: jnp.asarray(term.weight * term.value) for name, term in terms.items()}, values

    parts, back, values = jax.vjp(weighted, params, has_aux=True)
    zeros = {name: jnp.zeros_like(part) for name, part in parts.items()}
    gradients = {name: back({**zeros, name: jnp.ones_like(part)})[0] for name, part in parts.items()}
    own_key = jax.random.key(0) if key is None else jax.random.fold_in(key, _OF_SURGERY)
    return functools.reduce(jnp.add, parts.values()), values, Terms(gradients, parts, own_key)


@kept.jit(
    static_argnames=("recommender", "optimizer", "plan", "touched", "split", "mesh"),
    donate_argnames=("state_S", "sums_S"),
)
def run_window(
    recommender: Recommender,
    optimizer: optax.GradientTransformation,
    plan: BatchPlan,
    state_S: State,
    sums_S: dict[str, Array],
    tables: Tables,
    data: Interactions,
    order_SxWxB: Array,
    count: Array,
    epoch: Array,
    touched: Axes | None = None,
    numbers_S: Mapping[str, Array] | None = None,
    split: Axes | None = None,
    mesh: Mesh | None = None,
) -> tuple[State, dict[str, Array]]:
    """Takes `count` steps with every lane.

    Args:
      recommender, optimizer: the model and its optimiser.
      plan: static facts about a batch.
      state_S, sums_S: stacked over lanes; both are donated.
      tables, data: shared by all lanes.
      order_SxWxB: int32 samples of each step.
      count: int32 (), at most W; not static, so that the last, shorter window is not compiled separately.
      epoch: from 1.
      touched: see `train_step`.
      numbers_S: float32 (S,) each, see `train_step`.
      split: see `train_step`; with it, `plan` has several shards.
      mesh: the devices; None for one.
    Returns: the states, and the sums with the loss's values of these steps added.
    """

    def lanes(state_S, sums_S, order_SxWxB, numbers_S, tables, data, count, epoch):
        one = functools.partial(one_lane, tables=tables, data=data, count=count, epoch=epoch)
        return over_lanes(one, state_S, sums_S, order_SxWxB, numbers_S)

    def one_lane(state, sums, order_WxB, numbers, *, tables, data, count, epoch):
        def body(i, carry):
            state, sums = carry
            batch_key, dropout_key = step_keys(state)
            batch = make_batch(plan, data, tables, order_WxB[i], batch_key)
            state, values = train_step(
                recommender, optimizer, state, tables, batch, dropout_key, epoch, touched, numbers, split
            )
            return state, {name: sums[name] + values[name].astype(sums[name].dtype) for name in sums}

        return jax.lax.fori_loop(0, count, body, (state, sums))

    by_lane, shared = (state_S, sums_S, order_SxWxB, numbers_S), (tables, data, count, epoch)
    return lanes(*by_lane, *shared) if mesh is None else on_mesh(mesh, lanes, by_lane, shared)


@kept.jit(static_argnames=("recommender", "placement"), donate_argnames=("state_S",))
def before_epoch(
    recommender: Recommender,
    state_S: State,
    tables: Tables,
    data: Interactions,
    epoch: Array,
    placement: Placement | None = None,
) -> State:
    """The states after what the method changes before the first step of an epoch (from 1), such as renewed rows.

    Changed entries are copied to the running average, if there is one. The optimiser's moments do not change.
    """
    if placement is not None:
        whole, tables = placement.whole(state_S, 1), placement.whole_tables(tables)
        return placement.constrained(placement.padded(before_epoch(recommender, whole, tables, data, epoch), 1))

    def one_lane(state):
        params = recommender.before_epoch(state.params, tables, data, epoch)
        return state.replace(params=params, opt_state=optimizer.renewed(state.opt_state, state.params, params))

    return over_lanes(one_lane, state_S)


def lane_groups(lanes: int, most: int = 0, devices: int = 1) -> list[slice]:
    """The groups of lanes that `run_window` runs together: `most_lanes(most)` lanes on each of so many devices."""
    size = min(most_lanes(most) * devices, lanes)
    return [slice(i, min(i + size, lanes)) for i in range(0, lanes, size)]


def most_lanes(most: int = 0) -> int:
    """How many lanes `run_window` runs together: `most`, or if that is 0 what suits the device.

    On an accelerator all lanes, because one lane leaves it half idle. On a CPU one, because one lane keeps it busy: a
    group would take longer than its lanes one after the other.
    """
    return most or (1 if jax.default_backend() == "cpu" else sys.maxsize)


def example_batch(plan: BatchPlan, data: Interactions, tables: Tables) -> Batch:
    """A batch of zeros, from whose shapes parameters are made."""
    # NumPy's zeros, because JAX would compile a program for each shape.
    nobody = jax.ShapeDtypeStruct((plan.config.batch_size,), jnp.int32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    shapes = jax.eval_shape(functools.partial(make_batch, plan), data, tables, nobody, key)
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)


def plain_rows(plan: BatchPlan) -> BatchPlan:
    """The plan with rows of one length, which traces faster, for what does not depend on the layout of sequences."""

    def longest(rows: RowPlan) -> RowPlan:
        return padded(rows.at_least[0], rows.lengths[-1])

    return plan._replace(students=longest(plan.students), teachers=plan.teachers and longest(plan.teachers))


def zero_sums(terms: Iterable[str], lanes: int, placement: Placement | None = None) -> dict[str, Array]:
    """The first sums for `run_window`: float32 (lanes,) zeros for each term of the loss, and for the total."""
    zeros = {name: np.zeros(lanes, np.float32) for name in (*terms, "total")}
    return {n: on_device(x, x.dtype) for n, x in zeros.items()} if placement is None else placement.lanes(zeros)
