"""gMLP: the spatial gate by hand in every layout, what it sees, and how a block starts."""

import encoders
import jax
import numpy as np
import pytest
import tiny
from golden_backbones import gelu, layer_norm
from hypothesis import given, settings
from hypothesis import strategies as st

from llmesr_jax.models.backbones import gmlp
from llmesr_jax.models.types import Sizes

SIZES = Sizes(num_items=9, max_len=6)
SEQUENCES = tiny.lay([[1, 2, 3, 4], [5, 6]], ((1, 5), (1, 3)))
MIX = jax.jit(gmlp.spatial, static_argnames="last_only")


def encoder(**settings):
    return gmlp.Backbone(gmlp.Config(expansion=2, **settings), SIZES)


def by_hand(x_nxE, matrix, bias):
    """S x + b of a sequence whose newest item stands in the last column, zeros before the oldest."""
    column = np.zeros((len(matrix), x_nxE.shape[1]))
    column[len(matrix) - len(x_nxE) :] = x_nxE
    out = np.zeros_like(column)
    for t in range(len(matrix)):
        out[t] = sum(matrix[t, s] * column[s] for s in range(len(matrix))) + bias[t]
    return out[len(matrix) - len(x_nxE) :]


@settings(max_examples=25)
@given(
    st.lists(st.integers(0, 4), min_size=3, max_size=3), st.booleans(), st.sampled_from([((3, 4),), ((1, 9), (2, 4))])
)
def test_the_spatial_projection_by_hand(lengths, left, groups):
    """Rows shorter and longer than L = 6, padded on either side."""
    rng = np.random.default_rng(sum(lengths))
    sequences = tiny.lay([[1] * n for n in lengths], groups, left)
    x = rng.normal(size=(len(sequences.items_T), 3)).astype(np.float32)
    matrix, bias = rng.normal(size=(6, 6)).astype(np.float32), rng.normal(size=6).astype(np.float32)
    every, newest = (np.asarray(MIX(x, matrix, bias, sequences, last_only)) for last_only in (False, True))
    for row, at in enumerate(tiny.slots(sequences)):
        if len(at):
            wanted = by_hand(x[at], matrix, bias)
            np.testing.assert_allclose(every[at], wanted, atol=1e-5)
            np.testing.assert_allclose(newest[row], wanted[-1], atol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
def test_one_block_by_hand(causal):
    model, x = encoder(blocks=1, causal=causal), encoders.inputs(SEQUENCES)
    params = encoders.init(model, x, SEQUENCES)
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    block, found = p["blocks_0"], np.asarray(encoders.encode(model, params, x, SEQUENCES, with_stem=False))
    affine = lambda x, name: x @ block[name]["kernel"] + block[name]["bias"]  # noqa: E731
    norm = lambda x, q: layer_norm(x, q["scale"], q["bias"], 1e-8)  # noqa: E731
    matrix = np.tril(block["spatial_kernel"]) if causal else block["spatial_kernel"]
    for at in tiny.slots(SEQUENCES):
        rows = np.asarray(x, np.float64)[at]
        z = norm(rows, block["norm"])
        gate = by_hand(norm(gelu(affine(z, "gate")), block["gate_norm"]), matrix, block["spatial_bias"])
        wanted = norm(rows + affine(gelu(affine(z, "value")) * gate, "out"), p["last_norm"])
        at, wanted = (at, wanted) if causal else (at[-1:], wanted[-1:])  # no loss elsewhere: zeros
        np.testing.assert_allclose(found[at], wanted, atol=1e-4)
    if not causal:
        assert not np.delete(found, np.asarray(SEQUENCES.last_R), axis=0).any()


@pytest.mark.parametrize("causal, supervision", [(True, "every"), (False, "last")])
def test_only_the_causal_form_learns_from_every_position(causal, supervision):
    config = gmlp.Config(causal=causal)
    assert gmlp.supervision(config) == supervision and not gmlp.needs_padding(config)


def test_the_causal_form_sees_no_later_position():
    model, x = encoder(), encoders.inputs(SEQUENCES)
    params = encoders.init(model, x, SEQUENCES)
    assert encoders.influence(model, params, x, SEQUENCES, at=1) == [True, True, *[False] * 6]
    newest = encoders.encode(model, params, x, SEQUENCES, last_only=True)
    np.testing.assert_allclose(newest, encoders.encode(model, params, x, SEQUENCES)[SEQUENCES.last_R], atol=1e-5)


def test_what_stands_in_padded_positions_does_not_matter():
    model, x = encoder(), encoders.inputs(SEQUENCES)
    params = encoders.init(model, x, SEQUENCES)
    other = encoders.encode(model, params, encoders.changed_padding(x, SEQUENCES), SEQUENCES, last_only=True)
    np.testing.assert_array_equal(encoders.encode(model, params, x, SEQUENCES, last_only=True), other)


def test_a_block_starts_as_a_feed_forward_network():
    """S near 0 and b = 1: the gate hardly mixes positions."""
    x = encoders.inputs(SEQUENCES)
    p = encoder().init(jax.random.key(0), x, SEQUENCES, True)["params"]["blocks_0"]
    assert np.abs(p["spatial_kernel"]).max() < 0.01 and (np.asarray(p["spatial_bias"]) == 1).all()
