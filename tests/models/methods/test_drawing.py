"""Methods that draw in a batch what they learn from: seeds together, and updates of touched rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from llmesr_jax.models import recommender
from llmesr_jax.models.kernels import touched_rows

pytestmark = pytest.mark.slow
METHODS = {"rlmrec_gen": {"hidden_share": 0.3}, "loam": {"walk_ratio": 0.5}, "cities": {}, "melt": {}}


def started(method):
    """A case, and parameters no entry of which is special."""
    case = tiny.case("gru4rec", method, **METHODS[method])
    return case, case.drawn_params()


def learn(case):
    return jax.value_and_grad(
        lambda params, tables, batch: recommender.loss_fn(case.model, params, tables, batch, None), has_aux=True
    )


@pytest.mark.parametrize("method", METHODS)
def test_seeds_together_learn_what_each_learns_alone(method):
    case, params = started(method)
    batches = [case.batch(seed) for seed in (1, 2)]
    pairs = [(params, batches[0]), (jax.tree.map(lambda x: 0.7 * x, params), batches[1])]
    stacked = (jax.tree.map(lambda *x: jnp.stack(x), *part) for part in zip(*pairs))
    together = jax.jit(jax.vmap(learn(case), in_axes=(0, None, 0)))
    params_S, batch_S = stacked
    found, alone = together(params_S, case.tables, batch_S), jax.jit(learn(case))
    for i, (params, batch) in enumerate(pairs):
        tiny.assert_close(jax.tree.map(lambda x: x[i], found), alone(params, case.tables, batch), 1e-4)  # noqa: B023


@pytest.mark.parametrize("method", METHODS)
def test_each_seed_draws_the_same_in_a_group_as_alone(method):
    case, _ = started(method)
    keys = [jax.random.key(seed) for seed in (1, 2, 3)]
    orders = [case.epochs.order(seed, 1)[0] for seed in (1, 2, 3)]
    plan = case.epochs.plan
    together = tiny.make_batches(plan, case.data, case.tables, np.stack(orders), jnp.stack(keys)).extra
    alone = [tiny.make_batch(plan, case.data, case.tables, order, key).extra for order, key in zip(orders, keys)]
    tiny.assert_equal(together, jax.tree.map(lambda *x: jnp.stack(x), *alone))
    assert any(np.asarray(x).any() for x in jax.tree.leaves(together))


@pytest.mark.parametrize("method", METHODS)
def test_touched_updates_send_the_same_gradients(method):
    """A step renumbers ids; what was drawn belongs to those of the catalogue."""
    case, params = started(method)
    batch, run = case.batch(), jax.jit(learn(case))
    axes = case.model.axes(case.tables, batch)
    dense = run(params, case.tables, batch)
    found, small = touched_rows.touched(batch, axes)
    assert (np.asarray(found["item"].ids_n) < axes.items).sum() < axes.items
    small_tables = touched_rows.cut_tables(case.tables, found, axes)
    values, gradient = run(touched_rows.cut(params, found, axes), small_tables, small)
    zeros = jax.tree.map(jnp.zeros_like, params)
    tiny.assert_close((values, touched_rows.put_back(zeros, gradient, found, axes)), dense, 1e-5)
