"""LightSANs: pooling and attention by hand, one loop a softmax."""

import encoders
import jax
import numpy as np
import pytest
import tiny
from golden_backbones import gelu, layer_norm

from llmesr_jax.core.errors import InputError
from llmesr_jax.models.backbones import lightsans
from llmesr_jax.models.types import Sizes

SIZES = Sizes(num_items=9, max_len=6)
SEQUENCES = tiny.lay([[1, 2, 3], [4, 5], [6]], ((1, 4), (2, 3)))


def encoder(**settings):
    return lightsans.Backbone(lightsans.Config(**settings), SIZES)


def softmax(scores):
    return np.exp(scores) / np.exp(scores).sum()


def interests_by_hand(x_LxD, pool_Dxk):
    """Each interest a mean over items, weighted by the softmax of the items' scores for it."""
    return np.stack([sum(w * x for w, x in zip(softmax(x_LxD @ column), x_LxD)) for column in pool_Dxk.T])


def block_by_hand(p, x_LxD, place_LxD, heads):
    affine = lambda x, name: x @ p[name]["kernel"] + p[name].get("bias", 0)  # noqa: E731
    norm = lambda x, q: layer_norm(x, q["scale"], q["bias"])  # noqa: E731
    place = norm(place_LxD, p["position_norm"])
    query, key, value = (affine(x_LxD, name) for name in ("query", "key", "value"))
    keys, values = interests_by_hand(key, p["key_pool"]), interests_by_hand(value, p["value_pool"])
    place_query, place_key = affine(place, "position_query"), affine(place, "position_key")
    mixed, width = np.zeros_like(x_LxD), x_LxD.shape[1] // heads
    for t in range(len(x_LxD)):
        for at in (slice(h * width, (h + 1) * width) for h in range(heads)):
            to_interests = softmax(keys[:, at] @ query[t, at] / width**0.5)
            to_places = softmax(place_key[:, at] @ place_query[t, at] / width**0.5)
            mixed[t, at] = to_interests @ values[:, at] + to_places @ value[:, at]
    x = norm(x_LxD + affine(mixed, "out"), p["attention_residual"]["norm"])
    inner = gelu(x @ p["feedforward"]["in"]["kernel"] + p["feedforward"]["in"]["bias"])
    change = inner @ p["feedforward"]["out"]["kernel"] + p["feedforward"]["out"]["bias"]
    return norm(x + change, p["feedforward"]["out_residual"]["norm"])


def test_interests_are_pooled_over_items_only():
    rng = np.random.default_rng(0)
    x, pool = rng.normal(size=(10, 4)).astype(np.float32), rng.normal(size=(4, 2)).astype(np.float32)
    found = [row for group in lightsans.pool(x, pool, SEQUENCES) for row in np.asarray(group)]
    for interests, at in zip(found, tiny.slots(SEQUENCES), strict=True):
        np.testing.assert_allclose(interests, interests_by_hand(x[at], pool), atol=1e-5)


@pytest.mark.parametrize("blocks, heads", [(1, 1), (2, 2)])
def test_blocks_by_hand(blocks, heads):
    model, x = encoder(blocks=blocks, heads=heads, interests=3), encoders.inputs(SEQUENCES)
    params = encoders.init(model, x, SEQUENCES)
    found = np.asarray(encoders.encode(model, params, x, SEQUENCES, with_stem=False))
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    table = params["positions"]["table"]
    for at in tiny.slots(SEQUENCES):
        wanted = np.asarray(x, np.float64)[at]
        for i in range(blocks):
            wanted = block_by_hand(params[f"blocks_{i}"], wanted, table[1 : len(at) + 1], heads)
        np.testing.assert_allclose(found[at[-1]], wanted[-1], atol=1e-4)
        assert not found[at[:-1]].any()


def test_what_stands_in_padded_positions_does_not_matter():
    model, x = encoder(), encoders.inputs(SEQUENCES)
    params = encoders.init(model, x, SEQUENCES)
    other = encoders.encode(model, params, encoders.changed_padding(x, SEQUENCES), SEQUENCES, last_only=True)
    np.testing.assert_array_equal(encoders.encode(model, params, x, SEQUENCES, last_only=True), other)


@pytest.mark.parametrize("max_len, setting, interests", [(50, 0, 5), (6, 0, 2), (50, 7, 7)])
def test_a_tenth_as_many_interests_as_positions(max_len, setting, interests):
    model = lightsans.Backbone(lightsans.Config(interests=setting), Sizes(9, max_len))
    params = encoders.init(model, encoders.inputs(SEQUENCES), SEQUENCES)
    assert params["blocks_0"]["key_pool"].shape == (encoders.WIDTH, interests)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(InputError, match="3 attention heads do not divide a width of 4"):
        encoders.init(encoder(heads=3), encoders.inputs(SEQUENCES), SEQUENCES)
