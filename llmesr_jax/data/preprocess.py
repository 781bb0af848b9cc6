"""From rows of (user, item, rating, time) in file order to numbered sequences, by the rules of the papers' data sets.

The steps, each with the counts after it: rating threshold, date range, exact duplicates, repeated items, k-core
once or iterated, minimum length. Rows that the first pass drops are not kept in memory: polars' streaming engine counts
and joins them, so memory grows with users, items and the rows that are kept, not with the file.

Order. A user's interactions are sorted by time (with a split of the user's own, within each part); ties keep file
order. Users are numbered from 1 as they first appear in the file, items as they first appear when users are read one
after the other (as in LLM-ESR's release).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import splits
from llmesr_jax.data.rules import Rule
from llmesr_jax.data.tally import Counts, Tally, passes


class Block(NamedTuple):
    """All interactions of some users with consecutive ids; the arrays are as in `Prepared`."""

    user_n: np.ndarray
    item_n: np.ndarray
    times: np.ndarray | None
    parts: np.ndarray | None


class Prepared(NamedTuple):
    """Numbered interactions, user after user, each in time order.

    Attributes:
      users: (U,) raw ids, row 0 = id 1.
      items: (V,) raw ids, row 0 = id 1.
      user_n: int64 (n,) ids from 1.
      item_n: int64 (n,) ids from 1.
      steps: counts of the raw rows and after each step that applies.
      times: int64 (n,) seconds since 1970, `splits.UNKNOWN` if unknown; None if the source has no times.
      parts: uint8 (n,) index into `splits.PARTS`; None without the user's own split.
      duplicates: exact duplicates that were dropped or, if they are kept, remain.
      across: duplicates that were dropped because an earlier part has them.
    """

    users: pl.Series
    items: pl.Series
    user_n: np.ndarray
    item_n: np.ndarray
    steps: tuple[Counts, ...]
    times: np.ndarray | None = None
    parts: np.ndarray | None = None
    duplicates: int = 0
    across: int = 0

    def blocks(self) -> Iterator[Block]:
        """All interactions, as one block."""
        yield Block(self.user_n, self.item_n, self.times, self.parts)


def apply(
    rows: pl.LazyFrame,
    rule: Rule,
    *,
    known_users: Sequence[str] = (),
    known_items: Sequence[str] = (),
    numbered: bool = False,
) -> Prepared:
    """Applies the rule and numbers the remaining users and items.

    Args:
      rows: user (String), item (String), optionally rating (Float64) and time (Int64 microseconds), in file order. A
        rating or time that is unknown is null: a rule that reads it drops the row, and an unknown time comes
        before all others of the user. Optionally part (UInt8), index into `splits.PARTS`.
      rule: what is kept.
      known_users: raw ids that already have the numbers 1, 2, ...; new users follow.
      known_items: the same for items.
      numbered: if raw ids are whole numbers, the ids keep their order.

    Raises:
      InputError: the rule needs a column that is missing, or leaves nothing; or a known id is dropped.
    """
    filters = passes(rule, rows.collect_schema().names())
    first_pass = rule.core != "none" and rule.duplicates == "all" and rule.core_counts == "interactions"
    again, across = pl.Series(dtype=pl.UInt32), 0
    if rule.exact_duplicates == "drop":
        again, across = _repeated_rows(rows, filters)
    least = (rule.user_core, rule.item_core) if first_pass else (0, 0)
    coded, users, items, steps = _code(rows, again, filters, least, rule)
    if rule.duplicates != "all":
        coded = coded.sort(_in_time(coded)).unique(["user", "item"], keep=rule.duplicates)
        steps.append(_counts(step_name("duplicates", rule), coded))
    if rule.core != "none":
        if rule.core == "iterated" or not first_pass:
            coded = _core(coded, rule)
        steps.append(_counts(step_name("core", rule), coded))
    if rule.min_length > 1:
        coded = coded.filter(pl.len().over("user") >= rule.min_length)
        steps.append(_counts(step_name("min_length", rule), coded))
    check_left(steps)
    user_order = order_of_ids(_by_appearance(coded, "user", "row"), "user", users, known_users, numbered)
    coded = coded.with_columns(pl.Series("user", numbers(user_order, users)[coded["user"].to_numpy()]))
    duplicates = len(again)
    if rule.exact_duplicates == "keep" and "time" in coded.columns:
        known = coded.filter(pl.col("time").is_not_null())
        duplicates = len(known) - known.select(pl.struct("user", "item", "time").n_unique()).item()
    coded = coded.sort(["user", *_in_time(coded)]).with_row_index("place")
    item_order = order_of_ids(_by_appearance(coded, "item", "place"), "item", items, known_items, numbered)
    item_n = numbers(item_order, items)[coded["item"].to_numpy()]
    raw = users.gather(user_order), items.gather(item_order)
    seconds = parts = None
    if "time" in coded.columns and coded["time"].null_count() < len(coded):
        seconds = (coded["time"] // 1_000_000).fill_null(splits.UNKNOWN).to_numpy()
    if "part" in coded.columns:
        parts = coded["part"].to_numpy()
    return Prepared(*raw, coded["user"].to_numpy(), item_n, tuple(steps), seconds, parts, duplicates, across)


def _repeated_rows(rows: pl.LazyFrame, filters: dict[str, pl.Expr]) -> tuple[pl.Series, int]:
    """Finds exact duplicates: rows with the same user, item and (known) time as an earlier row that also passes.

    One pass hashes each row, at 8 bytes of memory per row; only rows with equal hashes are compared.

    Returns:
      UInt32 numbers of these rows, and how many of them are in a later part than the earlier row.
    """
    columns = rows.collect_schema().names()
    nothing = pl.Series("row", dtype=pl.UInt32)
    if "time" not in columns:
        return nothing, 0
    mixed = pl.col("user").hash(1) ^ pl.col("item").hash(2) ^ pl.col("time").hash(3)
    known = rows.with_row_index("row").filter(pl.col("time").is_not_null(), *filters.values())
    hashes = np.sort(known.select(mixed.alias("hash")).collect(engine="streaming")["hash"].to_numpy())
    twice = hashes[1:][hashes[1:] == hashes[:-1]]
    if not len(twice):
        return nothing, 0
    twice = pl.LazyFrame({"hash": np.unique(twice)})
    alike = known.with_columns(hash=mixed).join(twice, on="hash", how="semi").drop("hash").collect(engine="streaming")
    key = ["user", "item", "time"]
    if "part" not in columns:
        return alike.sort("row").filter(~pl.struct(key).is_first_distinct())["row"], 0
    alike = alike.sort("part", "row").with_columns(first=pl.col("part").min().over(key))
    again = alike.filter(~pl.struct(key).is_first_distinct())
    return again["row"], again.filter(pl.col("part") > pl.col("first")).height


def step_name(step: str, rule: Rule) -> str:
    """The name of a step in tables of counts: of "again" (exact duplicates), "duplicates", "core" or "min_length"."""
    return {
        "again": "exact duplicates dropped",
        "duplicates": f"the {rule.duplicates} of a user's interactions with an item",
        "core": f"users >= {rule.user_core}, items >= {rule.item_core}, {rule.core}",
        "min_length": f"users of length >= {rule.min_length}",
    }[step]


def check_left(steps: Sequence[Counts]) -> None:
    """Raises InputError if there were no interactions, or none is left after the last step."""
    if not steps[0].interactions:
        raise InputError(
            "the raw files have no interaction (only a header line?); expected one per row; check the file"
        )
    if not steps[-1].interactions:
        raise InputError(
            f"the rule leaves no interaction ({_in_words(steps)}); expected at least one; loosen the rule: --core=none "
            "keeps all"
        )


def _code(
    rows: pl.LazyFrame, again: pl.Series, filters: dict[str, pl.Expr], least: tuple[int, int], rule: Rule
) -> tuple[pl.DataFrame, pl.Series, pl.Series, list[Counts]]:
    """The rows that pass the filters, with ids coded as integers.

    Args:
      again: row numbers of exact duplicates, which are left out.
      least: rows that a user, and an item, must have after the filters; 0 for no minimum.

    Returns:
      A frame (user, item: UInt32 codes; row: place in the file; time and part if there are such columns), the raw id of
      each user code, of each item code, and the counts of the raw rows and after each filter.
    """
    if len(again):
        filters = {**filters, step_name("again", rule): ~pl.col("row").is_in(again.implode())}
    tally = Tally.of(rows, filters)
    columns = [name for name in ("row", "time", "part") if name in ("row", *rows.collect_schema())]
    coded, users, items = tally.coded(columns, least)
    return coded.collect(engine="streaming"), users, items, tally.counts


def _in_time(coded: pl.DataFrame) -> list[str]:
    return [name for name in ("part", "time", "row") if name in coded.columns]


def _core(coded: pl.DataFrame, rule: Rule) -> pl.DataFrame:
    """Drops users and items with too few interactions, once or until nothing changes."""
    user_n, item_n = coded["user"].to_numpy().astype(np.int64), coded["item"].to_numpy().astype(np.int64)
    num_items = int(item_n.max(initial=0)) + 1
    kept = np.arange(len(user_n))
    while True:
        user, item = user_n[kept], item_n[kept]
        counted = (user, item)
        if rule.core_counts == "distinct":
            pairs = np.unique(user * num_items + item)
            counted = (pairs // num_items, pairs % num_items)
        enough = np.bincount(counted[0])[user] >= rule.user_core if len(kept) else np.ones(0, bool)
        enough &= np.bincount(counted[1])[item] >= rule.item_core if len(kept) else True
        kept, done = kept[enough], enough.all() or rule.core == "once"
        if done:
            return coded[kept]


def _by_appearance(coded: pl.DataFrame, key: str, place: str) -> np.ndarray:
    """The codes of column `key` in order of their first value in column `place`."""
    return coded.group_by(key).agg(pl.col(place).min()).sort(place)[key].to_numpy()


def order_of_ids(order: np.ndarray, key: str, raw: pl.Series, known: Sequence[str], numbered: bool) -> np.ndarray:
    """The codes in order of their new numbers: known ones first, then by first appearance or by their own number.

    Args:
      order: the codes by first appearance.
      key: "user" or "item", for messages.
      raw: the id of each code.
      known, numbered: as of `apply`.
    Raises:
      InputError: a known id was dropped.
    """
    if numbered and raw.gather(order).str.contains("^[0-9]{1,18}$").all():
        order = order[np.argsort(raw.gather(order).cast(pl.Int64).to_numpy(), kind="stable")]
    if not len(known):
        return order
    left = pl.DataFrame({"id": raw.gather(order), "code": order})
    before = pl.DataFrame({"id": pl.Series(known, dtype=pl.String)}).join(
        left, on="id", how="left", maintain_order="left"
    )
    if gone := before["code"].null_count():
        first = before.filter(pl.col("code").is_null())["id"][0]
        raise InputError(
            f"{gone} of {len(known)} known {key}s are now dropped by the rule, such as {repr(first)[:60]}; "
            "expected raw data that only grew; use --overwrite to assign new ids"
        )
    codes = before["code"].to_numpy()
    return np.concatenate([codes, order[~np.isin(order, codes)]])


def numbers(order: np.ndarray, raw: pl.Series) -> np.ndarray:
    """int64 (codes,): the number from 1 of each code, 0 if it has none."""
    numbers = np.zeros(len(raw), np.int64)
    numbers[order] = np.arange(1, len(order) + 1)
    return numbers


def _counts(step: str, coded: pl.DataFrame) -> Counts:
    return Counts(step, coded["user"].n_unique(), coded["item"].n_unique(), len(coded))


def _in_words(steps: Sequence[Counts]) -> str:
    return "; ".join(f"{c.step}: {c.interactions:,} interactions" for c in steps)
