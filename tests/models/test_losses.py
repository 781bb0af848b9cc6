"""Each loss against hand arithmetic or an explicit loop; masks, gradients and extreme scores."""

import dataclasses
import functools
import math

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmesr_jax.models import losses
from llmesr_jax.models.losses import bce, bpr, gbce, sampled_softmax, softmax

POSITIVE = jnp.array([2.0, -1.0, 0.5])
NEGATIVE = jnp.array([[0.0, 1.0], [0.0, 3.0], [0.5, -0.5]])
WHERE = jnp.array([True, False, True])
SAMPLED = ("bpr", "bce", "gbce", "sampled_softmax")


def softplus(x):
    return math.log1p(math.exp(x))


def test_bpr_is_the_mean_over_real_pairs():
    pairs = [softplus(0 - 2), softplus(1 - 2), softplus(0.5 - 0.5), softplus(-0.5 - 0.5)]
    assert float(bpr.bpr(POSITIVE, NEGATIVE, where=WHERE)) == pytest.approx(sum(pairs) / 4)


def test_bce_adds_the_mean_over_targets_and_the_mean_over_negatives():
    positive = (softplus(-2) + softplus(-0.5)) / 2
    negative = (softplus(0) + softplus(1) + softplus(0.5) + softplus(-0.5)) / 4
    assert float(bce.bce(POSITIVE, NEGATIVE, where=WHERE)) == pytest.approx(positive + negative)


def test_equal_scores_cost_what_chance_costs():
    zeros, everywhere = jnp.zeros(3), jnp.ones(3, bool)
    assert float(bpr.bpr(zeros, jnp.zeros((3, 2)), where=everywhere)) == pytest.approx(math.log(2))
    assert float(bce.bce(zeros, jnp.zeros((3, 2)), where=everywhere)) == pytest.approx(2 * math.log(2))


def test_gbce_by_hand():
    share, t = 2 / 9, 0.5
    beta = share * (t * (1 - 1 / share) + 1 / share)
    first = (beta * softplus(-2) + softplus(0) + softplus(1)) / 3
    second = (beta * softplus(-0.5) + softplus(0.5) + softplus(-0.5)) / 3
    found = gbce.gbce(POSITIVE, NEGATIVE, where=WHERE, num_items=10, calibration=t)
    assert float(found) == pytest.approx((first + second) / 2)


def test_gbce_is_bce_without_calibration_and_has_the_true_positive_weight_with_it():
    plain = gbce.gbce(POSITIVE, NEGATIVE, where=WHERE, num_items=10, calibration=0.0)
    halves = bce.bce(POSITIVE, NEGATIVE, where=WHERE) - bce.bce(POSITIVE, -1e4 * jnp.ones((3, 2)), where=WHERE)
    positive = bce.bce(POSITIVE, -1e4 * jnp.ones((3, 2)), where=WHERE)
    assert float(plain) == pytest.approx(float(positive + 2 * halves) / 3)
    gradient = jax.grad(gbce.gbce)(POSITIVE, NEGATIVE, where=WHERE, num_items=10, calibration=1.0)
    assert float(gradient[0]) == pytest.approx(-(2 / 9) / (1 + math.exp(2)) / 3 / 2, rel=1e-5)


def test_sampled_softmax_by_hand():
    first = math.log(math.exp(2) + math.exp(0) + math.exp(1)) - 2
    third = math.log(2 * math.exp(0.5) + math.exp(-0.5)) - 0.5
    found = sampled_softmax.sampled_softmax(POSITIVE, NEGATIVE, where=WHERE)
    assert float(found) == pytest.approx((first + third) / 2)
    log_draws = jnp.log(2 * jnp.array([[0.25, 0.5]]))
    first = math.log(math.exp(2) + math.exp(0) / (2 * 0.25) + math.exp(1) / (2 * 0.5)) - 2
    third = math.log(math.exp(0.5) + math.exp(0.5) / 0.5 + math.exp(-0.5)) - 0.5
    found = sampled_softmax.sampled_softmax(POSITIVE, NEGATIVE, where=WHERE, log_draws=log_draws)
    assert float(found) == pytest.approx((first + third) / 2)


@pytest.mark.parametrize("name", SAMPLED)
def test_a_negative_that_does_not_count_is_as_if_it_were_not_there(name):
    more = {
        "gbce": {"num_items": 10, "calibration": 0.5},
        "sampled_softmax": {"log_draws": jnp.log(jnp.full((1, 1), 0.1))},
    }
    loss = functools.partial(getattr(losses.PLUGINS.load(name), name), where=WHERE, **more.get(name, {}))
    drawn = jnp.array([[True, False], [True, True], [True, False]])
    value, gradient = jax.value_and_grad(loss, 1)(POSITIVE, NEGATIVE.at[0, 1].set(1e6), drawn=drawn)
    if name == "gbce":  # whose K is that of the draw
        assert np.isfinite(value)
    else:
        assert float(value) == pytest.approx(float(loss(POSITIVE, NEGATIVE[:, :1])), rel=1e-6)
    assert not gradient[0, 1] and not gradient[2, 1] and gradient[0, 0]


def _softmax_case(slots=7, items=11, width=3):
    keys = jax.random.split(jax.random.key(0), 3)
    h, table = jax.random.normal(keys[0], (slots, width)), jax.random.normal(keys[1], (items, width))
    return h, table, jax.random.randint(keys[2], (slots,), 0, items + 1).at[2].set(0)


def _plain_softmax(h, table, targets, scale):
    log_p = jax.nn.log_softmax(h @ table.T * scale, axis=1)
    rows = [t for t in range(len(targets)) if targets[t] > 0]
    return -sum(log_p[t, targets[t] - 1] for t in rows) / len(rows)


@pytest.mark.parametrize("block", [0, 1, 3, 7, 100])
def test_softmax_over_all_items_is_the_plain_one_in_any_blocks(block):
    h, table, targets = _softmax_case()
    wanted = jax.value_and_grad(_plain_softmax, (0, 1))(h, table, targets, 0.7)
    found = jax.value_and_grad(softmax.softmax, (0, 1))(h, table, targets, jnp.float32(0.7), block)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), found, wanted)
    assert float(softmax.softmax(h, table, targets, jnp.float32(0.7), block)) == pytest.approx(float(wanted[0]))
    doubled = jax.grad(lambda h: 2 * softmax.softmax(h, table, targets, jnp.float32(0.7), block))(h)
    np.testing.assert_allclose(doubled, 2 * wanted[1][0], rtol=1e-5, atol=1e-6)


def test_softmax_without_targets_and_with_extreme_scores():
    h, table, targets = _softmax_case()
    value, gradients = jax.value_and_grad(softmax.softmax, (0, 1))(h, table, targets * 0, jnp.float32(1))
    assert float(value) == 0 and not any(g.any() for g in gradients)
    value, gradients = jax.value_and_grad(softmax.softmax, (0, 1))(1e4 * h, table, targets, jnp.float32(1))
    assert np.isfinite(value) and all(np.isfinite(g).all() for g in gradients)
    # what stands in a position without a target does not matter
    other = softmax.softmax(h.at[2].set(1e4), table, targets, jnp.float32(1))
    assert float(other) == pytest.approx(float(softmax.softmax(h, table, targets, jnp.float32(1))))


def test_softmax_never_holds_all_scores():
    """The largest array of loss and gradient is one of the inputs' size: nothing has slots x items entries."""
    h, table = jax.ShapeDtypeStruct((4096, 8), "float32"), jax.ShapeDtypeStruct((512, 8), "float32")
    targets, scale = jax.ShapeDtypeStruct((4096,), "int32"), jax.ShapeDtypeStruct((), "float32")
    jaxpr = jax.make_jaxpr(jax.grad(softmax.softmax, (0, 1)), static_argnums=4)(h, table, targets, scale, 16)
    sizes = [v.aval.size for e in _equations(jaxpr.jaxpr) for v in e.outvars]
    assert max(sizes) == 4096 * 8


def _equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from _equations(inner)


@pytest.mark.parametrize("popular", [False, True])
def test_sampled_softmax_tends_to_softmax_as_more_is_drawn(popular):
    """With log_q, uniform and popularity draws; the error falls like 1 / sqrt(K)."""
    h, table, targets = _softmax_case(items=40)
    where, at = targets > 0, jnp.maximum(targets - 1, 0)
    scores = h @ table.T
    full = float(softmax.softmax(h, table, targets, jnp.float32(1)))
    q = jnp.arange(1, 41.0) if popular else jnp.ones(40)
    q = q / q.sum()

    def sampled(key, count):
        ids = jax.random.choice(key, 40, (count,), p=q)
        drawn, log_draws = ids[None, :] != at[:, None], jnp.log(count * q[ids])[None, :]
        positive = jnp.take_along_axis(scores, at[:, None], 1)[:, 0]
        return sampled_softmax.sampled_softmax(positive, scores[:, ids], where=where, drawn=drawn, log_draws=log_draws)

    errors = [
        np.abs(np.array([sampled(k, count) for k in jax.random.split(jax.random.key(1), 8)]) - full).mean()
        for count in (20, 100_000)
    ]
    assert errors[1] < errors[0] / 10 and errors[1] < 0.02


@pytest.mark.parametrize("name", ["bpr", "bce", "sampled_softmax"])
def test_extreme_scores_stay_finite_and_linear(name):
    """softplus(x) -> x: no overflow where exp(x) would, and a gradient of 1 per pair."""
    value, gradient = jax.value_and_grad(getattr(losses.PLUGINS.load(name), name), argnums=1)(
        jnp.array([-1e4]), jnp.array([[1e4]]), where=jnp.array([True])
    )
    assert float(value) == pytest.approx(2e4)
    assert float(gradient[0, 0]) == pytest.approx(1.0)
    swapped = getattr(losses.PLUGINS.load(name), name)(jnp.array([1e4]), jnp.array([[-1e4]]), where=jnp.array([True]))
    assert float(swapped) == 0.0


@pytest.mark.parametrize("name", ["bpr", "bce", "sampled_softmax"])
def test_hidden_positions_send_no_gradient_whatever_they_hold(name):
    positive, negative = POSITIVE.at[1].set(1e30), NEGATIVE.at[1].set(-1e30)
    gradients = jax.grad(getattr(losses.PLUGINS.load(name), name), argnums=(0, 1))(positive, negative, where=WHERE)
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


NAMES = losses.PLUGINS.names()
DRAWN = [name for name in NAMES if losses.PLUGINS.load(name).ITEMS == "drawn"]


def drawn(positive, negative, where, counts=None):
    log_q = jnp.full((1, negative.shape[1]), -2.0)
    return losses.Drawn(positive, negative, where, counts, log_q, jnp.asarray(negative.shape[1]), 30)


@pytest.mark.parametrize("name", DRAWN)
def test_a_loss_reads_what_counts_and_is_less_for_a_better_ranking(name):
    """Gradients: at most 0 in each target, at least 0 in each negative, exactly 0 in what does not count."""
    module = losses.PLUGINS.load(name)
    rng = np.random.default_rng(1)
    positive, negative = jnp.asarray(rng.normal(size=5), jnp.float32), jnp.asarray(rng.normal(size=(5, 4)), jnp.float32)
    where = jnp.array([True, True, False, True, True])
    counts = jnp.asarray(rng.random((5, 4)) < 0.7).at[0].set(True)

    def value(positive, negative, where=where):
        return module.value(module.Config(), drawn(positive, negative, where, counts))

    found, (in_positive, in_negative) = jax.value_and_grad(value, (0, 1))(positive, negative)
    assert found.shape == () and np.isfinite(found)
    assert (in_positive <= 0).all() and (in_negative >= 0).all()
    assert in_positive[0] < 0 and (in_negative[0] > 0).any()
    assert not in_positive[2] and not in_negative[2].any() and not in_negative[~counts].any()
    assert float(value(positive.at[2].set(1e4), jnp.where(counts, negative, 1e4))) == pytest.approx(float(found))
    assert float(value(positive, negative, jnp.zeros(5, bool))) == 0.0


@pytest.mark.parametrize("name", [name for name in NAMES if name not in DRAWN])
def test_a_loss_of_all_items_reads_positions_with_a_target(name):
    module = losses.PLUGINS.load(name)
    h, items = jax.random.normal(jax.random.key(1), (3, 4)), jax.random.normal(jax.random.key(2), (6, 4))

    def value(h, targets=jnp.array([2, 0, 6])):
        return module.value(module.Config(), losses.AllItems(h, items, targets, jnp.float32(1)))

    found, gradient = jax.value_and_grad(value)(h)
    assert found.shape == () and np.isfinite(found)
    assert np.abs(gradient[jnp.array([0, 2])]).max() > 0 and not gradient[1].any()
    assert float(value(h, jnp.zeros(3, int))) == 0.0


@pytest.mark.parametrize("name", [n for n in NAMES if dataclasses.fields(losses.PLUGINS.load(n).Config)])
def test_every_setting_of_a_loss_matters(name):
    """Each at another value than its default gives another loss."""
    module = losses.PLUGINS.load(name)
    scored = drawn(jnp.array([0.5, 1.0]), jnp.array([[0.3, -1.0, 2.0], [0.4, 0.8, 0.1]]), jnp.array([True, True]))
    usual = float(module.value(module.Config(), scored))
    for field in dataclasses.fields(module.Config):
        other = not field.default if field.type in (bool, "bool") else field.default * 0.5 + 0.1
        assert float(module.value(module.Config(**{field.name: other}), scored)) != usual, field.name
