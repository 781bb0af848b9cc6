"""Each loss against hand arithmetic or an explicit loop; masks, gradients and extreme scores."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmesr_jax import losses

POSITIVE = jnp.array([2.0, -1.0, 0.5])
NEGATIVE = jnp.array([[0.0, 1.0], [0.0, 3.0], [0.5, -0.5]])
WHERE = jnp.array([True, False, True])


def softplus(x):
    return math.log1p(math.exp(x))


def test_bpr_is_the_mean_over_real_pairs():
    pairs = [softplus(0 - 2), softplus(1 - 2), softplus(0.5 - 0.5), softplus(-0.5 - 0.5)]
    assert float(losses.bpr(POSITIVE, NEGATIVE, where=WHERE)) == pytest.approx(sum(pairs) / 4)


def test_bce_adds_the_mean_over_targets_and_the_mean_over_negatives():
    positive = (softplus(-2) + softplus(-0.5)) / 2
    negative = (softplus(0) + softplus(1) + softplus(0.5) + softplus(-0.5)) / 4
    assert float(losses.bce(POSITIVE, NEGATIVE, where=WHERE)) == pytest.approx(positive + negative)


def test_equal_scores_cost_what_chance_costs():
    zeros, everywhere = jnp.zeros(3), jnp.ones(3, bool)
    assert float(losses.bpr(zeros, jnp.zeros((3, 2)), where=everywhere)) == pytest.approx(math.log(2))
    assert float(losses.bce(zeros, jnp.zeros((3, 2)), where=everywhere)) == pytest.approx(2 * math.log(2))


@pytest.mark.parametrize("name", losses.RANKING)
def test_extreme_scores_stay_finite_and_linear(name):
    """softplus(x) -> x: no overflow where exp(x) would, and a gradient of 1 per pair."""
    value, gradient = jax.value_and_grad(losses.RANKING[name], argnums=1)(
        jnp.array([-1e4]), jnp.array([[1e4]]), where=jnp.array([True])
    )
    assert float(value) == pytest.approx(2e4)
    assert float(gradient[0, 0]) == pytest.approx(1.0)
    swapped = losses.RANKING[name](jnp.array([1e4]), jnp.array([[-1e4]]), where=jnp.array([True]))
    assert float(swapped) == 0.0


@pytest.mark.parametrize("name", losses.RANKING)
def test_hidden_positions_send_no_gradient_whatever_they_hold(name):
    positive, negative = POSITIVE.at[1].set(1e30), NEGATIVE.at[1].set(-1e30)
    gradients = jax.grad(losses.RANKING[name], argnums=(0, 1))(positive, negative, where=WHERE)
    assert float(gradients[0][1]) == 0.0 and not gradients[1][1].any()
    assert np.isfinite(gradients[0]).all() and np.isfinite(gradients[1]).all()


def test_masked_mean_of_nothing_is_zero_with_zero_gradient():
    value, gradient = jax.value_and_grad(losses.masked_mean)(jnp.array([3.0, 5.0]), jnp.zeros(2, bool))
    assert float(value) == 0.0 and not gradient.any()


def test_masked_mean_ignores_what_is_not_finite_and_hidden():
    x = jnp.array([1.0, jnp.inf, 5.0])
    assert float(losses.masked_mean(x, jnp.array([True, False, True]))) == 3.0


def test_squared_error_by_hand():
    students, teachers = (
        jnp.array([[1.0, 2.0], [0.0, 0.0], [9.0, 9.0]]),
        jnp.array([[0.0, 4.0], [2.0, 0.0], [0.0, 0.0]]),
    )
    where = jnp.array([True, True, False])  # squares: 1 + 4, 4 + 0
    assert float(losses.squared_error(students, teachers, where=where)) == pytest.approx((5 / 2 + 4 / 2) / 2)
    total = losses.squared_error(students, teachers, where=where, reduction="sum")
    assert float(total) == pytest.approx((5 + 4) / 2)


def contrastive_by_loops(x, y, where, targets_from=None):
    """The loss over the rows that exist, one scalar at a time; `targets_from` gives the (x, y) behind the targets."""
    rows = [i for i, real in enumerate(where) if real]
    tx, ty = targets_from or (x, y)
    dot = lambda a, b: sum(p * q for p, q in zip(a, b))  # noqa: E731
    soft = {}
    for i in rows:
        weights = {j: math.exp((dot(tx[i], tx[j]) + dot(ty[i], ty[j])) / 2) for j in rows}
        soft |= {(i, j): weight / sum(weights.values()) for j, weight in weights.items()}
    total = 0.0
    for i in rows:
        forward = math.log(sum(math.exp(dot(x[i], y[j])) for j in rows))
        backward = math.log(sum(math.exp(dot(x[j], y[i])) for j in rows))
        for j in rows:
            total -= soft[i, j] * (dot(x[i], y[j]) - forward) / 2
            total -= soft[j, i] * (dot(x[j], y[i]) - backward) / 2
    return total / len(rows)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.booleans(), min_size=4, max_size=4).filter(any))
def test_soft_contrastive_is_the_explicit_loop_over_real_rows(seed, where):
    x, y = np.random.default_rng(seed).normal(size=(2, 4, 3)).astype(np.float32)
    ours = losses.soft_contrastive(jnp.asarray(x), jnp.asarray(y), where=jnp.array(where))
    assert float(ours) == pytest.approx(contrastive_by_loops(x.tolist(), y.tolist(), where), rel=1e-5, abs=1e-6)


def test_soft_contrastive_differentiates_through_its_targets():
    """The gradient is that of the whole function, which differs from the one with the targets held fixed."""
    x, y = np.random.default_rng(0).normal(size=(2, 3, 2))
    where, step = [True, False, True], 1e-6
    with jax.enable_x64(True):
        gradient = np.asarray(jax.grad(losses.soft_contrastive)(jnp.asarray(x), jnp.asarray(y), where=jnp.array(where)))

    def numeric(fixed):
        out = np.zeros_like(x)
        for index in np.ndindex(*x.shape):
            shift = np.zeros_like(x)
            shift[index] = step
            up, down = (
                contrastive_by_loops(z.tolist(), y.tolist(), where, (x.tolist(), y.tolist()) if fixed else None)
                for z in (x + shift, x - shift)
            )
            out[index] = (up - down) / (2 * step)
        return out

    np.testing.assert_allclose(gradient, numeric(fixed=False), atol=1e-8)
    assert np.abs(gradient - numeric(fixed=True)).max() > 1e-2
    assert not gradient[1].any()


def test_soft_contrastive_of_nobody_is_zero_and_extremes_stay_finite():
    x = jnp.array([[50.0, 0.0], [0.0, -50.0]])
    assert float(losses.soft_contrastive(x, x, where=jnp.zeros(2, bool))) == 0.0
    value, gradient = jax.value_and_grad(losses.soft_contrastive)(x, -x, where=jnp.ones(2, bool))
    assert np.isfinite(value) and np.isfinite(gradient).all()
