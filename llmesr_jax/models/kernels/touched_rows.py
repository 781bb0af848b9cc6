"""Updates of the item rows that a step touches, and of no others: its cost does not grow with the catalogue.

The step's batch is renumbered: its different items become ids 0, 1, ... of a small catalogue, for which item tables,
trained or frozen, and the optimiser's moments are cut out. Loss, gradient and optimiser then run as they always do,
on small tables, and the rows that a gradient belongs to are written back.

What differs from dense updates: an item that is neither input, target nor negative of a step keeps its row and its
moments as they are. Dense Adam lets moments decay at every step and moves rows by them after their last gradient.
Both count steps alike for the bias correction. PyTorch calls this SparseAdam, TensorFlow Addons LazyAdam.

Item tables are known by their names: a parameter `items` (`methods.layers.ItemTable`), a frozen table `item_...`. Any
other array with as many rows as there are items would be read with renumbered ids, so `check` refuses it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from llmesr_jax.core.errors import InputError
from llmesr_jax.models.layers.dense import take_rows
from llmesr_jax.models.types import Array, Batch

ITEM_TABLE = "items"  # the name of every parameter with a row for each item, see `methods.layers.ItemTable`
FROZEN = "item_"  # the names of such tables that are not trained begin so
_OF_USERS = ("user", "similar_users")  # names of what has a row for each user begin so


class Touched(NamedTuple):
    """The items of one batch.

    Attributes:
      ids_n: int32, different ids in ascending order, first 0, the padding; then ids past the last.
      trained_n: bool, those that are input, target or negative; the others occur in teachers only.
    """

    ids_n: Array
    trained_n: Array


def touched(batch: Batch, num_rows: int) -> tuple[Touched, Batch]:
    """The batch's items, and the batch with their places in `ids_n` for ids.

    Sorting the batch's ids costs nothing that grows with `num_rows`, the rows of an item table.
    """
    shared = [] if batch.shared_K is None else [batch.shared_K]
    trained = jnp.concatenate([batch.students.items_T, batch.targets_T, batch.negatives_TxK.reshape(-1), *shared])
    every = trained if batch.teachers is None else jnp.concatenate([trained, batch.teachers.items_T])
    ordered = jnp.sort(jnp.concatenate([jnp.zeros(1, every.dtype), every]))
    new = jnp.concatenate([jnp.ones(1, bool), ordered[1:] != ordered[:-1]])
    room = min(num_rows, len(ordered))
    ids_n = jnp.full(room, num_rows, jnp.int32).at[jnp.where(new, jnp.cumsum(new) - 1, room)].set(ordered, mode="drop")

    def places(ids):
        return jnp.searchsorted(ids_n, ids).astype(jnp.int32)

    trained_n = jnp.zeros(room, bool).at[places(trained)].set(True)
    students = batch.students.replace(items_T=places(batch.students.items_T))
    teachers = batch.teachers and batch.teachers.replace(items_T=places(batch.teachers.items_T))
    renumbered = batch.replace(
        students=students,
        targets_T=places(batch.targets_T),
        negatives_TxK=places(batch.negatives_TxK),
        shared_K=places(batch.shared_K) if shared else None,
        teachers=teachers,
        catalogue_n=ids_n,
    )
    return Touched(ids_n, trained_n), renumbered


def cut(tree: Any, rows: Touched) -> Any:
    """A tree of parameters, or an optimiser's state, with the touched rows of item tables in their place."""
    return jax.tree_util.tree_map_with_path(lambda p, x: take_rows(x, rows.ids_n) if _is_item_table(p) else x, tree)


def cut_tables(tables: dict[str, Array], rows: Touched, num_rows: int) -> dict[str, Array]:
    """The frozen tables with the touched rows of item tables, those of `num_rows` rows, in their place."""
    is_of_items = lambda name, table: name.startswith(FROZEN) and len(table) == num_rows  # noqa: E731
    return {name: take_rows(table, rows.ids_n) if is_of_items(name, table) else table for name, table in tables.items()}


def check(params: Any, tables: dict[str, Array], num_items: int) -> None:
    """Raises InputError for an array with a row for each item that is not known as an item table.

    Args:
      params, tables: of one lane; arrays or shapes. Those over users are left alone: a name that begins with `user`.
      num_items: V; V, V + 1 or V + 2 rows are a row for each item.
    """
    found = [(jax.tree_util.keystr(path, simple=True, separator="/"), x) for path, x in _with_paths(params)]
    trained = [(name, x, name.split("/")[-1] == ITEM_TABLE, "a parameter is named `items`") for name, x in found]
    frozen = [
        (name, x, name.startswith(FROZEN), f"a frozen table's name begins with `{FROZEN}`")
        for name, x in tables.items()
    ]
    for name, x, is_named, rule in trained + frozen:
        of_users = any(part.startswith(_OF_USERS) for part in name.split("/"))
        looks = bool(x.shape) and x.shape[0] - num_items in (0, 1, 2)
        if looks and not of_users and not (is_named and x.shape[0] == num_items + 2):
            raise InputError(
                f"config: train.table_updates=touched, and {name} of shape {tuple(x.shape)} may hold a row for each "
                f"of the {num_items} items, but is not known as an item table: {rule} and has {num_items + 2} rows "
                "(padding, items, mask token); rename or pad it, or set train.table_updates=dense"
            )


def _with_paths(tree: Any) -> list[tuple[Any, Any]]:
    return jax.tree_util.tree_flatten_with_path(tree)[0]


def put_back(tree: Any, small: Any, rows: Touched) -> Any:
    """The large tree with the trained rows of `small` written into its item tables; all else is from `small`."""

    def put(path, x, y):
        if not _is_item_table(path):
            return y
        return x.at[jnp.where(rows.trained_n, rows.ids_n, len(x))].set(y, mode="drop")

    return jax.tree_util.tree_map_with_path(put, tree, small)


def _is_item_table(path: tuple[Any, ...]) -> bool:
    return bool(path) and getattr(path[-1], "key", None) == ITEM_TABLE
