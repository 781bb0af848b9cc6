"""Layers that backbones and methods share. All take flat slots: x is (..., T, D), or (..., R, D) for last positions."""

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
    """A dense layer that starts as the release does: Xavier-normal matrix, PyTorch's bias."""
    return nn.Dense(
        features,
        use_bias=use_bias,
        kernel_init=nn.initializers.xavier_normal(),
        bias_init=uniform_bias(fan_in),
        name=name,
    )


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(variance + epsilon) * scale + bias over the last axis.

    Flax's own, but for the order of the factors: it keeps 1 / sqrt(...) * scale, as large as x, for the way back.
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
    """table[ids] for ids known to be in range; clipping spares the bounds check's select.

    Raises:
      InputError: the table is None, as `get_variable("tables", name)` is for a name that there is not.
    """
    if table is None:
        raise InputError("rows are taken from a table that does not exist; expected a table in the method's needs")
    return jnp.take(table, ids, axis=0, mode="clip")


def newest(x_TxD: Array, sequences: Sequences) -> Array:
    """(..., T, D) -> (..., R, D): each row's newest slot."""
    return jnp.take(x_TxD, sequences.last_R, axis=-2, mode="clip")


def at_newest(h_RxD: Array, sequences: Sequences) -> Array:
    """(..., R, D) -> (..., T, D): each row's vector in its newest slot, zeros in all others.

    What an encoder that learns from the last position only may return for all slots: nothing reads the others.
    """
    zeros = jnp.zeros((*h_RxD.shape[:-2], len(sequences.items_T), h_RxD.shape[-1]), h_RxD.dtype)
    return zeros.at[..., sequences.last_R, :].set(h_RxD)


def softmax(score: Array, axis: int, where: Array | None = None) -> Array:
    """A wide softmax over the entries where `where` is true; uniform over all if there is none."""
    score = score.astype(wide(score))
    return jax.nn.softmax(score if where is None else jnp.where(where, score, -1e9), axis=axis)


def aligned(x: Array, like: Array) -> Array:
    """x with leading axes of length 1, as many as `like` has more, so that combining them promotes no rank."""
    return x.reshape((1,) * (like.ndim - x.ndim) + x.shape)
