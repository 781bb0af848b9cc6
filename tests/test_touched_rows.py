"""Updates of touched rows: equal to dense ones where Adam has no memory yet, and silent everywhere else."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from llmesr_jax import state, steps, touched_rows
from llmesr_jax.contracts import Batch
from llmesr_jax.optimizer import adam

SYSTEMS = [("sasrec", "none"), ("gru4rec", "llmesr"), ("bert4rec", "llmesr"), ("sasrec", "faerec")]
OPTIMIZER = adam(1e-2)
ROWS = 12  # rows of an item table in the property below: ids 0 to 11


@pytest.fixture(autouse=True)
def promotion():
    """optax's bias correction mixes dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@functools.cache
def two_steps(system, touched_only):
    """The states after no step, one and two, and the two batches."""
    case = tiny.case(*system)
    example = steps.example_batch(case.epochs.plan, case.data, case.tables)
    one = state.take(state.create(case.model, OPTIMIZER, case.tables, example, (1,)), 0)
    order = case.epochs.order(0, 1)[:2]
    order[1, 2:] = -1  # two students, so that some items are only in the first step
    keys = jax.random.split(jax.random.key(0))
    batches = [tiny.make_batch(case.epochs.plan, case.data, case.tables, o, key) for o, key in zip(order, keys)]
    states = [one]
    step = jax.jit(steps.train_step, static_argnames=("recommender", "optimizer", "touched_only"))
    for batch in batches:
        arguments = (states[-1], case.tables, batch, jax.random.key(1), jnp.float32(1))
        states.append(step(case.model, OPTIMIZER, *arguments, touched_only=touched_only)[0])
    return jax.device_get(states), batches


def item_leaves(tree):
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path): x for path, x in flat if getattr(path[-1], "key", "") == "items"}


def trained(batch):
    shared = () if batch.shared_K is None else (batch.shared_K,)
    ids = (batch.students.items_T, batch.targets_T, batch.negatives_TxK, *shared)
    return np.unique(np.concatenate([np.asarray(x).ravel() for x in ids]))


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_first_step_is_the_dense_one(system):
    """Without moments yet, a row without a gradient stays under dense Adam too."""
    (_, dense, _), _ = two_steps(system, False)
    (_, touched, _), _ = two_steps(system, True)
    tiny.assert_close(touched, dense, 1e-5)


@pytest.mark.parametrize("system", SYSTEMS)
def test_rows_that_a_step_does_not_train_stay_as_they_are(system):
    """In tables and in both of Adam's moments, bit for bit; teachers' items among them."""
    states, batches = two_steps(system, True)
    for before, after, batch in zip(states, states[1:], batches):
        ids = trained(batch)
        old, new = item_leaves(before), item_leaves(after)
        assert len(old) == 3  # the table and its two moments
        for name, x in old.items():
            others = np.setdiff1d(np.arange(len(x)), ids)
            assert len(others)
            np.testing.assert_array_equal(new[name][others], x[others])
            assert (new[name][ids[ids > 0]] != x[ids[ids > 0]]).any()


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_second_step_differs_from_a_dense_one_only_through_older_moments(system):
    """Rows of both steps, and rows of the second alone, move alike; rows of the first alone move under dense Adam."""
    (_, _, dense), batches = two_steps(system, False)
    (_, once, touched), _ = two_steps(system, True)
    first, second = (trained(batch) for batch in batches)
    table = next(name for name in item_leaves(once) if name.startswith(".params"))
    ours, theirs, before = (item_leaves(x)[table] for x in (touched, dense, once))
    np.testing.assert_allclose(ours[second], theirs[second], atol=2e-5)
    gone = np.setdiff1d(first, [0, *second])
    assert len(gone) and (theirs[gone] != before[gone]).any(axis=1).mean() > 0.9  # a gradient may be zero


ids = st.lists(st.integers(0, ROWS - 1), min_size=4, max_size=4)


@jax.jit
def _touched(students, targets, negatives, teachers):
    laid = lambda items: tiny.lay([[1] * 4], ((1, 4),)).replace(items_T=items)  # noqa: E731
    batch = Batch(laid(students), targets, negatives[:, None], jnp.ones(1, bool), laid(teachers), jnp.zeros((1, 1)))
    return touched_rows.touched(batch, ROWS)


@given(ids, ids, ids, ids)
def test_renumbered_ids_name_the_same_items(students, targets, negatives, teachers):
    parts = [jnp.asarray(part, jnp.int32) for part in (students, targets, negatives, teachers)]
    rows, batch = _touched(*parts)
    ids_n = np.asarray(rows.ids_n)
    found = (batch.students.items_T, batch.targets_T, batch.negatives_TxK[:, 0], batch.teachers.items_T)
    for part, places in zip(parts, found):
        np.testing.assert_array_equal(ids_n[np.asarray(places)], part)
        np.testing.assert_array_equal(np.asarray(places) == 0, np.asarray(part) == 0)
    wanted = {0, *np.concatenate(parts).tolist()}
    assert ids_n[: len(wanted)].tolist() == sorted(wanted) and (ids_n[len(wanted) :] == ROWS).all()
    assert set(ids_n[np.asarray(rows.trained_n)]) == set(np.concatenate(parts[:3]).tolist())
