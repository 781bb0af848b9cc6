"""Ranking among items whose vectors are split by rows over devices: each scores its own, and few numbers are exchanged.

A device has a block of neighbouring items. Of each user it counts how many of its items are above the target, and finds its
own best ones; counts are summed, and of the best of all blocks the best are taken. So scores never leave a device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from llmesr_jax.models.types import DATA_AXIS, Array


class SplitItems(NamedTuple):
    """Of item vectors whose rows are split over devices.

    Attributes:
      count: rows that are items, the first ones; those behind them are no candidates.
      shards: devices, each with a block of as many rows.
      mesh: the devices; None for blocks that one device goes through.
    """

    count: int
    shards: int
    mesh: Mesh | None = None


def on_blocks(split: SplitItems | None, function: Callable[..., Any], items_VxE: Array, *shared: Any) -> Any:
    """`function(items, *shared)`, which every device runs with its own block of items; its results are the same on all.

    What it exchanges goes through `total` and `best`.

    Args:
      split: None: there is one block, of all items.
      shared: trees that all devices see.
    """
    if split is None:
        return function(items_VxE, *shared)
    if split.mesh is None:
        blocks = items_VxE.reshape(split.shards, -1, *items_VxE.shape[1:])
        of_all = jax.vmap(function, in_axes=(0, *[None] * len(shared)), axis_name=DATA_AXIS)(blocks, *shared)
        return jax.tree.map(lambda x: x[0], of_all)
    everywhere = PartitionSpec()
    specs = (PartitionSpec(DATA_AXIS), *[everywhere] * len(shared))
    mapped = jax.shard_map(function, mesh=split.mesh, in_specs=specs, out_specs=everywhere, check_vma=False)
    return mapped(items_VxE, *shared)


def here(columns_n: Array, width: int, split: SplitItems | None) -> tuple[Array, Array]:
    """Where items stand in this device's block, `width` for those of others; and bool, whether they are in it.

    Args:
      columns_n: int, places of items among all.
      width: items of the block.
    """
    at_n = columns_n if split is None else columns_n - _first(width)
    is_here_n = (at_n >= 0) & (at_n < width)
    return jnp.where(is_here_n, at_n, width), is_here_n


def total(x: Array, split: SplitItems | None) -> Array:
    """The sum over the devices. Where one has a number and the others zero, it is that number, NaN and infinity too."""
    return x if split is None else jax.lax.psum(x, DATA_AXIS)


def only_items(scores_BxV: Array, split: SplitItems | None) -> Array:
    """The block's scores with NaN, which is neither above nor below anything, for rows that are no items."""
    if split is None:
        return scores_BxV
    width = scores_BxV.shape[1]
    is_item_V = _first(width) + jnp.arange(width) < split.count
    return jnp.where(is_item_V[None], scores_BxV, jnp.nan)


def best(scores_BxV: Array, k: int, split: SplitItems | None) -> tuple[Array, Array]:
    """(B, K) twice: the highest scores, of equal ones the first, and where they stand among all items."""
    width = scores_BxV.shape[1]
    own_BxK, at_BxK = jax.lax.top_k(scores_BxV, min(k, width))
    if split is None:
        return own_BxK, at_BxK
    # Blocks are in order of items, and `top_k` takes the first of equal scores.
    own_BxM, at_BxM = (jax.lax.all_gather(x, DATA_AXIS, axis=1, tiled=True) for x in (own_BxK, at_BxK + _first(width)))
    best_BxK, among_BxK = jax.lax.top_k(own_BxM, min(k, own_BxM.shape[1]))
    return best_BxK, jnp.take_along_axis(at_BxM, among_BxK, axis=1)


def _first(width: int) -> Array:
    """The place of the first item of this device's block among all."""
    return jax.lax.axis_index(DATA_AXIS) * width
