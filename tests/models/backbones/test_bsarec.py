"""BSARec: its low-pass filter against a Fourier transform, a block as the paper writes it, and what padding does."""

import encoders
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf

from llmesr_jax.models.backbones import bsarec, sasrec
from llmesr_jax.models.types import Sizes

LENGTH = 6
SIZES = Sizes(num_items=9, max_len=LENGTH, normed=True)
SEQUENCES = tiny.lay([[1, 2, 3, 4], [5]], ((2, LENGTH),), left=True)


def encoder(sizes=SIZES, **settings):
    return bsarec.Backbone(bsarec.Config(**settings), sizes)


def low_by_fft(x, cutoff):
    """The lowest cutoff // 2 + 1 frequencies along the axis before the last."""
    spectrum = np.fft.rfft(x, axis=-2)
    spectrum[..., cutoff // 2 + 1 :, :] = 0
    return np.fft.irfft(spectrum, n=x.shape[-2], axis=-2)


@given(st.integers(1, 9), st.integers(1, 12), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_the_low_pass_part_is_that_of_a_fourier_transform(period, cutoff, items):
    x = np.zeros((2, period, 3))
    x[:, : min(items, period)] = np.random.default_rng(items).normal(size=(2, min(items, period), 3))
    rows = tiny.lay([[1] * period] * 2, ((2, period),))
    with tiny.float64():
        found = bsarec.low_pass(jnp.asarray(x.reshape(-1, 3)), rows, period, cutoff)
    np.testing.assert_allclose(np.asarray(found).reshape(x.shape), low_by_fft(x, cutoff), atol=1e-12)


def test_one_frequency_is_the_mean_and_all_are_the_signal():
    np.testing.assert_allclose(bsarec.dirichlet(4, 1), [0.25] * 4)
    np.testing.assert_allclose(
        bsarec.dirichlet(4, 2), [0.75, 0.25, -0.25, 0.25], atol=1e-15
    )  # (1 + 2 cos(pi n / 2)) / 4
    for period in (4, 5):
        np.testing.assert_allclose(bsarec.dirichlet(period, 3), [1, *[0] * (period - 1)], atol=1e-15)


def release(tree, x, real, blocks, alpha, cutoff):
    """The encoder of one full row in plain NumPy, as the authors' code computes it: x (L, D), real bool (L,)."""

    def norm(x, p):
        x = x - x.mean(axis=-1, keepdims=True)
        return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-12) * p["norm"]["scale"] + p["norm"]["bias"]

    for i in range(blocks):
        p = tree[f"blocks_{i}"]
        low = low_by_fft(x, cutoff)
        filtered = norm(low + p["beta"] ** 2 * (x - low) + x, p["filter_residual"])
        q, k, v = np.split(x @ p["attention"]["in_kernel"] + p["attention"]["in_bias"], 3, axis=1)
        seen = np.tril(np.ones((len(x), len(x)), bool)) & real[None]
        scores = q @ k.T / np.sqrt(x.shape[1]) - 10000.0 * ~seen
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        mixed = weights / weights.sum(axis=1, keepdims=True) @ v
        mixed = mixed @ p["attention"]["out"]["kernel"] + p["attention"]["out"]["bias"]
        x = alpha * filtered + (1 - alpha) * norm(mixed + x, p["attention_residual"])
        f = p["feedforward"]
        hidden = x @ f["in"]["kernel"] + f["in"]["bias"]
        hidden = hidden * 0.5 * (1 + erf(hidden / np.sqrt(2)))
        x = norm(hidden @ f["out"]["kernel"] + f["out"]["bias"] + x, f["out_residual"])
    return x


@pytest.mark.parametrize("through_padding", [False, True])
def test_the_encoder_is_that_of_the_release(through_padding):
    """Padding is zeros before each filter, or, as in the release, whatever stands there."""
    model = encoder(through_padding=through_padding, alpha=0.6, cutoff=3)
    assert bsarec.needs_padding(model.config) == through_padding
    x = np.asarray(encoders.inputs(SEQUENCES), np.float64)
    real = np.asarray(SEQUENCES.valid_T).reshape(2, LENGTH)
    with tiny.float64():
        params = tiny.as_float64(encoders.init(model, jnp.asarray(x, jnp.float32), SEQUENCES))
        found = encoders.encode(model, params, jnp.asarray(x), SEQUENCES, last_only=True, with_stem=False)
    tree = jax.tree.map(np.asarray, params)
    for row, (x_LxD, real_L) in enumerate(zip(x.reshape(2, LENGTH, -1), real)):
        if through_padding:
            wanted = release(tree, x_LxD, real_L, 2, 0.6, 3)[-1]
        else:  # a block at a time: what a filter hears of padding is zeros again
            first = release(tree, np.where(real_L[:, None], x_LxD, 0), real_L, 1, 0.6, 3)
            second = {"blocks_0": tree["blocks_1"]}
            wanted = release(second, np.where(real_L[:, None], first, 0), real_L, 1, 0.6, 3)[-1]
        np.testing.assert_allclose(found[row], wanted, atol=1e-9)


def test_without_the_filter_it_is_faerecs_sasrec():
    ours, theirs = encoder(alpha=0.0), sasrec.Backbone(sasrec.Config(form="faerec"), SIZES)
    x = encoders.inputs(SEQUENCES)
    params = encoders.init(ours, x, SEQUENCES)
    transformer = {
        f"{name}_{i}": params[f"blocks_{i}"][name]
        for i in range(2)
        for name in ("attention", "attention_residual", "feedforward")
    }
    same = {"positions": params["positions"], "transformer": transformer}
    wanted = encoders.encode(theirs, same, x, SEQUENCES, last_only=True)
    np.testing.assert_allclose(encoders.encode(ours, params, x, SEQUENCES, last_only=True), wanted, atol=1e-5)


def test_short_rows_give_the_numbers_of_full_ones_and_only_the_newest_position_has_an_output():
    """The filter looks ahead, so with outputs everywhere the third slot sees the sixth."""
    rows, x = [[1, 2, 3, 4], [5]], np.asarray(encoders.inputs(SEQUENCES))
    short = tiny.lay(rows, ((1, 4), (1, 2)))
    x_short = np.zeros((6, encoders.WIDTH), np.float32)
    for a, b in zip(tiny.slots(short), tiny.slots(SEQUENCES)):
        x_short[a] = x[b]
    model = encoder()
    params = encoders.init(model, x, SEQUENCES)
    full = encoders.encode(model, params, x, SEQUENCES, last_only=True)
    np.testing.assert_allclose(encoders.encode(model, params, x_short, short, last_only=True), full, atol=1e-5)
    every = np.asarray(encoders.encode(model, params, x, SEQUENCES))
    np.testing.assert_array_equal(np.flatnonzero(np.any(every, axis=1)), SEQUENCES.last_R)
    everywhere = encoder(Sizes(9, LENGTH, normed=True, all_slots=True))
    assert encoders.influence(everywhere, params, x, SEQUENCES, at=2) == [False] * 2 + [True] * 4 + [False] * 6
    assert bsarec.supervision(model.config) == "last"
