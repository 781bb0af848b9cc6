"""Tables whose rows are split over the devices of a mesh: the rows that a batch names are taken, and written, by id.

A device holds a block of neighbouring rows. To take rows, each device contributes those that it has and zeros for the
others, and the sum over the devices is the result: what is exchanged depends on the rows taken, not on the size of the
table. To write rows, each device writes those that it has; nothing is exchanged. Sums with zeros do not round, so rows
are the same bits on any mesh.

These functions are for code that runs under `on_mesh`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from llmesr_jax.models.types import DATA_AXIS, LANE_AXIS, Array

_ROWS, _ALL = PartitionSpec(DATA_AXIS), PartitionSpec()


def on_mesh(mesh: Mesh, function: Callable[..., Any], by_lane: tuple[Any, ...], shared: tuple[Any, ...] = ()) -> Any:
    """Runs `function(*by_lane, *shared)` on the devices of a mesh; it may split its arrays over `DATA_AXIS`.

    Along `LANE_AXIS` each device gets its own lanes and no others, so a loop that ends early ends for its lanes alone.
    Along `DATA_AXIS` it is one program over whole arrays, and the compiler decides what each device does of it.

    Args:
      by_lane: trees stacked over lanes, whose number is a multiple of the mesh's lanes; `function` returns such trees.
      shared: trees that all lanes see.
    """
    lanes = PartitionSpec(LANE_AXIS)
    specs = (*[lanes] * len(by_lane), *[_ALL] * len(shared))
    mapped = jax.shard_map(
        function, mesh=mesh, in_specs=specs, out_specs=lanes, axis_names={LANE_AXIS}, check_vma=False
    )
    return mapped(*by_lane, *shared)


def over_data(mesh: Mesh, function: Callable[..., Any], *arguments: Any) -> Any:
    """Runs `function(*arguments)` as `on_mesh` does, for work without lanes: devices along `LANE_AXIS` repeat it."""
    return jax.shard_map(function, mesh=mesh, in_specs=_ALL, out_specs=_ALL, axis_names={LANE_AXIS}, check_vma=False)(
        *arguments
    )


def dealt(x: Array) -> Array:
    """x, with its first axis split equally over the devices of `DATA_AXIS`."""
    return jax.lax.with_sharding_constraint(x, _ROWS)


def take(table: Array, ids_n: Array) -> Array:
    """table[ids] of a table that is split by rows, (n, ...) on every device; zeros for ids out of range.

    Args:
      table: its rows are a multiple of the devices along `DATA_AXIS`.
      ids_n: int32.
    """
    kind = table.dtype

    def local(block, ids_n):
        at_n, here_n = _here(block, ids_n)
        rows = jnp.take(block, at_n, axis=0, mode="clip")
        rows = rows.astype(jnp.int32) if kind == jnp.bool_ else rows
        rows = jnp.where(here_n.reshape(-1, *[1] * (rows.ndim - 1)), rows, jnp.zeros((), rows.dtype))
        return jax.lax.psum(rows, DATA_AXIS)

    return _over_data(local, (_ROWS, _ALL), _ALL)(table, ids_n).astype(kind)


def put(table: Array, ids_n: Array, rows: Array) -> Array:
    """The table, split by rows, with rows written at their ids; those out of range are dropped.

    Args:
      ids_n: int32, no two the same.
      rows: (n, ...), on every device.
    """

    def local(block, ids_n, rows):
        at_n, here_n = _here(block, ids_n)
        return block.at[jnp.where(here_n, at_n, len(block))].set(rows, mode="drop")

    return _over_data(local, (_ROWS, _ALL, _ALL), _ROWS)(table, ids_n, rows)


def _here(block: Array, ids_n: Array) -> tuple[Array, Array]:
    """int32 (n,): the ids' places in this device's block; bool (n,): whether they are in it."""
    first = jax.lax.axis_index(DATA_AXIS).astype(ids_n.dtype) * len(block)
    at_n = ids_n - first
    return at_n, (at_n >= 0) & (at_n < len(block))


def _over_data(function: Callable[..., Array], in_specs: Any, out_specs: Any) -> Callable[..., Array]:
    return jax.shard_map(function, in_specs=in_specs, out_specs=out_specs, axis_names={DATA_AXIS}, check_vma=False)
