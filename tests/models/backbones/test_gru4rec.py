"""GRU4Rec against its equations, one number at a time."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from llmesr_jax.models.backbones import gru4rec
from llmesr_jax.models.types import Sizes

SIZES = Sizes(num_items=9, max_len=5)


def backbone(**settings):
    return gru4rec.Backbone(gru4rec.Config(**settings), SIZES)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def by_equations(x_LxD, inward, recurrent):
    """Hidden states after each input, scalar by scalar."""
    width = x_LxD.shape[1]
    h, states = [0.0] * width, []
    for x in x_LxD:
        w = [sum(x[i] * inward[i, j] for i in range(width)) for j in range(3 * width)]
        u = [sum(h[i] * recurrent[i, j] for i in range(width)) for j in range(3 * width)]
        r = [sigmoid(w[j] + u[j]) for j in range(width)]
        z = [sigmoid(w[width + j] + u[width + j]) for j in range(width)]
        n = [math.tanh(w[2 * width + j] + r[j] * u[2 * width + j]) for j in range(width)]
        h = [(1 - z[j]) * n[j] + z[j] * h[j] for j in range(width)]
        states.append(h)
    return np.array(states)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("left", [False, True])
def test_states_follow_the_equations(layers, left):
    """Padding before a sequence does not move the state; layers stack."""
    sequences = tiny.lay([[1, 2, 3], [4]], ((1, 5), (1, 2)), left=left)
    x = jax.random.normal(jax.random.key(0), (7, 3))
    module = backbone(layers=layers)
    params = module.init(jax.random.key(1), x, sequences, True)["params"]
    out = np.asarray(jax.jit(lambda p: module.apply({"params": p}, x, sequences, True))(params))
    for at in tiny.slots(sequences):
        states = np.asarray(x)[at]
        for i in range(layers):
            states = by_equations(
                states, np.asarray(params[f"input_kernel_{i}"]), np.asarray(params[f"recurrent_kernel_{i}"])
            )
        np.testing.assert_allclose(out[at], states, atol=1e-5)


def test_through_padding_the_state_starts_in_the_padding():
    """The release's way: a row of 2 padded slots and 1 item is a sequence of 3 inputs."""
    sequences = tiny.lay([[1]], ((1, 3),), left=True)
    x = jax.random.normal(jax.random.key(0), (3, 2))
    module = backbone(through_padding=True)
    params = module.init(jax.random.key(1), x, sequences, True)["params"]
    out = module.apply({"params": params}, x, sequences, True, last_only=True)
    states = by_equations(np.asarray(x), *(np.asarray(params[f"{kind}_kernel_0"]) for kind in ("input", "recurrent")))
    np.testing.assert_allclose(out[0], states[-1], atol=1e-6)
    assert gru4rec.needs_padding(module.config) and not gru4rec.needs_padding(gru4rec.Config())


def test_the_stem_does_nothing():
    x, sequences = jnp.ones((3, 2)), tiny.lay([[1, 2]], ((1, 3),))
    np.testing.assert_array_equal(backbone().apply({}, x, sequences, False, method="stem"), x)


def test_without_bias_there_are_six_matrices_a_layer():
    x, sequences = jnp.ones((3, 4)), tiny.lay([[1, 2]], ((1, 3),))
    params = backbone(layers=2).init(jax.random.key(0), x, sequences, True)["params"]
    assert {name: x.shape for name, x in params.items()} == {
        f"{kind}_kernel_{i}": (4, 12) for kind in ("input", "recurrent") for i in range(2)
    }
