"""Counts the raw interactions of each user and item that pass the filters of a rule; and codes raw ids as integers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import times
from llmesr_jax.data.rules import Rule

_BATCH = 2_000_000  # rows
_PARTS = 64  # of the ids, by their hash


class Counts(NamedTuple):
    """Numbers of users, items and interactions after a step of a rule."""

    step: str
    users: int
    items: int
    interactions: int


class Tally(NamedTuple):
    """How many rows each user and item has after each filter.

    Attributes:
      kept: the rows that pass all filters, with "row" (UInt32), their place in the file.
      users, items: raw id ("user" or "item"), and a column for each step: rows that are left.
      counts: of the raw rows and after each filter.
    """

    kept: pl.LazyFrame
    users: pl.DataFrame
    items: pl.DataFrame
    counts: list[Counts]

    @classmethod
    def of(cls, rows: pl.LazyFrame, filters: Mapping[str, pl.Expr], in_memory: bool = True) -> Tally:
        """Counts in passes of polars' streaming engine.

        Args:
          rows: user, item (String) and what the filters read, in file order.
          filters: {step: which rows pass it}.
          in_memory: False: memory grows only with users and items, not with rows.
        """
        steps = {"raw": pl.lit(True)}
        for step, passing in filters.items():
            steps[step] = list(steps.values())[-1] & passing
        marked = rows.with_row_index("row").with_columns(**steps)
        if in_memory:
            # One pass over the file counts every step for every user, another one for every item.
            queries = [_counted(marked, key, steps) for key in ("user", "item")]
            users, items = pl.collect_all(queries, engine="streaming")
        else:
            users, items = _counted_in_batches(marked, steps)
        counts = [Counts(s, int((users[s] > 0).sum()), int((items[s] > 0).sum()), int(users[s].sum())) for s in steps]
        return cls(marked.filter(list(steps)[-1]), users, items, counts)

    def coded(self, columns: Sequence[str], least: tuple[int, int]) -> tuple[pl.LazyFrame, pl.Series, pl.Series]:
        """The kept rows, with ids as integers.

        Args:
          columns: to keep beside user and item.
          least: kept rows that a user, and an item, must have; rows of others are left out.

        Returns:
          user, item (UInt32 codes) and `columns`; the raw id of each user code, and of each item code.
        """
        rows, ids = self.kept, []
        for key, table, enough in zip(("user", "item"), (self.users, self.items), least):
            ids.append(table.filter(pl.col(self.counts[-1].step) >= max(enough, 1)).select(key).with_row_index("code"))
            rows = rows.join(ids[-1].lazy(), on=key).drop(key).rename({"code": key})
        return rows.select("user", "item", *columns), ids[0]["user"], ids[1]["item"]


def _counted(rows: Any, key: str, steps: Collection[str]) -> Any:
    """How many rows of each id pass each step; `rows` is a frame or a lazy frame, as is the result."""
    return rows.group_by(key).agg(pl.col(*steps).cast(pl.UInt32).sum())


def _counted_in_batches(rows: pl.LazyFrame, steps: Collection[str]) -> list[pl.DataFrame]:
    """The counts of users and of items, batch by batch: polars' streaming group-by would keep rows in memory.

    Ids are divided into parts by their hash. Each part is merged alone, so a merge takes the memory of one part.
    """
    found: dict[str, list[list[pl.DataFrame]]] = {key: [[] for _ in range(_PARTS)] for key in ("user", "item")}
    batches = rows.select("user", "item", *steps).collect_batches(
        chunk_size=_BATCH, maintain_order=False, engine="streaming"
    )
    for batch in batches:
        for key, parts in found.items():
            counted = _counted(batch, key, steps).with_columns(part=(pl.col(key).hash() % _PARTS).cast(pl.UInt8))
            for (part,), table in counted.partition_by("part", as_dict=True, include_key=False).items():
                tables = parts[part]
                tables.append(table)
                # The first table is all that was merged; it is merged again when the others are as large.
                if sum(map(len, tables[1:])) > max(len(tables[0]), _BATCH // _PARTS):
                    tables[:] = [_counted(pl.concat(tables), key, steps)]
    return [_merged(parts, key, steps) for key, parts in found.items()]


def _merged(parts: list[list[pl.DataFrame]], key: str, steps: Collection[str]) -> pl.DataFrame:
    """The counts of all parts; empties each part when it is merged, which frees its memory."""
    merged = [pl.DataFrame(schema={key: pl.String, **dict.fromkeys(steps, pl.UInt32)})]
    for tables in parts:
        if tables:
            merged.append(_counted(pl.concat(tables), key, steps))
            tables.clear()
    return pl.concat(merged)


def passes(rule: Rule, columns: Sequence[str]) -> dict[str, pl.Expr]:
    """{name of a step: which rows pass it}, of the steps of a rule that look at single rows.

    Args:
      columns: of the rows.

    Raises:
      InputError: a filter reads a column that does not exist.
    """
    filters = {}
    if rule.min_rating is not None:
        filters[f"rating >= {rule.min_rating:g}"] = pl.col("rating") >= rule.min_rating
    if rule.date_from:
        filters[f"from {rule.date_from}"] = pl.col("time") >= times.day(rule.date_from, "date_from")
    if rule.date_to:
        filters[f"up to {rule.date_to}"] = pl.col("time") <= times.day(rule.date_to, "date_to")
    for step, passing in filters.items():
        (column,) = passing.meta.root_names()
        if column not in columns:
            raise InputError(
                f'the rule needs "{step}", but this source has no {column}; name the column (--{column}_column) or '
                "change the rule"
            )
    return filters
