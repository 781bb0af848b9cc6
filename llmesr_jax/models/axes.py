"""Whether the rows of a parameter or frozen table are items or users: declared where the array is made.

    table = axes.parameter(self, "mood", nn.initializers.normal(0.1), (sizes.num_items + 2, 8), axes.ITEM)

`parameter` records the first axis as Flax's partitioning metadata, and `Recommender.axes` collects it. The metadata is
removed once parameters are made, so parameter paths and checkpoints do not contain it. Updates of touched rows,
gradients by item and the placement on several devices depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from llmesr_jax.core.axes import ITEM, USER, Table, in_steps
from llmesr_jax.core.errors import InputError
from llmesr_jax.models.types import Array

__all__ = ["ITEM", "USER", "Axes", "Table", "check_tables", "collect", "in_steps", "parameter", "path_of", "plain"]


class Axes(NamedTuple):
    """The axes of a model's arrays; hashable, so that compiled code may depend on it.

    Attributes:
      params: (path, axis) of every parameter: `ITEM`, `USER`, "" if it was declared to be neither, None if nothing was
        declared.
      tables: (name, `Table`) of every frozen table that was declared.
      items, users: the number of rows of arrays over items, V + 2, and over users, U.
    """

    params: tuple[tuple[str, str | None], ...]
    tables: tuple[tuple[str, Table], ...]
    items: int
    users: int

    def rows(self, axis: str) -> int:
        """The number of rows of an array over an axis, `ITEM` or `USER`."""
        return {ITEM: self.items, USER: self.users}[axis]

    def has(self, axis: str) -> bool:
        """Whether a parameter, or a table that models read, is over an axis, `ITEM` or `USER`."""
        tables = [table.axis for _, table in self.tables if not table.holds_ids]
        return axis in tables or axis in [found for _, found in self.params]

    @property
    def by_path(self) -> dict[str, str]:
        """{path: `ITEM` or `USER`} of the parameters over either."""
        return {path: axis for path, axis in self.params if axis}

    def of_table(self, name: str) -> str | None:
        """The axis of a frozen table; None where it is not declared."""
        kind = dict(self.tables).get(name)
        return None if kind is None else kind.axis

    def parameter_at(self, path: Any) -> str | None:
        """The path of the parameter that an array is, or is the gradient or an optimiser's state of; None if of none.

        Args:
          path: a key path of `jax.tree_util` that ends with the parameter's path, or such a path as text.
        """
        at = path if isinstance(path, str) else path_of(path)
        fits = [name for name, _ in self.params if at == name or at.endswith(f"/{name}")]
        return max(fits, key=len, default=None)

    def at(self, path: Any) -> str | None:
        """The axis of the parameter that an array belongs to, see `parameter_at`; None if nothing was declared."""
        return dict(self.params).get(self.parameter_at(path) or "")


def parameter(
    module: nn.Module,
    name: str,
    init: Callable[..., Array],
    shape: tuple[int, ...],
    axis: str,
) -> Array:
    """Makes a parameter as `module.param` does, and declares what its first axis is.

    With `train.table_updates=touched` a step sees only the rows that its batch uses, renumbered. So take rows by the
    ids in the batch (`layers.dense.take_rows`), and do not rely on the number of rows.

    Args:
      module: the linen module that owns the parameter.
      name: of the parameter in the module.
      init: (key, shape) -> array.
      shape: V + 2 rows over `ITEM`, U rows over `USER`.
      axis: `ITEM`, `USER`, or "" for neither.
    """
    if module.has_variable("params", name):
        return nn.meta.unbox(module.get_variable("params", name))
    names = (axis, *[None] * (len(shape) - 1))
    return module.param(name, nn.with_logical_partitioning(init, names), shape)


def plain(params: Any) -> Any:
    """Parameters without the metadata."""
    return nn.meta.unbox(params)


def path_of(path: tuple[Any, ...]) -> str:
    """A key path of `jax.tree_util` as text, such as table/items."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def collect(boxed: Any, tables: tuple[tuple[str, Table], ...], items: int, users: int) -> Axes:
    """The axes of a model.

    Args:
      boxed: parameters as modules make them, with metadata; arrays or shapes.
      tables: (name, `Table`) of each declared frozen table.
      items, users: the number of rows over either axis.
    Raises:
      InputError: a parameter declares an unknown axis, or one with another number of rows.
    """
    is_box = lambda x: isinstance(x, nn.meta.AxisMetadata)  # noqa: E731
    found = jax.tree_util.tree_flatten_with_path(boxed, is_leaf=is_box)[0]
    params = tuple((path_of(path), x.names[0] if is_box(x) and x.names else None) for path, x in found)
    made = Axes(params, tables, items, users)
    for (name, axis), (_, x) in zip(params, found):
        _check_rows("parameter", name, nn.meta.unbox(x).shape, axis, made)
    return made


def check_tables(tables: Mapping[str, Any], axes: Axes) -> None:
    """Raises InputError for a frozen table over items or users that has another number of rows."""
    for name, table in tables.items():
        _check_rows("table", name, table.shape, axes.of_table(name), axes)


def _check_rows(kind: str, name: str, shape: tuple[int, ...], axis: str | None, axes: Axes) -> None:
    if axis not in (ITEM, USER, "", None):
        raise InputError(f"{kind} {name}: its axis is {axis!r}; expected {ITEM!r}, {USER!r} or '' for neither")
    if axis and (not shape or shape[0] != axes.rows(axis)):
        wanted = {ITEM: "padding, items, mask token", USER: "a row for each user"}[axis]
        raise InputError(
            f"{kind} {name} of shape {tuple(shape)} is over {axis}s; expected {axes.rows(axis)} rows ({wanted}); "
            "correct its shape or its declared axis"
        )
