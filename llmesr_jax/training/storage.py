"""How Orbax stores arrays, whole or in blocks on several devices: in parts that a process can read by itself.

Orbax cuts an array into parts of equal size. If the number of rows has no suitable divisor, it makes parts of a few
rows each; so such tables are padded by rows of zeros, up to a multiple of `ROWS`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from llmesr_jax.models.placement import LARGE, ROWS
from llmesr_jax.training.checksums import in_blocks, name_of
from llmesr_jax.training.damage import Damaged

_PART = 64 << 20  # bytes of a part, all of which a reader must read, even for one row
_FEW = 128  # a part that is more than so many times smaller is too small


def ready(x: Any) -> Any:
    """An array in the form that Orbax gets: on the host, or in blocks on its devices; padded if it needs to be."""
    x = x if in_blocks(x) else np.asarray(x)
    if not _is_large(x) or x.shape[1] % ROWS == 0 or _divides_well(x):
        return x
    more = tuple((0, -size % ROWS if axis == 1 else 0) for axis, size in enumerate(x.shape))
    return np.pad(x, more) if isinstance(x, np.ndarray) else _padding(more, x.sharding)(x)


def save_args(x: Any) -> ocp.SaveArgs:
    """How Orbax saves an array of `ready`."""
    return ocp.SaveArgs(chunk_byte_size=_PART if _is_large(x) else None)


def shapes(stored: Any) -> Any:
    """The shapes and dtypes of a checkpoint's arrays, in nested dicts, from Orbax's metadata.

    Raises:
      Damaged: there are no metadata.
    """
    if stored is None:
        raise Damaged("it does not say which arrays it has")
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), stored.tree)


def restore_args(stored: Any, targets: Mapping[str, jax.ShapeDtypeStruct]) -> Any:
    """How Orbax reads a tree of arrays: those with a target to its devices, the others to the host.

    Args:
      stored: shapes and dtypes in the checkpoint.
      targets: {name: shape with sharding}; it may have fewer or more rows than are stored, if those are rows of zeros.
    """

    def one(path: Any, x: jax.ShapeDtypeStruct) -> ocp.RestoreArgs:
        target = targets.get(name_of(path))
        if target is None:
            return ocp.RestoreArgs(restore_type=np.ndarray)
        return ocp.ArrayRestoreArgs(
            sharding=target.sharding, global_shape=target.shape, dtype=target.dtype, strict=False
        )

    return jax.tree_util.tree_map_with_path(one, stored)


@functools.lru_cache
def _padding(more: tuple[tuple[int, int], ...], sharding: jax.sharding.Sharding) -> Callable[[jax.Array], jax.Array]:
    """A function that pads, compiled once for all saves of a run."""
    return jax.jit(functools.partial(jnp.pad, pad_width=more), out_shardings=sharding)


def _divides_well(x: Any) -> bool:
    """Whether the number of rows of a table has a divisor that makes parts of at most `_PART`, but not much less."""
    row_bytes = x.nbytes // x.shape[1]
    fits = range(max(1, _PART // _FEW // row_bytes), _PART // row_bytes + 1)
    least, most = -(-x.shape[1] // fits[-1]), x.shape[1] // fits[0]
    return any(x.shape[1] % parts == 0 for parts in range(least, most + 1)) if fits else False


def _is_large(x: Any) -> bool:
    """Whether an array, or each of its blocks, is cut into parts: a table stacked over lanes, (S, rows, ...)."""
    shape = x.sharding.shard_shape(x.shape) if in_blocks(x) else x.shape
    return len(shape) > 1 and shape[1] >= LARGE and math.prod(shape) * x.dtype.itemsize > _PART
