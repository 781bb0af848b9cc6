"""What the tests of single backbones share: a small encoder with parameters of which none is special."""

import functools
from pathlib import Path

import golden_backbones
import golden_release
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_files import FOLDER, assert_met

from llmesr_jax.models.types import Sizes

WIDTH = 4


@functools.partial(jax.jit, static_argnames=("encoder", "last_only", "with_stem"))
def encode(encoder, params, x, sequences, last_only=False, with_stem=True):
    """The encoder's output for (T, D) inputs, without dropout."""
    if with_stem:
        x = encoder.apply({"params": params}, x, sequences, True, method="stem")
    return encoder.apply({"params": params}, x, sequences, True, last_only)


def init(encoder, x, sequences, seed=0):
    """Parameters of the shapes that the encoder wants, none of them special; drawn, not initialised: no compile."""

    def shapes(key):
        stem, variables = encoder.init_with_output(key, x, sequences, True, method="stem")
        return {**variables.get("params", {}), **encoder.init(key, stem, sequences, True)["params"]}

    rng = np.random.default_rng(seed)
    shaped = jax.eval_shape(shapes, jax.random.key(0))
    return jax.tree.map(lambda x: jnp.asarray(0.5 * rng.normal(size=x.shape), x.dtype), shaped)


def inputs(sequences, key=0):
    return jax.random.normal(jax.random.key(key), (len(sequences.items_T), WIDTH))


@functools.partial(jax.jit, static_argnames=("encoder", "at"))
def sensitivity(encoder, params, x, sequences, at):
    vector = jax.random.normal(jax.random.key(2), (WIDTH,))
    return jax.grad(lambda x: encode.__wrapped__(encoder, params, x, sequences)[at] @ vector)(x)


def influence(encoder, params, x, sequences, at):
    """Whether the output at slot `at`, read out with a random vector, depends on each slot's input."""
    return (np.abs(np.asarray(sensitivity(encoder, params, x, sequences, at))).sum(axis=1) > 1e-9).tolist()


def changed_padding(x, sequences):
    """The inputs with other numbers in empty slots."""
    return jnp.where(sequences.valid_T[:, None], x, 3 * x + 1)


def golden_files(name):
    return sorted(Path(FOLDER).glob(f"faerec_{name}_*.npz")) or [None]


def assert_golden(path, name, encoder_of):
    """The release's encodings, padded positions included, from the same input and parameters."""
    if path is None:
        pytest.skip(f"no faerec_{name}_*.npz in {FOLDER}; set LLMESR_GOLDEN to the folder of golden files")
    meta, arrays = golden_release.read(path)
    seq = arrays["in/seq"]
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        encoder = encoder_of(meta["num_layers"], Sizes(meta["item_num"], meta["max_len"], normed=True))
        tree = getattr(golden_backbones, name)(lambda key: arrays["param/" + key], meta["num_layers"])
        sequences = golden_release.sequences(seq, np.where(seq > 0, np.cumsum(seq > 0, axis=1), 0))
        x = jnp.asarray(golden_backbones.encoder_input(arrays))
        encoded = encode(encoder, jax.tree.map(jnp.asarray, tree), x, sequences, with_stem=False)
        assert_met(encoded.reshape(arrays["out/encoded"].shape), arrays["out/encoded"], "encoded")
