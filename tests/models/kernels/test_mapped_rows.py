"""Rows through two layers, block by block, against the same layers written down; and their dropout."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from llmesr_jax.models.kernels import mapped_rows, turns
from llmesr_jax.models.kernels.mapped_rows import TwoLayers, gelu, map_two_layers

IDS, COUNT = 23, 17
KEY = jnp.array([3, 4], jnp.uint32)


def arrays(seed=0, items=60, widths=(6, 5, 4)):
    keys = jax.random.split(jax.random.key(seed), 7)
    f, h, d = widths
    layers = TwoLayers(*(jax.random.normal(k, s) for k, s in zip(keys, ((f, h), (h,), (h, d), (d,)))))
    table = jax.random.normal(keys[4], (items, f))
    ids = jax.random.permutation(keys[5], items)[:IDS].astype(jnp.int32)
    return table, layers, ids, jax.random.normal(keys[6], (COUNT, d))


def plain(activation, rate, table, layers, ids, count, key):
    hidden = activation(table[ids] @ layers.inner + layers.inner_bias[None])
    return hidden @ layers.outer + layers.outer_bias[None]


def value_and_gradients(function, rate, seed=0, count=COUNT, activation=gelu):
    """Of a read-out of the rows that count: in the table, and in the layers."""
    table, layers, ids, read_out = arrays(seed)

    def read(table, layers):
        out = function(activation, rate, table, layers, ids, jnp.asarray(count, jnp.int32), KEY)
        return jnp.sum(out[:count] * read_out[:count])

    return jax.jit(jax.value_and_grad(read, argnums=(0, 1)))(table, layers)


@pytest.mark.parametrize("most", [10**6, 60])
def test_whole_gives_what_blocks_give(most, monkeypatch):
    """At once, and in the turns that memory allows; dropout's masks as well."""
    monkeypatch.setattr(turns, "MOST", most)
    monkeypatch.setattr(mapped_rows, "_BLOCK", 4)
    whole = functools.partial(map_two_layers, whole=True)
    with tiny.float64():
        tiny.assert_close(*(value_and_gradients(f, 0.3) for f in (whole, map_two_layers)), 1e-12)


@pytest.mark.parametrize("activation", [gelu, jax.nn.leaky_relu])
@pytest.mark.parametrize("block, large", [(1, 1), (4, 2), (4, 4), (100, 4)])
def test_blocks_give_the_layers_themselves(block, large, activation, monkeypatch):
    """Values and gradients; the last block is not full, and on the way back small blocks follow large ones."""
    monkeypatch.setattr(mapped_rows, "_BLOCK", block)
    monkeypatch.setattr(mapped_rows, "_LARGE", large)
    with tiny.float64():
        ours, wanted = (value_and_gradients(f, 0.0, activation=activation) for f in (map_two_layers, plain))
        tiny.assert_close(ours, wanted, 1e-12)


def test_what_stands_behind_the_last_id_gets_no_gradient():
    """Though it is read out."""
    table, layers, ids, _ = arrays()
    gradients = jax.jit(
        jax.grad(lambda t, p: jnp.sum(map_two_layers(gelu, 0.0, t, p, ids, jnp.int32(COUNT), KEY)), argnums=(0, 1))
    )(table, layers)
    np.testing.assert_array_equal(gradients[1].outer_bias, np.full(4, COUNT))
    touched = np.flatnonzero(np.asarray(gradients[0]).any(axis=1))
    assert sorted(touched) == sorted(np.asarray(ids[:COUNT]))


def test_no_rows_cost_nothing_and_give_nothing():
    value, (by_table, by_layers) = value_and_gradients(map_two_layers, 0.3, count=0)
    assert value == 0 and not np.asarray(by_table).any()
    assert all(not np.asarray(g).any() for g in by_layers)


def test_dropout_keeps_its_share_and_its_scale_and_repeats_by_key():
    """Hidden entries of 1 and an outer layer that adds them up: an output is the kept share, scaled."""
    rate, hidden, n = 0.3, 2000, 40
    layers = TwoLayers(jnp.zeros((1, hidden)), jnp.full(hidden, 50.0), jnp.full((hidden, 1), 1 / 50), jnp.zeros(1))
    run = lambda key: map_two_layers(gelu, rate, jnp.zeros((n, 1)), layers, jnp.arange(n), jnp.int32(n), key)[:, 0]  # noqa: E731
    kept_n = np.asarray(run(KEY)) * (1 - rate) / hidden
    assert abs(kept_n.mean() - (1 - rate)) < 4 * (0.21 / (n * hidden)) ** 0.5
    assert len(set(kept_n.round(6))) > n / 2  # each row has a draw of its own
    np.testing.assert_array_equal(run(KEY), run(KEY))
    assert (np.asarray(run(KEY)) != np.asarray(run(KEY + 1))).any()


def test_an_items_dropout_is_its_own_whatever_else_is_mapped(monkeypatch):
    """Another order, other company, other blocks, ids that a step has renumbered."""
    table, layers, ids, _ = arrays(widths=(6, 70, 4))
    run = lambda ids, table=table, **owners: np.asarray(  # noqa: E731
        map_two_layers(gelu, 0.3, table, layers, ids, jnp.int32(len(ids)), KEY, **owners)
    )
    wanted = run(ids)
    np.testing.assert_allclose(run(ids[::-1]), wanted[::-1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(run(ids[5:8]), wanted[5:8], rtol=1e-5, atol=1e-5)
    renumbered = run(jnp.arange(IDS, dtype=jnp.int32), table[ids], owners_n=ids)
    np.testing.assert_allclose(renumbered, wanted, rtol=1e-5, atol=1e-5)
    monkeypatch.setattr(mapped_rows, "_BLOCK", 4)
    np.testing.assert_allclose(run(ids), wanted, rtol=1e-5, atol=1e-5)
    same = run(jnp.full(IDS, ids[0]), owners_n=ids)  # one row of the table under the masks of all these items
    assert len({row.tobytes() for row in same}) == IDS


def test_the_way_back_drops_what_the_way_forth_dropped():
    """Gradients against central differences, under one key."""
    with tiny.float64():
        table, layers, ids, read_out = arrays()
        read = jax.jit(
            lambda p: jnp.sum(map_two_layers(gelu, 0.5, table, p, ids, jnp.int32(COUNT), KEY)[:COUNT] * read_out)
        )
        gradients = jax.jit(jax.grad(read))(layers)
        direction = TwoLayers(*arrays(seed=5)[1])
        moved = lambda e: read(jax.tree.map(lambda a, b: a + e * b, layers, direction))  # noqa: E731
        slope = (moved(1e-6) - moved(-1e-6)) / 2e-6
        along = sum(jnp.vdot(a, b) for a, b in zip(gradients, direction))
        np.testing.assert_allclose(slope, along, rtol=1e-6)


def test_seeds_together_map_what_each_maps_alone():
    table, _, ids, read_out = arrays()
    layers = [arrays(seed)[1] for seed in (0, 1)]
    counts = jnp.array([COUNT, 3], jnp.int32)
    keys = jnp.stack([KEY, KEY + 7])

    def read(p, count, key):
        out = map_two_layers(gelu, 0.3, table, p, ids, count, key)
        return jnp.sum(jnp.where(jnp.arange(COUNT)[:, None] < count, out[:COUNT] * read_out, 0))

    both = jax.jit(jax.vmap(jax.value_and_grad(read)))(jax.tree.map(lambda *a: jnp.stack(a), *layers), counts, keys)
    for i, one in enumerate(layers):
        alone = jax.jit(jax.value_and_grad(read))(one, counts[i], keys[i])
        tiny.assert_close(jax.tree.map(lambda a: a[i], both), alone, 1e-5)
