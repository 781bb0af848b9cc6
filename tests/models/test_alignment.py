"""FAERec's alignment losses: hand arithmetic, and loops over every single occurrence."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from alignment_loops import info_nce_by_loops, twins_by_loops
from hypothesis import given, settings
from hypothesis import strategies as st

from llmesr_jax.models import alignment
from llmesr_jax.models.kernels import turns

ITEMS, WIDTH = 5, 3


def plain_info_nce(x, y, occurrences, temperature):
    """The release's way: a matrix over occurrences."""
    x, y = (z / jnp.linalg.norm(z, axis=1, keepdims=True) for z in (x[occurrences], y[occurrences]))
    same = (occurrences[:, None] == occurrences[None, :]) & ~np.eye(len(occurrences), dtype=bool)
    log_p = jax.nn.log_softmax(jnp.where(same, -jnp.inf, x @ y.T / temperature), axis=1)
    return -jnp.mean(jnp.diagonal(log_p))


def test_info_nce_by_hand():
    """Two items at right angles, the first twice: its rows see one negative, the other's row sees two."""
    x = jnp.array([[2.0, 0.0], [0.0, 5.0]])
    twice, once = math.log(math.e**2 + 1) - 2, math.log(math.e**2 + 2) - 2
    found = alignment.info_nce(x, x, jnp.array([2, 1]), temperature=0.5)
    assert float(found) == pytest.approx((2 * twice + once) / 3, rel=1e-6)


def test_barlow_twins_by_hand():
    """Two rows: z = +-1/sqrt(2) (1 - small) in each dimension, so C = +-1/2; both signs against lambda = 0.1."""
    x, y = jnp.array([[0.0, 0.0], [2.0, 4.0]]), jnp.array([[1.0, 3.0], [5.0, -3.0]])
    found = float(alignment.barlow_twins(x, y, jnp.array([1, 1]), redundancy=0.1))
    # C = [[1/2, -1/2], [1/2, -1/2]]
    assert found == pytest.approx((1 - 0.5) ** 2 + (1 + 0.5) ** 2 + 0.1 * 2 * 0.25, rel=1e-4)


@pytest.mark.parametrize(
    "values, counts, wanted",
    [
        ([5, 1, 3], [1, 1, 1], 3),
        ([5, 1, 3, 9], [1, 1, 1, 1], 3),  # the lower of 3 and 5
        ([5, 1, 3], [3, 1, 1], 5),  # 1 3 5 5 5
        ([5, 1, 3], [0, 1, 1], 1),
        ([7, 2, 9], [0, 0, 4], 9),
    ],
)
def test_the_lower_median(values, counts, wanted):
    assert int(alignment.lower_median(jnp.array(values), jnp.array(counts))) == wanted


arrays = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).normal(size=(2, ITEMS, WIDTH)))
counts = st.lists(st.integers(0, 3), min_size=ITEMS, max_size=ITEMS)


@functools.partial(jax.jit, static_argnames="groups")
def ours(x, y, counts, popularity, groups=True):
    one = alignment.info_nce(x, y, counts, temperature=0.2)
    other = alignment.feature_alignment(x, y, counts, popularity, redundancy=0.05, groups=groups)
    return one, other


@settings(max_examples=25)
@given(arrays, counts, st.lists(st.integers(1, 4), min_size=ITEMS, max_size=ITEMS))
def test_counted_rows_are_the_loop_over_occurrences(xy, counts, popularity):
    occurrences = np.repeat(np.arange(ITEMS), counts)
    x, y = xy
    popularity = np.array(popularity)
    of_rows = popularity[occurrences]
    with tiny.float64():
        item, feature = ours(*map(jnp.asarray, (x, y, np.array(counts), popularity)))
        _, together = ours(*map(jnp.asarray, (x, y, np.array(counts), popularity)), groups=False)
    assert float(item) == pytest.approx(info_nce_by_loops(x, y, occurrences, 0.2), rel=1e-9, abs=1e-12)
    assert float(together) == pytest.approx(twins_by_loops(x[occurrences], y[occurrences], 0.05), rel=1e-9)
    wanted = 0.0
    if len(occurrences):
        high = of_rows >= np.sort(of_rows)[(len(of_rows) - 1) // 2]
        parts = (occurrences[high], occurrences[~high])
        wanted = sum(twins_by_loops(x[part], y[part], 0.05) for part in parts)
    assert float(feature) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(
    "block, columns, whole", [(1, 1, False), (4, 3, False), (3, 100, False), (100, 100, False), (4, 1, True)]
)
def test_blocks_give_the_plain_gradient_and_its_derivative(block, columns, whole, monkeypatch):
    """Values, gradients in both sides, and the gradient's derivative along a direction; the last block is not full."""
    monkeypatch.setattr(alignment, "_ROWS", block)
    monkeypatch.setattr(alignment, "_COLUMNS", columns)
    monkeypatch.setattr(turns, "MOST", 36)  # whole: 3 turns of 3 rows and all columns
    rng = np.random.default_rng(3)
    counts = np.array([2, 0, 1, 3, 1, 0, 0, 0, 1])  # the block of 4 has an empty one
    with tiny.float64(), jax.numpy_rank_promotion("allow"):
        x, y = jnp.asarray(rng.normal(size=(2, 9, WIDTH)))
        fast = lambda x, y: alignment.info_nce(x, y, jnp.asarray(counts), temperature=0.3, whole=whole)  # noqa: E731
        slow = lambda x, y: plain_info_nce(x, y, np.repeat(np.arange(9), counts), 0.3)  # noqa: E731

        def all_of(f):
            gradient = jax.grad(f, argnums=(0, 1))
            return f(x, y), gradient(x, y), jax.jvp(gradient, (x, y), (jnp.cos(x), jnp.sin(y)))[1]

        tiny.assert_close(*(jax.jit(functools.partial(all_of, f))() for f in (fast, slow)), 1e-10)
        gradient = jax.grad(fast, argnums=(0, 1))(x, y)
        assert not any(np.asarray(g)[counts == 0].any() for g in gradient)


def test_seeds_together_are_seeds_alone():
    rng = np.random.default_rng(4)
    x, y = jnp.asarray(rng.normal(size=(2, 3, 7, WIDTH)), jnp.float32)
    counts = jnp.asarray(rng.integers(0, 3, (3, 7)), jnp.int32)
    one = jax.value_and_grad(lambda x, y, counts: alignment.info_nce(x, y, counts, temperature=0.3), argnums=(0, 1))
    together = jax.jit(jax.vmap(one))(x, y, counts)
    for i in range(3):
        tiny.assert_close(jax.tree.map(lambda z: z[i], together), one(x[i], y[i], counts[i]), 1e-5)  # noqa: B023


def test_no_matrix_of_all_pairs_is_ever_made():
    """25,600 rows forth and back: what the compiled program keeps beside its arguments stays below 300 MB."""
    shapes = jax.ShapeDtypeStruct((25_600, 128), jnp.float32), jax.ShapeDtypeStruct((25_600,), jnp.int32)
    loss = lambda x, y, counts: alignment.info_nce(x, y, counts, temperature=0.05)  # noqa: E731
    compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(shapes[0], *shapes).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 300e6
    assert "25600,25600" not in compiled.as_text()


@pytest.mark.parametrize("occurs", [[0, 0], [1, 0], [2, 0]])
def test_too_few_rows_cost_nothing_and_send_finite_gradients(occurs):
    """One item, however often, has no negative and no spread; nothing has neither."""
    x = jnp.array([[1.0, 2.0], [0.0, 0.0]])

    def total(x, y):
        counts = jnp.array(occurs)
        item = alignment.info_nce(x, y, counts, temperature=0.05)
        return item + alignment.feature_alignment(x, y, counts, jnp.array([3, 1]), redundancy=0.005)

    value, gradients = jax.value_and_grad(total, argnums=(0, 1))(x, 2 * x)
    # Two equal rows: C = 0, so each of the two diagonal entries costs 1.
    assert float(value) == pytest.approx(2.0 if occurs[0] == 2 else 0.0, abs=1e-5)
    assert all(np.isfinite(g).all() for g in gradients)
