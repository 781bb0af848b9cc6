"""FMLP-Rec: its filter against a direct circular convolution, what padding does, and the release's encodings."""

import functools

import encoders
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from llmesr_jax.models.backbones import fmlprec
from llmesr_jax.models.types import Sizes

SIZES = Sizes(num_items=9, max_len=6)
SEQUENCES = tiny.lay([[1, 2, 3, 4], [5]], ((2, 6),), left=True)


def encoder(**settings):
    return fmlprec.Backbone(fmlprec.Config(**settings), SIZES)


@functools.cache
def made():
    """Parameters of the default settings."""
    return encoders.init(encoder(), encoders.inputs(SEQUENCES), SEQUENCES)


def taps(response, period):
    """The filter in time: w[n] = mean over all L frequencies f of W(f) e^(2 pi i f n / L), W(L - f) = conj W(f)."""
    whole = np.zeros((period, response.shape[1]), complex)
    for f in range(period):
        whole[f] = response[f] if f < len(response) else np.conj(response[period - f])
    whole[0] = whole[0].real
    if period % 2 == 0:
        whole[period // 2] = whole[period // 2].real
    angle = 2j * np.pi / period * np.outer(np.arange(period), np.arange(period))
    return (np.exp(angle) @ whole / period).real


@pytest.mark.parametrize("period", [5, 6])
@pytest.mark.parametrize("length", [4, 6, 11])
def test_the_filter_is_a_circular_convolution(period, length):
    """y[t] = sum over s of w[(t - s) mod L] x[s], in rows shorter than L, as long, and longer."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, length, 3))
    x[:, period:] = 0  # never more items than L
    response = rng.normal(size=(period // 2 + 1, 3)) + 1j * rng.normal(size=(period // 2 + 1, 3))
    w, wanted = taps(response, period), np.zeros_like(x)
    for t in range(length):
        for s in range(length):
            wanted[:, t] += w[(t - s) % period] * x[:, s]
    with tiny.float64():
        found = fmlprec.circular(jnp.asarray(x), jnp.asarray(response), period)
    np.testing.assert_allclose(found, wanted, atol=1e-12)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 4), min_size=3, max_size=3), st.booleans())
def test_rows_need_no_more_slots_than_items(lengths, left):
    """Short rows, padded on either side, against full ones of length L, padded on the left."""
    lengths = sorted(lengths, reverse=True)
    rows = [list(range(1, n + 1)) for n in lengths]
    short = tiny.lay(rows, ((3, 4),), left)
    full = tiny.lay(rows, ((3, 6),), left=True)
    x = np.random.default_rng(1).normal(size=(12, encoders.WIDTH)).astype(np.float32)
    x_full = np.ones((18, encoders.WIDTH), np.float32)
    for a, b in zip(tiny.slots(short), tiny.slots(full)):
        x_full[b] = x[a]
    params = made()
    found = encoders.encode(encoder(), params, x, short, last_only=True)
    wanted = encoders.encode(encoder(), params, x_full, full, last_only=True)
    np.testing.assert_allclose(found[np.array(lengths) > 0], wanted[np.array(lengths) > 0], atol=1e-4)


@pytest.mark.parametrize("through_padding", [False, True])
def test_what_stands_in_padded_positions_matters_only_on_request(through_padding):
    model, x = encoder(through_padding=through_padding), encoders.inputs(SEQUENCES)
    params = encoders.init(model, x, SEQUENCES)
    before = encoders.encode(model, params, x, SEQUENCES, last_only=True)
    after = encoders.encode(model, params, encoders.changed_padding(x, SEQUENCES), SEQUENCES, last_only=True)
    assert (np.abs(np.asarray(before - after)).max() > 1e-3) == through_padding
    assert np.array_equal(before, after) != through_padding
    assert fmlprec.needs_padding(model.config) == through_padding


def test_the_filter_looks_ahead_so_the_last_position_alone_is_supervised():
    """Supervised at every position, as in the release, the third slot sees the sixth: its own target and more."""
    last, every = encoder(), encoder(supervision="every")
    x = encoders.inputs(SEQUENCES)
    params = made()
    assert encoders.influence(every, params, x, SEQUENCES, at=2) == [False] * 2 + [True] * 4 + [False] * 6
    assert fmlprec.supervision(last.config) == "last" and fmlprec.supervision(every.config) == "every"
    all_slots, newest = encoders.encode(last, params, x, SEQUENCES), encoders.encode(every, params, x, SEQUENCES)
    at = np.asarray(SEQUENCES.last_R)
    np.testing.assert_allclose(all_slots[at], newest[at], atol=1e-5)
    assert not np.delete(np.asarray(all_slots), at, axis=0).any()


def test_positions_count_from_the_newest_item():
    sequences = tiny.lay([[1, 2, 3], [4, 5]], ((1, 4), (1, 3)))
    found = np.asarray(fmlprec.columns(sequences, 6))
    assert found[np.asarray(sequences.valid_T)].tolist() == [3, 4, 5, 4, 5]
    assert fmlprec.columns(SEQUENCES, 6).tolist() == [*range(6), *range(6)]


def test_the_stem_normalises_unless_the_method_does():
    x, key = encoders.inputs(SEQUENCES), jax.random.key(0)
    table = jnp.zeros((6, encoders.WIDTH))
    for normed in (False, True):
        model = fmlprec.Backbone(fmlprec.Config(), Sizes(9, 6, normed=normed))
        params = model.init(key, x, SEQUENCES, True, method="stem")["params"]["embedding"]
        assert set(params) == {"positions"} | (set() if normed else {"norm"})
        params["positions"] = table
        out = model.apply({"params": {"embedding": params}}, x, SEQUENCES, True, method="stem")
        if normed:
            np.testing.assert_array_equal(out, x)
        else:
            np.testing.assert_allclose(np.mean(out**2, axis=1), 1, rtol=1e-4)


@pytest.mark.parametrize("path", encoders.golden_files("fmlprec"), ids=lambda p: p.stem if p else "none")
def test_golden_encodings(path):
    def encoder_of(blocks, sizes):
        config = fmlprec.Config(blocks, dropout=0.0, supervision="every", through_padding=True)
        return fmlprec.Backbone(config, sizes)

    encoders.assert_golden(path, "fmlprec", encoder_of)
