"""Layers that backbones and methods share. All take flat slots: x is (..., T, D), or newest positions: (..., R, D)."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from llmesr_jax.core.errors import InputError
from llmesr_jax.models.types import Array, Sequences, wide

EPSILON = 1e-8  # of every LayerNorm in LLM-ESR's release; FAERec's has 1e-12


def uniform_bias(fan_in: int) -> Callable[..., Array]:
    """PyTorch's default bias: uniform in +-1/sqrt(fan_in)."""

    def init(key, shape, dtype=jnp.float32):
        bound = fan_in**-0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def dense(features: int, fan_in: int, name: str | None = None, use_bias: bool = True) -> nn.Dense:
    """A dense layer initialised as in LLM-ESR's release: Xavier-normal matrix, PyTorch's default bias."""
    return nn.Dense(
        features,
        use_bias=use_bias,
        kernel_init=nn.initializers.xavier_normal(),
        bias_init=uniform_bias(fan_in),
        name=name,
    )


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over the last axis.

    Flax's own multiplies in another order and so keeps an array as large as x for the backward pass.
    """

    epsilon: float = EPSILON

    @nn.compact
    def __call__(self, x: Array) -> Array:
        dtype, x = x.dtype, x.astype(wide(x))
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:]).astype(x.dtype)
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:]).astype(x.dtype)
        x = x - x.mean(axis=-1, keepdims=True)
        x = x * jax.lax.rsqrt(jnp.square(x).mean(axis=-1, keepdims=True) + self.epsilon)
        return (x * aligned(scale, x) + aligned(bias, x)).astype(dtype)


def take_rows(table: Array, ids: Array) -> Array:
    """table[ids] for ids known to be in range: the mode `clip` saves the select of a bounds check.

    Args:
      table: (n, ...).
      ids: integers of any shape.
    Raises:
      InputError: the table is None, as `get_variable("tables", name)` is for an unknown name.
    """
    if table is None:
        raise InputError(
            "rows are taken from a table that does not exist; expected a table in the method's needs; name it in the "
            "function `needs` of the method's file"
        )
    return jnp.take(table, ids, axis=0, mode="clip")


def newest(x_TxD: Array, sequences: Sequences) -> Array:
    """(..., T, D) -> (..., R, D): each row's newest slot."""
    return jnp.take(x_TxD, sequences.last_R, axis=-2, mode="clip")


def at_newest(h_RxD: Array, sequences: Sequences) -> Array:
    """(..., R, D) -> (..., T, D): each row's vector in its newest slot, zeros in all others.

    An encoder that learns from the last position only may return this for all slots, because nothing reads the others.
    """
    zeros = jnp.zeros((*h_RxD.shape[:-2], len(sequences.items_T), h_RxD.shape[-1]), h_RxD.dtype)
    return zeros.at[..., sequences.last_R, :].set(h_RxD)


def softmax(score: Array, axis: int, where: Array | None = None) -> Array:
    """Softmax, in float32 at least, over the entries where `where` is true; uniform over all if none is."""
    score = score.astype(wide(score))
    return jax.nn.softmax(score if where is None else jnp.where(where, score, -1e9), axis=axis)


def aligned(x: Array, like: Array) -> Array:
    """x with leading axes of length 1 up to the rank of `like`, so that combining the two promotes no rank."""
    return x.reshape((1,) * (like.ndim - x.ndim) + x.shape)
