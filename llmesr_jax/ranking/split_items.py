"""Ranks among items whose vectors are split by rows over devices: each device scores its own, and few numbers are sent.

A device has a block of neighbouring items. For each user it counts how many of its items are above the target, and
finds the best of its items. The counts are summed, and the best of each block are compared. So scores never leave a
device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from llmesr_jax.models.types import DATA_AXIS, Array


class SplitItems(NamedTuple):
    """How the rows of item vectors are split over devices.

    Attributes:
      count: number of rows that are items, which come first; the rows after them are no candidates.
      shards: number of blocks, all with the same number of rows.
      mesh: the devices, one for each block; None: one device computes all blocks.
    """

    count: int
    shards: int
    mesh: Mesh | None = None


def on_blocks(split: SplitItems | None, function: Callable[..., Any], items_VxE: Array, *shared: Any) -> Any:
    """Runs `function(items, *shared)` on every device with its own block of items; all must return the same result.

    The function exchanges numbers between devices through `total` and `best`.

    Args:
      split: None: one device has all items.
      shared: trees that every device gets whole.
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
    """The index of items in this device's block (`width` for items of other blocks); and bool, whether they are in it.

    Args:
      columns_n: int, indices of items among all.
      width: number of items in the block.
    """
    at_n = columns_n if split is None else columns_n - _first(width)
    is_here_n = (at_n >= 0) & (at_n < width)
    return jnp.where(is_here_n, at_n, width), is_here_n


def total(x: Array, split: SplitItems | None) -> Array:
    """The sum over the devices. If one has a number and the others zero, it is that number, also NaN or infinity."""
    return x if split is None else jax.lax.psum(x, DATA_AXIS)


def only_items(scores_BxV: Array, split: SplitItems | None) -> Array:
    """The block's scores, with NaN for rows that are not items: no comparison with NaN is true."""
    if split is None:
        return scores_BxV
    width = scores_BxV.shape[1]
    is_item_V = _first(width) + jnp.arange(width) < split.count
    return jnp.where(is_item_V[None], scores_BxV, jnp.nan)


def best(scores_BxV: Array, k: int, split: SplitItems | None) -> tuple[Array, Array]:
    """(B, K) the highest scores of each row, and (B, K) their indices among all items; of equal scores, the first."""
    width = scores_BxV.shape[1]
    own_BxK, at_BxK = jax.lax.top_k(scores_BxV, min(k, width))
    if split is None:
        return own_BxK, at_BxK
    # Blocks are in order of items, and `top_k` takes the first of equal scores.
    own_BxM, at_BxM = (jax.lax.all_gather(x, DATA_AXIS, axis=1, tiled=True) for x in (own_BxK, at_BxK + _first(width)))
    best_BxK, among_BxK = jax.lax.top_k(own_BxM, min(k, own_BxM.shape[1]))
    return best_BxK, jnp.take_along_axis(at_BxM, among_BxK, axis=1)


def _first(width: int) -> Array:
    """The index of the first item of this device's block among all items."""
    return jax.lax.axis_index(DATA_AXIS) * width
