"""Means over the entries that count."""

from __future__ import annotations

import jax.numpy as jnp

from llmesr_jax.models.types import Array


def masked_mean(x: Array, where: Array) -> Array:
    """Mean of x over the true entries of `where` (same shape); 0 if there are none."""
    count = jnp.maximum(jnp.sum(where), 1).astype(x.dtype)
    return jnp.sum(jnp.where(where, x, jnp.zeros((), x.dtype))) / count


def mean_drawn(x_TxK: Array, drawn: Array | None) -> Array:
    """(T,): the mean of x over the negatives that count, bool (T, K) `drawn` (None: all); 0 where there are none."""
    if drawn is None:
        return jnp.mean(x_TxK, axis=1)
    count_T = jnp.maximum(jnp.sum(drawn, axis=1), 1).astype(x_TxK.dtype)
    return jnp.sum(jnp.where(drawn, x_TxK, jnp.zeros((), x_TxK.dtype)), axis=1) / count_T
