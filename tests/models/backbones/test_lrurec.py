"""LRURec: the scan and its gradient against a loop over slots, where it starts, and the release's encodings."""

import encoders
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from golden_backbones import gelu, layer_norm
from hypothesis import given, settings
from hypothesis import strategies as st

from llmesr_jax.models.backbones import lrurec
from llmesr_jax.models.types import Sizes

SIZES = Sizes(num_items=9, max_len=5)
GROUPS = ((2, 5), (3, 2))
SLOTS, STATES = 16, 3


def loop(decay, u, sequences):
    """h[t] = u[t] + decay h[t - 1] along each sequence; h = u in empty slots."""
    h = np.array(u)
    for at in tiny.slots(sequences):
        for before, t in zip(at[:-1], at[1:]):
            h[t] = u[t] + decay * h[before]
    return h


def complex_numbers(rng, *shape):
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


def pair(z):
    return jnp.asarray(z.real), jnp.asarray(z.imag)


@jax.jit
def scanned(decay, u, positions_T, readout):
    """h, and the gradients of Re sum(conj(readout) h) in decay and u."""

    def value(decay, u):
        h = lrurec.scan(5, decay, u, positions_T)
        return sum((r * x).sum() for r, x in zip(readout, h)), h

    (_, h), gradients = jax.value_and_grad(value, (0, 1), has_aux=True)(decay, u)
    return h, gradients


@settings(max_examples=40)
@given(
    st.tuples(st.integers(0, 5), st.integers(0, 5), *[st.integers(0, 2)] * 3),
    st.booleans(),
    st.integers(0, 2**16),
)
def test_the_scan_is_the_loop(lengths, left, seed):
    rng = np.random.default_rng(seed)
    sequences = tiny.lay([[1] * n for n in lengths], GROUPS, left)
    u, readout = complex_numbers(rng, SLOTS, STATES), complex_numbers(rng, SLOTS, STATES)
    decay = rng.uniform(0.5, 1, STATES) * np.exp(1j * rng.uniform(0, 7, STATES))
    with tiny.float64():
        found = scanned(pair(decay), pair(u), sequences.positions_T, pair(readout))
    h, (into_decay, into_u) = jax.tree.map(np.asarray, found)
    wanted = loop(decay, u, sequences)
    np.testing.assert_allclose(h[0] + 1j * h[1], wanted, atol=1e-10)
    # The transposed loop: g[t] = readout[t] + conj(decay) g[t + 1]; decay gets the sum of g[t] conj(h[t - 1]).
    g, total = np.array(readout), np.zeros(STATES, complex)
    for at in tiny.slots(sequences):
        for before, t in zip(at[-2::-1], at[:0:-1]):
            g[before] += np.conj(decay) * g[t]
            total += g[t] * np.conj(wanted[before])
    np.testing.assert_allclose(into_u[0] + 1j * into_u[1], g, atol=1e-10)
    np.testing.assert_allclose(into_decay[0] + 1j * into_decay[1], total, atol=1e-9)


def test_the_scans_gradient_is_the_same_under_vmap():
    rng = np.random.default_rng(0)
    positions_T = tiny.lay([[1] * 4, [1] * 5, [1], [1, 1], []], GROUPS).positions_T
    decays, us, readout = (complex_numbers(rng, *shape) for shape in ((2, STATES), (2, SLOTS, STATES), (SLOTS, STATES)))
    with tiny.float64():
        together = jax.vmap(scanned, in_axes=(0, 0, None, None))(pair(decays), pair(us), positions_T, pair(readout))
        for i in range(2):
            alone = scanned(pair(decays[i]), pair(us[i]), positions_T, pair(readout))
            tiny.assert_close(jax.tree.map(lambda x: x[i], together), alone, 1e-12)


def test_one_block_by_hand():
    sequences = tiny.lay([[1, 2, 3], [4]], ((1, 4), (1, 2)))
    model, x = lrurec.Backbone(lrurec.Config(blocks=1), SIZES), encoders.inputs(sequences)
    params = jax.tree.map(np.asarray, encoders.init(model, x, sequences))
    p, x = params["blocks_0"], np.asarray(x)
    nu, theta, gamma = np.exp(p["recurrence"]["logs"])
    joined = lambda name: p["recurrence"][name][0] + 1j * p["recurrence"][name][1]  # noqa: E731
    u = gamma * (x @ joined("in_kernel") + joined("in_bias"))
    h = loop(np.exp(-nu + 1j * theta), u, sequences)
    change = (h @ joined("out_kernel")).real + p["recurrence"]["out_bias"]
    x = layer_norm(x + change, *(p["recurrence_residual"]["norm"][k] for k in ("scale", "bias")))
    hidden = gelu(x @ p["feedforward"]["in"]["kernel"] + p["feedforward"]["in"]["bias"])
    change = hidden @ p["feedforward"]["out"]["kernel"] + p["feedforward"]["out"]["bias"]
    wanted = layer_norm(x + change, *(p["feedforward"]["out_residual"]["norm"][k] for k in ("scale", "bias")))
    found = encoders.encode(model, params, encoders.inputs(sequences), sequences, with_stem=False)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_lambda_starts_on_the_ring():
    """Its squared modulus is uniform between the squared radii, its angle uniform, and gamma keeps |h|'s scale."""
    module = lrurec.Recurrence(lrurec.Config())
    nu, theta, gamma = np.exp(np.asarray(module._ring(jax.random.key(0), (3, 4096)), np.float64))
    square = np.exp(-2 * nu)
    assert 0.64 - 1e-6 < square.min() < 0.65 and 0.975 < square.max() < 0.9801 + 1e-6
    assert abs(square.mean() - (0.64 + 0.9801) / 2) < 0.01
    assert 0 < theta.min() and theta.max() < 2 * np.pi + 1e-5 and abs(theta.mean() - np.pi) < 0.15
    np.testing.assert_allclose(gamma**2, 1 - square, rtol=1e-3)


def test_the_newest_alone_is_the_newest_of_all_and_padding_does_not_matter():
    sequences = tiny.lay([[1, 2, 3], [4], [5, 6]], ((1, 5), (2, 2)))
    model, x = lrurec.Backbone(lrurec.Config(), SIZES), encoders.inputs(sequences)
    params = encoders.init(model, x, sequences)
    every = encoders.encode(model, params, x, sequences)
    newest = encoders.encode(model, params, x, sequences, last_only=True)
    np.testing.assert_allclose(newest, every[sequences.last_R], atol=1e-5)
    other = encoders.encode(model, params, encoders.changed_padding(x, sequences), sequences, last_only=True)
    np.testing.assert_array_equal(newest, other)


@pytest.mark.parametrize("path", encoders.golden_files("lrurec"), ids=lambda p: p.stem if p else "none")
def test_golden_encodings(path):
    def encoder_of(blocks, sizes):
        return lrurec.Backbone(lrurec.Config(blocks, dropout=0.0), sizes)

    encoders.assert_golden(path, "lrurec", encoder_of)
