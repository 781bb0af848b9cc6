"""What SASRec's settings change; that it is causal stands in the contract."""

import functools

import jax
import numpy as np
import pytest
import tiny

from llmesr_jax.models.backbones import sasrec
from llmesr_jax.models.types import Sizes

SEQUENCES = tiny.lay([[1, 2, 3, 4], [5]], ((2, 6),))
SIZES = Sizes(num_items=9, max_len=6)


@functools.partial(jax.jit, static_argnames=("config", "last_only"))
def encode(config, params, x, last_only=False, sequences=SEQUENCES):
    module = sasrec.Backbone(config, SIZES)
    return module.apply(
        {"params": params},
        module.apply({"params": params}, x, sequences, True, method="stem"),
        sequences,
        True,
        last_only,
    )


def made(**settings):
    """Config, parameters and inputs."""
    config = sasrec.Config(**settings)
    module, x = sasrec.Backbone(config, SIZES), jax.random.normal(jax.random.key(0), (12, 4))
    key = jax.random.key(1)
    params = {
        **module.init(key, x, SEQUENCES, True, method="stem")["params"],
        **module.init(key, x, SEQUENCES, True)["params"],
    }
    return config, params, x


@functools.partial(jax.jit, static_argnames=("config", "at"))
def sensitivity(config, params, x, at):
    """Gradient of the output at slot `at`, read out with a random vector, in the inputs."""
    vector = jax.random.normal(jax.random.key(2), (x.shape[1],))
    return jax.grad(lambda x: encode.__wrapped__(config, params, x)[at] @ vector)(x)


def influence(config, params, x, at):
    """Whether the output at slot `at` depends on each of row 0's slots."""
    return (np.abs(np.asarray(sensitivity(config, params, x, at)))[:6].sum(axis=1) > 0).tolist()


@pytest.mark.parametrize(
    "settings, seen",
    [
        ({}, [True, True, False, False, False, False]),
        ({"causal": False}, [True, True, True, True, False, False]),
    ],
)
def test_what_the_second_slot_sees(settings, seen):
    assert influence(*made(**settings), at=1) == seen


@pytest.mark.parametrize("blocks, heads", [(1, 1), (2, 2)])
def test_the_newest_alone_is_the_newest_of_all(blocks, heads):
    config, params, x = made(blocks=blocks, heads=heads)
    every = encode(config, params, x)
    np.testing.assert_allclose(encode(config, params, x, last_only=True), every[SEQUENCES.last_R], atol=1e-5)
    assert set(params["transformer"]) == {"last_norm", *(f"block_{i}" for i in range(blocks))}


def test_unmasked_padding_takes_attention():
    config, params, x = made(causal=False, mask_padding=False)
    masked = encode(sasrec.Config(causal=False), params, x)
    assert np.abs(np.asarray(encode(config, params, x) - masked))[6].max() > 1e-3


@pytest.mark.slow
def test_the_release_is_the_same_in_short_rows_as_in_padded_ones():
    """Attention to padding has a closed form: losses, gradients and user vectors agree without the padding."""
    settings = {"causal": False, "mask_padding": False}
    short, full = (tiny.case("sasrec", "none", layout=layout, **settings) for layout in ("bucketed", "padded"))
    samples = short.epochs.order(1, 1)[0]
    params = short.params()
    # Biases start at 0, and padding's key and value are biases.
    params = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(x.size), x.shape), params)
    said = []
    for case in (short, full):
        batch = tiny.make_batch(case.epochs.plan, case.data, case.tables, samples, jax.random.key(3))
        with tiny.float64():
            said.append(tiny.outputs(short.model, *tiny.as_float64((params, case.tables)), batch))
    tiny.assert_close(*said, 1e-10)
