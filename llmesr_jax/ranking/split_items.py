"""Scores of items whose vectors are split by rows over devices: which are candidates, and the best of all blocks."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from llmesr_jax.models.types import Array


class SplitItems(NamedTuple):
    """Of item vectors whose rows are split over devices.

    Attributes:
      count: rows that are items, the first ones; those behind them are no candidates.
      shards: devices, each with a block of as many rows.
    """

    count: int
    shards: int


def only_items(scores_BxV: Array, split: SplitItems | None) -> Array:
    """The scores with NaN, which is neither above nor below anything, for rows that are no items."""
    if split is None:
        return scores_BxV
    is_item_V = jnp.arange(scores_BxV.shape[1]) < split.count
    return jnp.where(is_item_V[None], scores_BxV, jnp.nan)


def best(scores_BxV: Array, k: int, shards: int) -> tuple[Array, Array]:
    """(B, K) twice: the highest scores, of equal ones the first, and where they stand; each device's, then of these."""
    count = scores_BxV.shape[1]
    if shards == 1:
        return jax.lax.top_k(scores_BxV, min(k, count))
    own_BxNxK, at_BxNxK = jax.lax.top_k(scores_BxV.reshape(len(scores_BxV), shards, -1), min(k, count // shards))
    first_N = jnp.arange(shards, dtype=at_BxNxK.dtype) * (count // shards)
    columns_BxM = (at_BxNxK + first_N[None, :, None]).reshape(len(scores_BxV), -1)
    best_BxK, at_BxK = jax.lax.top_k(own_BxNxK.reshape(columns_BxM.shape), min(k, columns_BxM.shape[1]))
    return best_BxK, jnp.take_along_axis(columns_BxM, at_BxK, axis=1)
