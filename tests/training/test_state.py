"""The state of a group of seeds: parts come out and go in, also none."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from llmesr_jax.training import state, steps

TREE = {"a": jnp.arange(12.0).reshape(3, 4), "b": jnp.arange(3)}


def test_take_one_seed():
    np.testing.assert_array_equal(state.take(TREE, 1)["a"], [4.0, 5.0, 6.0, 7.0])


@pytest.mark.parametrize("index", [[2, 0], [1], []])
def test_take_several_seeds(index):
    found = state.take(TREE, index)
    assert found["a"].shape == (len(index), 4)
    assert found["b"].tolist() == index


def test_put_is_the_inverse_of_take():
    changed = state.put(TREE, [2, 0], state.take({"a": -TREE["a"], "b": TREE["b"]}, [2, 0]))
    np.testing.assert_array_equal(changed["a"], TREE["a"] * jnp.array([[-1.0], [1.0], [-1.0]]))
    np.testing.assert_array_equal(changed["b"], TREE["b"])
    same = state.put(TREE, [], state.take(TREE, []))
    np.testing.assert_array_equal(same["a"], TREE["a"])


def test_a_seed_starts_in_a_group_as_it_does_alone():
    case = tiny.case("gru4rec", "none")
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam
        batch = jax.eval_shape(lambda: steps.example_batch(case.epochs.plan, case.data, case.tables))
        batch = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), batch)
        group, alone = (state.create(case.model, optax.adam(1e-3), case.tables, batch, s) for s in ((5, 7), (7,)))
    np.testing.assert_array_equal(group.key[1], alone.key[0])
    assert (group.key[0] != group.key[1]).any()
    assert group.step.tolist() == [0, 0]
    for one, other in zip(jax.tree.leaves(state.take(group, [1])), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
    different = [not np.array_equal(x[0], x[1]) for x in jax.tree.leaves(group.params) if np.any(x[0])]
    assert different and all(different)


def test_a_lane_alone_goes_without_vmap_and_comes_out_stacked():
    def one(x, y):
        return {"sum": x + y, "rank": x.ndim}

    for lanes in (1, 3):
        x, y = np.arange(lanes * 2.0, dtype=np.float32).reshape(lanes, 2), np.ones((lanes, 2), np.float32)
        found = state.over_lanes(one, x, y)
        np.testing.assert_array_equal(found["sum"], x + y)
        np.testing.assert_array_equal(found["rank"], np.ones(lanes))
