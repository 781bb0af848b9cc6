"""NARM: GRU4Rec's states, the attention over them by hand, and what `supervision=every` sees."""

import encoders
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from llmesr_jax.models.backbones import gru4rec, narm
from llmesr_jax.models.types import Sizes

SIZES = Sizes(num_items=9, max_len=5)
SEQUENCES = tiny.lay([[1, 2, 3], [4, 5], [6]], ((1, 4), (2, 2)))


def encoder(**settings):
    return narm.Backbone(narm.Config(**settings), SIZES)


def by_equations(p, h_LxD, normalize):
    """The user vector after the newest of a sequence's states."""
    scores = []
    for h in h_LxD:
        meeting = 1 / (1 + np.exp(-(h_LxD[-1] @ p["query_kernel"] + h @ p["key_kernel"])))
        scores.append(sum(v * m for v, m in zip(p["score_kernel"][:, 0], meeting)))
    weights = np.exp(scores) / np.exp(scores).sum() if normalize else scores
    local = sum(w * h for w, h in zip(weights, h_LxD))
    return np.concatenate([local, h_LxD[-1]]) @ p["out_kernel"]


@pytest.mark.parametrize("normalize", [True, False])
def test_every_prefixs_vector_follows_the_equations(normalize):
    """`every`: each slot's vector is that of the prefix that ends there; `last`: the newest slot's alone."""
    model, x = encoder(supervision="every", normalize=normalize), encoders.inputs(SEQUENCES)
    params = encoders.init(model, x, SEQUENCES)
    p = {name: np.asarray(value) for name, value in params["reader"].items()}
    gru = {f"{kind}_kernel_0": params["reader"][f"{kind}_kernel"] for kind in ("input", "recurrent")}
    h = np.asarray(encoders.encode(gru4rec.Backbone(gru4rec.Config(), SIZES), gru, x, SEQUENCES))
    wanted = np.zeros_like(h)
    for at in tiny.slots(SEQUENCES):
        for n in range(1, len(at) + 1):
            wanted[at[n - 1]] = by_equations(p, h[at[:n]], normalize)
    real, last = np.asarray(SEQUENCES.valid_T), np.asarray(SEQUENCES.last_R)
    np.testing.assert_allclose(np.asarray(encoders.encode(model, params, x, SEQUENCES))[real], wanted[real], atol=1e-5)
    learns_last = encoder(normalize=normalize)
    np.testing.assert_allclose(
        encoders.encode(learns_last, params, x, SEQUENCES, last_only=True), wanted[last], atol=1e-5
    )
    slots = np.asarray(encoders.encode(learns_last, params, x, SEQUENCES))
    np.testing.assert_allclose(slots[last], wanted[last], atol=1e-5)
    assert not np.delete(slots, last, axis=0).any()


def test_it_is_causal():
    model, x = encoder(supervision="every"), encoders.inputs(SEQUENCES)
    params = encoders.init(model, x, SEQUENCES)
    assert encoders.influence(model, params, x, SEQUENCES, at=1) == [True, True, *[False] * 6]


def test_what_stands_in_padded_positions_does_not_matter():
    model, x = encoder(), encoders.inputs(SEQUENCES)
    params = encoders.init(model, x, SEQUENCES)
    other = encoders.encode(model, params, encoders.changed_padding(x, SEQUENCES), SEQUENCES, last_only=True)
    np.testing.assert_array_equal(encoders.encode(model, params, x, SEQUENCES, last_only=True), other)


def test_an_empty_row_is_finite():
    sequences = tiny.lay([[1], []], ((2, 2),))
    params = encoders.init(encoder(), encoders.inputs(sequences), sequences)
    out = encoders.encode(encoder(), params, encoders.inputs(sequences), sequences, last_only=True)
    assert jnp.isfinite(out).all()
