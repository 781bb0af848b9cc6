"""How arrays are stored by Orbax: in parts that a process can read alone, of arrays on one device or in blocks on several.

Orbax cuts an array into parts of equal size. Of a number of rows that has no suitable divisor it makes parts of a few rows;
so such tables get rows of zeros behind the last, up to a multiple of `ROWS`.
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

_PART = 64 << 20  # bytes; what a reader takes at least, be it for one row
_FEW = 128  # times smaller, a part is too small


def ready(x: Any) -> Any:
    """An array as it is given to Orbax: on the host, or in blocks on its devices."""
    x = x if in_blocks(x) else np.asarray(x)
    if not _is_large(x) or x.shape[1] % ROWS == 0 or _divides_well(x):
        return x
    more = tuple((0, -size % ROWS if axis == 1 else 0) for axis, size in enumerate(x.shape))
    return np.pad(x, more) if isinstance(x, np.ndarray) else _padding(more, x.sharding)(x)


def save_args(x: Any) -> ocp.SaveArgs:
    """How Orbax saves it."""
    return ocp.SaveArgs(chunk_byte_size=_PART if _is_large(x) else None)


def shapes(stored: Any) -> Any:
    """The shapes and dtypes of a checkpoint's arrays, in nested dicts, from what Orbax says of it.

    Raises:
      Damaged: it says nothing.
    """
    if stored is None:
        raise Damaged("it does not say which arrays it has")
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), stored.tree)


def restore_args(stored: Any, targets: Mapping[str, jax.ShapeDtypeStruct]) -> Any:
    """How Orbax reads a tree of arrays: those that have a target onto its devices, the others to the host.

    Args:
      stored: their shapes and dtypes in the checkpoint.
      targets: by name, with sharding; rows may be fewer or more than are stored, which only rows of zeros can be.
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
    """Compiled once for all saves of a run."""
    return jax.jit(functools.partial(jnp.pad, pad_width=more), out_shardings=sharding)


def _divides_well(x: Any) -> bool:
    """Whether the rows of a table have a divisor that makes parts of less than `_PART`, but not far less."""
    row_bytes = x.nbytes // x.shape[1]
    fits = range(max(1, _PART // _FEW // row_bytes), _PART // row_bytes + 1)
    least, most = -(-x.shape[1] // fits[-1]), x.shape[1] // fits[0]
    return any(x.shape[1] % parts == 0 for parts in range(least, most + 1)) if fits else False


def _is_large(x: Any) -> bool:
    """Whether an array, or each of its blocks, is cut into parts: a table stacked over lanes, (S, rows, ...)."""
    shape = x.sharding.shard_shape(x.shape) if in_blocks(x) else x.shape
    return len(shape) > 1 and shape[1] >= LARGE and math.prod(shape) * x.dtype.itemsize > _PART
