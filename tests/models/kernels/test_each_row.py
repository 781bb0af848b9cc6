"""Each row through a matrix as often as it is asked for, against the plain product."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from llmesr_jax.models.kernels import turns
from llmesr_jax.models.kernels.each_row import map_each

WIDTH, OUT = 5, 3


def ids(seed, rows, trained, other):
    drawn = np.random.default_rng(seed).integers(0, rows, trained + other)
    return tiny.ints(drawn[:trained]), tiny.ints(drawn[trained:])


def value_and_gradients(function, rows, trained_n, other_m):
    rng = np.random.default_rng(3)
    table, kernel, a, b = (
        jnp.asarray(rng.normal(size=s))
        for s in ((rows, WIDTH), (WIDTH, OUT), (len(trained_n), OUT), (len(other_m), OUT))
    )

    def read(table, kernel):
        trained, other = function(table, kernel, trained_n, other_m)
        return jnp.sum(trained * a) + jnp.sum(jax.lax.stop_gradient(other) * b)

    return jax.value_and_grad(read, argnums=(0, 1))(table, kernel)


def plain(table, kernel, trained_n, other_m):
    return table[trained_n] @ kernel, jax.lax.stop_gradient(table[other_m] @ kernel)


@pytest.mark.parametrize("rows", [4, 12, 40])  # fewer than have a gradient; than are asked for; more
@pytest.mark.parametrize("most", [10**6, 30])  # at once, and in turns
@tiny.in_float64
def test_values_and_gradients_are_those_of_the_product(rows, most, monkeypatch):
    monkeypatch.setattr(turns, "MOST", most)
    asked = ids(rows, rows, 8, 9)
    tiny.assert_close(value_and_gradients(map_each, rows, *asked), value_and_gradients(plain, rows, *asked), 1e-12)


@tiny.in_float64
def test_nothing_but_trained_rows_or_nothing_but_others():
    for asked in (ids(1, 6, 4, 0), ids(1, 6, 0, 4)):
        tiny.assert_close(value_and_gradients(map_each, 6, *asked), value_and_gradients(plain, 6, *asked), 1e-12)


@tiny.in_float64
def test_lanes_are_mapped_side_by_side():
    """Under vmap over seeds, with the table shared."""
    table = jnp.asarray(np.random.default_rng(0).normal(size=(9, WIDTH)))
    kernels = jnp.asarray(np.random.default_rng(1).normal(size=(3, WIDTH, OUT)))
    asked = [ids(seed, 9, 2, 3) for seed in range(3)]
    trained, other = (jnp.stack(part) for part in zip(*asked))
    found = jax.vmap(map_each, in_axes=(None, 0, 0, 0))(table, kernels, trained, other)
    for lane, (a, b) in enumerate(asked):
        tiny.assert_close([part[lane] for part in found], plain(table, kernels[lane], a, b), 1e-12)


def test_turns_are_as_few_as_memory_allows(monkeypatch):
    monkeypatch.setattr(turns, "MOST", 100)
    assert turns.size(30, 8, 10, False) == 8 and turns.size(5, 8, 10, False) == 5
    assert [turns.size(n, 8, 10, True) for n in (1, 10, 11, 30)] == [1, 10, 6, 10]
    assert turns.size(3, 8, 1000, True) == 1  # a row at least
