"""Where arrays are on a mesh of devices: whole on each, split by lanes, or in blocks of rows over items or users.

Along `LANE_AXIS` every device has its own lanes (seeds, and runs of a sweep). Along `DATA_AXIS` it has its part of each
batch, and a block of rows of every array over items or users (`models.axes`): parameters, the optimiser's state, frozen
tables. To make blocks equal, such arrays end in rows of zeros, which nothing reads. Outside of steps methods get arrays
without these rows. Checkpoints record where they begin, so that a run can continue on another mesh.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from llmesr_jax.models.axes import Axes
from llmesr_jax.models.types import DATA_AXIS, LANE_AXIS, Array

ROWS = 1024  # large blocks have a multiple of so many rows, so that they can be stored in parts of many rows
LARGE = 64 * ROWS  # blocks of fewer rows are not large


class Placement(NamedTuple):
    """A mesh, and which arrays are split on it.

    Attributes:
      mesh: the devices.
      axes: which parameters and tables are over items and users.
    """

    mesh: Mesh
    axes: Axes

    @property
    def lane_shards(self) -> int:
        """Devices along `LANE_AXIS`."""
        return self.mesh.shape[LANE_AXIS]

    @property
    def data_shards(self) -> int:
        """Devices along `DATA_AXIS`."""
        return self.mesh.shape[DATA_AXIS]

    @property
    def split(self) -> Axes | None:
        """The axes if arrays over items and users are split, else None: the argument `split` of `steps.run_window`."""
        return self.axes if self.data_shards > 1 else None

    def rows(self, axis: str) -> int:
        """The number of rows of an array over items or users, including the rows of zeros if it is split."""
        return equal_rows(self.axes.rows(axis), self.data_shards) if self.split else self.axes.rows(axis)

    def tables(self, tables: Mapping[str, np.ndarray]) -> dict[str, Array]:
        """Frozen tables on the devices; each process reads the rows that its devices hold."""
        return {name: self._placed(table, self.axes.of_table(name), 0) for name, table in tables.items()}

    def everywhere(self, tree: Any) -> Any:
        """A copy of all arrays on every device."""
        return jax.tree.map(lambda x: self._placed(np.asarray(x), None, 0), tree)

    def lanes(self, tree_S: Any) -> Any:
        """A tree of whole host arrays, stacked over lanes, on the devices."""
        place = lambda path, x: self._placed(np.asarray(x), self.axes.at(path), 1)  # noqa: E731
        return jax.tree_util.tree_map_with_path(place, tree_S)

    def host(self, tree: Any, lead: int = 1) -> Any:
        """Whole arrays on the host, without rows of zeros; `lead` axes precede rows. The same in every process."""

        def one(path, x):
            return self._cut(on_host(x), self.axes.at(path), lead)

        return jax.tree_util.tree_map_with_path(one, tree)

    def whole(self, tree: Any, lead: int = 0) -> Any:
        """Parameters, or an optimiser's state, without rows of zeros; to be traced."""
        return jax.tree_util.tree_map_with_path(lambda path, x: self._cut(x, self.axes.at(path), lead), tree)

    def whole_tables(self, tables: Mapping[str, Array]) -> dict[str, Array]:
        """Frozen tables without rows of zeros; to be traced."""
        return {name: self._cut(table, self.axes.of_table(name), 0) for name, table in tables.items()}

    def padded(self, tree: Any, lead: int = 0) -> Any:
        """Inverse of `whole`."""

        def one(path, x):
            axis = self.axes.at(path)
            if not self._over_rows(x.shape, axis, lead):
                return x
            more = self.rows(axis) - x.shape[lead]
            return jnp.pad(x, [(0, more if at == lead else 0) for at in range(x.ndim)])

        return jax.tree_util.tree_map_with_path(one, tree)

    def settled(self, tree_S: Any) -> Any:
        """The tree with each array where it belongs; arrays that are there already are not copied."""

        def one(path, x):
            sharding = self._sharding(x.shape, self.axes.at(path), 1)
            return x if x.sharding.is_equivalent_to(sharding, x.ndim) else jax.device_put(x, sharding)

        return jax.tree_util.tree_map_with_path(one, tree_S)

    def shapes(self, tree_S: Any, lead: int = 1) -> Any:
        """Shapes and shardings of arrays on the devices, from whole arrays or their shapes."""

        def one(path, x):
            axis = self.axes.at(path)
            return jax.ShapeDtypeStruct(
                self._shape(x.shape, axis, lead), x.dtype, sharding=self._sharding(x.shape, axis, lead)
            )

        return jax.tree_util.tree_map_with_path(one, tree_S)

    def table_shapes(self, tables: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
        """`shapes` of frozen tables."""
        found = {}
        for name, table in tables.items():
            axis = self.axes.of_table(name)
            shape, sharding = self._shape(table.shape, axis, 0), self._sharding(table.shape, axis, 0)
            found[name] = jax.ShapeDtypeStruct(shape, table.dtype, sharding=sharding)
        return found

    def constrained(self, tree: Any, lead: int = 1) -> Any:
        """The tree with each array where it belongs; to be traced."""

        def one(path, x):
            return jax.lax.with_sharding_constraint(x, self._sharding(x.shape, self.axes.at(path), lead))

        return jax.tree_util.tree_map_with_path(one, tree)

    def on_rows(
        self, function: Callable[[Any, dict[str, Array]], Array], params: Any, tables: dict[str, Array]
    ) -> Array:
        """Runs `function(params, tables)` on every device, with its own block of rows of the split arrays; returns the
        results one after the other, (rows of the table, ...)."""
        specs = jax.tree_util.tree_map_with_path(lambda p, x: self._sharding(x.shape, self.axes.at(p), 0).spec, params)
        of_tables = {n: self._sharding(x.shape, self.axes.of_table(n), 0).spec for n, x in tables.items()}
        out = PartitionSpec(DATA_AXIS)
        mapped = jax.shard_map(function, mesh=self.mesh, in_specs=(specs, of_tables), out_specs=out, check_vma=False)
        return mapped(params, tables)

    def constrained_rows(self, x: Array, axis: str) -> Array:
        """An array with rows over items or users, split by rows; to be traced."""
        return jax.lax.with_sharding_constraint(x, self._sharding(x.shape, axis, 0))

    def _over_rows(self, shape: tuple[int, ...], axis: str | None, lead: int) -> bool:
        """Whether an array has a row for each item or user (Adafactor's factors do not)."""
        return bool(axis) and len(shape) > lead and shape[lead] in (self.axes.rows(axis), self.rows(axis))

    def _shape(self, shape: tuple[int, ...], axis: str | None, lead: int) -> tuple[int, ...]:
        """The shape including rows of zeros, if the array has rows over items or users."""
        return (*shape[:lead], self.rows(axis), *shape[lead + 1 :]) if self._over_rows(shape, axis, lead) else shape

    def _cut(self, x: Any, axis: str | None, lead: int) -> Any:
        if not self._over_rows(x.shape, axis, lead):
            return x
        return x[(slice(None),) * lead + (slice(0, self.axes.rows(axis)),)]

    def _sharding(self, shape: tuple[int, ...], axis: str | None, lead: int) -> NamedSharding:
        lanes = [LANE_AXIS if lead and shape[0] % self.lane_shards == 0 else None] * lead
        rows = [DATA_AXIS] if self._over_rows(shape, axis, lead) else []
        return NamedSharding(self.mesh, PartitionSpec(*lanes, *rows))

    def _placed(self, x: np.ndarray, axis: str | None, lead: int) -> Array:
        """A host array on the devices, with rows of zeros at its end if it is split."""
        shape, sharding = self._shape(x.shape, axis, lead), self._sharding(x.shape, axis, lead)

        def block(index: tuple[slice, ...]) -> np.ndarray:
            part = x[index]
            wanted = [len(range(*at.indices(size))) for at, size in zip(index, shape)]
            return np.pad(part, [(0, size - found) for size, found in zip(wanted, part.shape)])

        return jax.make_array_from_callback(shape, sharding, block)


def equal_rows(rows: int, blocks: int) -> int:
    """The number of rows, at least `rows`, of so many equal blocks; large blocks have a multiple of `ROWS`."""
    each = -(-rows // blocks)
    return (each if each < LARGE else -(-each // ROWS) * ROWS) * blocks


def on_host(x: Array) -> np.ndarray:
    """A copy of an array on the host; if several processes hold parts of it, all must call this."""
    whole = x.is_fully_addressable or x.is_fully_replicated
    return np.asarray(x if whole else multihost_utils.process_allgather(x, tiled=True))
