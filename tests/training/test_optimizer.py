"""Adam as optax has it, with a step size that may be traced; and the running average beside it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from llmesr_jax.training import optimizer


def path(transformation, gradients, start, **more):
    """Parameters and state after each step."""
    params, state, out = start, transformation.init(start), []
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam
        for gradient in gradients:
            updates, state = transformation.update(gradient, state, params, **more)
            params = optax.apply_updates(params, updates)
            out.append((params, state))
    return out


START = {"w": jnp.array([1.0, -2.0])}
GRADIENTS = [{"w": jnp.array(g)} for g in ([1.0, 3.0], [0.5, -1.0], [2.0, 0.0])]


def test_the_average_is_its_recursion_and_the_training_does_not_see_it():
    """Keeps 2/11, 3/12, 4/13 of itself in the first three steps: the least of those and `keep`."""
    plain = [params["w"] for params, _ in path(optimizer.adam(0.1), GRADIENTS, START)]
    run = path(optimizer.averaging(optimizer.adam(0.1), 0.25), GRADIENTS, START)
    expected = START["w"]
    for params, (own, state), kept in zip(plain, run, (2 / 11, 0.25, 0.25)):
        np.testing.assert_array_equal(own["w"], params)
        expected = kept * expected + (1 - kept) * params
        np.testing.assert_allclose(optimizer.monitored(own, state)["w"], expected, rtol=1e-6)


def test_without_an_average_the_parameters_themselves_are_watched():
    params, state = path(optimizer.adam(0.1), GRADIENTS, START)[-1]
    assert optimizer.monitored(params, state) is params


def test_an_average_that_keeps_nearly_all_forgets_the_start():
    """From 100 to 0, in 2,000 steps that stand still: what is left of the start is the product of the shares kept."""
    still = optimizer.averaging(optax.set_to_zero(), 0.99)
    state = still.init({"w": jnp.array(100.0)})
    step = jax.jit(lambda s, _: (still.update({"w": jnp.array(0.0)}, s, {"w": jnp.array(0.0)})[1], None))
    state, _ = jax.lax.scan(step, state, length=2000)
    shares = [min(0.99, (1 + t) / (10 + t)) for t in range(1, 2001)]
    np.testing.assert_allclose(state.average["w"], 100 * np.prod(shares), rtol=1e-3, atol=1e-12)


@pytest.mark.parametrize("make", [optimizer.adam, lambda rate: optimizer.averaging(optimizer.adam(rate), 0.9)])
def test_a_step_size_given_to_the_update_is_the_one_it_was_made_with(make):
    own, given = path(make(0.3), GRADIENTS, START), path(make(0.1), GRADIENTS, START, learning_rate=0.3)
    for a, b in zip(own, given):
        jax.tree.map(np.testing.assert_array_equal, a, b)
