"""What the first axis of a table or parameter counts: items, users, or neither; and the names of the frozen tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

ITEM = "item"  # V + 2 rows: padding, items 1..V, mask token; an item's id is its row
USER = "user"  # U rows; row u is user id u + 1

_T = TypeVar("_T")


class Table(NamedTuple):
    """What a frozen table is.

    Attributes:
      axis: `ITEM`, `USER`, "" if the first axis is neither, or None if the axis is not declared: then touched updates
        refuse the table if it has as many rows as there are items or users.
      starts: the table only initialises a parameter: it exists when parameters are made, and not in the steps or later.
      holds_ids: the table contains item ids or user rows, which batches are made from. A step with touched updates
        renumbers ids and rows, so there the model does not get this table (`models.kernels.touched_rows`).
    """

    axis: str | None = None
    starts: bool = False
    holds_ids: bool = False


# The tables that any method may ask for, as `semantic.tables` makes them.
TABLES: Mapping[str, Table] = {
    "item_llm": Table(ITEM),
    "item_pca": Table(ITEM, starts=True),
    "item_popularity": Table(ITEM),
    "tail_item": Table(ITEM),
    "user_llm": Table(USER),
    "similar_users": Table(USER, holds_ids=True),
    "tail_user": Table(USER),
}


def in_steps(tables: Mapping[str, _T], kinds: Mapping[str, Table]) -> dict[str, _T]:
    """The tables that a trained model reads, without those that only initialise a parameter.

    Args:
      tables: {name: array}.
      kinds: {name: what the table is}; a table that has no entry stays.
    """
    return {name: table for name, table in tables.items() if not kinds.get(name, Table()).starts}
