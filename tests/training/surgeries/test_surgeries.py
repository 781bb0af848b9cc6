"""Gradient surgery: each by hand arithmetic, what all must hold to, and one step of training with each."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from llmesr_jax.core import knobs
from llmesr_jax.training import config as config_lib
from llmesr_jax.training import optimizer, state, steps, surgeries
from llmesr_jax.training.surgeries import Terms, cagrad, gradnorm, pcgrad, uncertainty

NAMES = surgeries.PLUGINS.names()
# Two terms that conflict, over a tree of two parameters: a . b = -3, |a|^2 = 9, |b|^2 = 5.
A = {"w": jnp.array([3.0, 0.0]), "b": jnp.array(0.0)}
B = {"w": jnp.array([-1.0, 0.0]), "b": jnp.array(2.0)}


def terms(*gradients, values=(1.0, 2.0, 3.0, 4.0), seed=0):
    names = "abcd"[: len(gradients)]
    return Terms(dict(zip(names, gradients)), dict(zip(names, map(jnp.float32, values))), jax.random.key(seed))


def flat(tree):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


def combined(name, found, **changes):
    module = surgeries.PLUGINS.load(name)
    config = module.Config(**changes)
    return module.combine(config, found, module.init(config, len(found.gradients)))


def test_pcgrad_by_hand():
    """Each loses its part along the other: a - (-3/5) b = (2.4, 0, 1.2) and b - (-3/9) a = (0, 0, 2)."""
    found, _ = combined("pcgrad", terms(A, B))
    np.testing.assert_allclose(found["w"], [2.4, 0.0], atol=1e-6)
    np.testing.assert_allclose(found["b"], 3.2, atol=1e-6)
    alone, _ = combined("pcgrad", terms(A, {"w": jnp.array([1.0, 5.0]), "b": jnp.array(-9.0)}))  # no conflict
    np.testing.assert_allclose(flat(alone), [-9, 4, 5], atol=1e-6)


@settings(max_examples=12)
@given(st.integers(2, 4), st.integers(0, 2**31))
def test_pcgrad_is_the_papers_loop_in_some_order(count, seed):
    gradients = np.random.default_rng(seed).normal(size=(count, 5))
    found = np.asarray(pcgrad.weights(jnp.asarray(gradients @ gradients.T, jnp.float32), jax.random.key(seed % 99)))
    choices = []  # of each term: its gradient after the others in each order
    for i in range(count):
        own = []
        for order in itertools.permutations([j for j in range(count) if j != i]):
            g = gradients[i].copy()
            for j in order:
                g -= min(g @ gradients[j], 0) / (gradients[j] @ gradients[j]) * gradients[j]
            own.append(g)
        choices.append(own)
    sums = [np.sum(one, axis=0) for one in itertools.product(*choices)]
    assert min(np.abs(found @ gradients - one).max() for one in sums) < 1e-4


@settings(max_examples=12)
@given(st.integers(2, 4), st.integers(0, 2**31))
def test_cagrad_is_the_minimum_that_scipy_finds(count, seed):
    gradients = np.random.default_rng(seed).normal(size=(count, 6))
    gradients[0] -= 2 * gradients[1]  # conflicts
    mean, c = gradients.mean(axis=0), 0.5
    radius = c * np.linalg.norm(mean)
    objective = lambda w: w @ gradients @ mean + radius * np.linalg.norm(w @ gradients)  # noqa: E731
    simplex = {"type": "eq", "fun": lambda w: w.sum() - 1}
    starts = [np.full(count, 1 / count), *np.eye(count)]
    best = min(
        (scipy.optimize.minimize(objective, w, bounds=[(0, 1)] * count, constraints=simplex) for w in starts),
        key=lambda one: one.fun,
    )
    config = cagrad.Config(c=c, iterations=400)
    found = np.asarray(cagrad.weights(config, jnp.asarray(gradients @ gradients.T, jnp.float32))) @ gradients / count
    # The direction's worst term is as well off as at the minimum (strong duality), and it is in the ball.
    assert np.linalg.norm(found - mean) <= radius * 1.001
    assert (gradients @ found).min() >= best.fun - 0.02 * np.abs(gradients @ mean).max() - 1e-4


def test_cagrad_with_c_0_is_the_sum():
    found, _ = combined("cagrad", terms(A, B), c=0.0)
    np.testing.assert_allclose(flat(found), flat(A) + flat(B), atol=1e-6)


def test_gradnorm_by_hand():
    """Lengths 3 and sqrt(5); both terms stand at their first value, so the target is the mean: a's weight falls."""
    found, moved = combined("gradnorm", terms(A, B), rate=0.1)
    np.testing.assert_allclose(flat(found), flat(A) + flat(B), atol=1e-6)  # weights 1 in the first step
    after = np.array([1 - 0.1 * 3, 1 + 0.1 * np.sqrt(5)])
    np.testing.assert_allclose(moved["weights"], after * 2 / after.sum(), rtol=1e-6)
    assert moved["first"].tolist() == [1.0, 2.0]
    # Later a has fallen to 1/4 and b to 1/2 of it: r = 2/3 and 4/3, targets under asymmetry 1 are 2/3 and 4/3 of the mean.
    weights, lengths = jnp.array([0.5, 1.5]), jnp.array([4.0, 2.0])  # w g = 2 and 3, mean 2.5, targets 1.67 and 3.33
    found = gradnorm.moved(gradnorm.Config(asymmetry=1.0, rate=0.01), weights, lengths, jnp.array([0.25, 0.5]))
    wanted = np.array([0.5 - 0.01 * 4, 1.5 + 0.01 * 2])
    np.testing.assert_allclose(found, wanted * 2 / wanted.sum(), rtol=1e-6)


def test_uncertainty_by_hand():
    module, config = uncertainty, uncertainty.Config(rate=0.1)
    found, after = module.combine(config, terms(A, B, values=(1.0, 4.0)), jnp.array([0.0, np.log(2.0)]))
    np.testing.assert_allclose(flat(found), flat(A) + flat(B) / 2, atol=1e-6)
    np.testing.assert_allclose(after, [0 - 0.1 * (0.5 - 1), np.log(2) - 0.1 * (0.5 - 2)], rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_seeds_together_are_what_each_is_alone(name):
    module = surgeries.PLUGINS.load(name)
    config = module.Config()
    both = [terms(A, B, seed=1), terms(B, A, values=(2.0, 1.0), seed=2)]

    def two(found):
        state = module.init(config, 2)
        for _ in range(2):
            gradient, state = module.combine(config, found, state)
        return gradient, state

    stacked = jax.tree.map(lambda *x: jnp.stack(x), *both)
    together = jax.vmap(two)(stacked)
    for i, one in enumerate(both):
        jax.tree.map(lambda x, y, i=i: np.testing.assert_allclose(x[i], y, rtol=1e-5, atol=1e-6), together, two(one))


@pytest.mark.parametrize("name", NAMES)
def test_settings_have_help_and_are_used_where_it_is_chosen(name):
    assert all(setting.doc for setting in knobs.fields(surgeries.PLUGINS.load(name).Config).values())
    used = config_lib.used(config_lib.build({"method": "llmesr", "train.surgery": name}))
    assert {key.partition(".")[0] for key in used} & set(NAMES) <= {name}


@pytest.fixture(scope="module")
def case():
    return tiny.case("gru4rec", "llmesr")


def first_step(case, made, touched=None):
    with jax.numpy_dtype_promotion("standard"):
        one = state.take(state.create(case.model, made, case.tables, case.batch(), (1,)), 0)
        run = jax.jit(steps.train_step, static_argnames=("recommender", "optimizer", "touched"))
        numbers = {"train.learning_rate": jnp.float32(0.1)}
        key = jax.random.key(1)
        return run(case.model, made, one, case.tables, case.batch(), key, jnp.float32(1), touched, numbers)


def sgd():
    return optimizer.injected(optax.sgd, 1e-3)


@pytest.mark.slow
def test_the_terms_gradients_add_up_and_a_step_without_surgery_is_their_sum(case):
    """cagrad at c = 0 is the sum, so its step is the plain one, touched or dense, and under an average."""
    plain, values = first_step(case, sgd())
    made = optimizer.operating(sgd(), "cagrad", cagrad.Config(c=0.0), 2)
    found, of_terms = first_step(case, made)
    tiny.assert_close(found.params, plain.params, 1e-5)
    assert values.keys() == of_terms.keys() and float(values["total"]) == pytest.approx(float(of_terms["total"]), 1e-6)
    axes = case.model.axes(case.tables, case.batch())
    touched, _ = first_step(case, optimizer.averaging(made, 0.9), touched=axes)
    tiny.assert_close(touched.params, plain.params, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_step_with_each(case, name):
    """Its gradient is what `combine` makes of the terms' gradients: plain SGD shows it."""
    module = surgeries.PLUGINS.load(name)
    made = optimizer.operating(sgd(), name, module.Config(), 2)
    after, _ = first_step(case, made)
    before = state.take(state.create(case.model, sgd(), case.tables, case.batch(), (1,)), 0)
    key, epoch = jax.random.key(1), jnp.float32(1)
    _, _, parts = jax.jit(steps.by_term, static_argnums=0)(
        case.model, before.params, case.tables, case.batch(), key, epoch
    )
    wanted, _ = module.combine(module.Config(), parts, module.init(module.Config(), 2))
    stepped = jax.tree.map(lambda p, g: p - 0.1 * g, before.params, wanted)
    tiny.assert_close(after.params, stepped, 1e-5)
