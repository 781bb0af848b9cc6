"""The rules of `preprocess` for interactions that do not fit in memory: the same result, row for row.

Rows are distributed over files by user, so each step that concerns single users (duplicates, order in time) needs only
one file at a time. The k-core needs only counts over all files: each round reads the ids of every file once. The
numbered rows are then distributed again, by their place in the result.

Memory holds the raw ids, a few numbers for each user and item, and the rows of one file. The disk holds, beside the
result, 21 bytes for each row that passes the filters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from tqdm import tqdm

from llmesr_jax.data.preprocess import (
    Block,
    check_left,
    numbers,
    order_of_ids,
    step_name,
)
from llmesr_jax.data.row_files import RowFiles, Seen
from llmesr_jax.data.rules import Rule
from llmesr_jax.data.splits import UNKNOWN
from llmesr_jax.data.spool import Spool
from llmesr_jax.data.tally import Counts, Tally, passes

FILE_ROWS = 4_000_000  # rows of a file, about; they take 0.6 GB while they are sorted
_MOST_FILES = 500  # files that are open together
_BATCH = 1_000_000  # rows that polars returns at a time
_RAW = np.dtype([("user", "<u4"), ("item", "<u4"), ("row", "<u4"), ("time", "<i8"), ("part", "u1")])
_NUMBERED = np.dtype([("user", "<u4"), ("item", "<u4"), ("time", "<i8"), ("part", "u1")])
_MICRO = 1_000_000


class Stored(NamedTuple):
    """As `preprocess.Prepared`, with the interactions on disk.

    Attributes:
      blocks: () -> the interactions in blocks, user after user, each in time order.
    """

    users: pl.Series
    items: pl.Series
    steps: tuple[Counts, ...]
    duplicates: int
    across: int
    blocks: Callable[[], Iterator[Block]]


def apply(
    rows: pl.LazyFrame,
    rule: Rule,
    folder: Path,
    *,
    known_users: Sequence[str] = (),
    known_items: Sequence[str] = (),
    numbered: bool = False,
    file_rows: int = FILE_ROWS,
) -> Stored:
    """`preprocess.apply` in bounded memory.

    Args:
      rows, rule, known_users, known_items, numbered: as there.
      folder: for temporary files, which `Stored.blocks` reads.
      file_rows: rows of a file, about.

    Raises:
      InputError: as there.
    """
    columns = rows.collect_schema().names()
    tally = Tally.of(rows, passes(rule, columns), in_memory=False)
    beside = [name for name in ("row", "time", "part") if name in ("row", *columns)]
    coded, users, items = tally.coded(beside, (0, 0))
    files = RowFiles(folder / "by_user", len(users), len(items))
    steps, (duplicates, across) = list(tally.counts), (0, 0)
    if steps[-1].interactions:
        spool = _spread(coded, beside, steps[-1].interactions, folder / "raw", file_rows)
        steps_of_files, duplicates, across = _tidy(spool, files, rule)
        steps += steps_of_files
    if rule.core != "none":
        files.core(rule)
        steps.append(files.counts(step_name("core", rule)))
    if rule.min_length > 1:
        files.alive_U &= files.lengths() >= rule.min_length
        steps.append(files.counts(step_name("min_length", rule)))
    check_left(steps)
    if rule.exact_duplicates == "keep" and "time" in columns:
        duplicates = files.repeats()
    first_U, lengths_U = files.first_rows()
    order = np.argsort(first_U, kind="stable")[: int((lengths_U > 0).sum())]
    user_order = order_of_ids(order, "user", users, known_users, numbered)
    in_order, appearance = _by_number(files, numbers(user_order, users), lengths_U, folder / "by_number", file_rows)
    item_order = order_of_ids(appearance, "item", items, known_items, numbered)
    number_V = numbers(item_order, items)
    dated = "time" in columns and in_order.any_time

    def blocks() -> Iterator[Block]:
        for block in in_order.blocks():
            times = np.where(block["time"] == UNKNOWN, UNKNOWN, block["time"] // _MICRO) if dated else None
            part_n = block["part"].copy() if "part" in columns else None
            yield Block(block["user"].astype(np.int64), number_V[block["item"]], times, part_n)

    raw = users.gather(user_order), items.gather(item_order)
    return Stored(*raw, tuple(steps), duplicates, across, blocks)


def _spread(coded: pl.LazyFrame, columns: Sequence[str], count: int, folder: Path, file_rows: int) -> Spool:
    """The rows in files by user, in any order within a file."""
    spool = Spool(folder, _RAW, min(-(-count // file_rows), _MOST_FILES))
    with tqdm(total=count, desc="rows by user", unit="row", unit_scale=True, disable=None) as bar:
        for batch in coded.collect_batches(chunk_size=_BATCH, maintain_order=False, engine="streaming"):
            records = np.zeros(len(batch), _RAW)
            records["time"] = UNKNOWN
            for name in ("user", "item", *columns):
                column = batch[name].fill_null(UNKNOWN) if name == "time" else batch[name]
                records[name] = column.to_numpy()
            spool.add(records["user"] % len(spool), records)
            bar.update(len(batch))
    spool.close()
    return spool


def _tidy(spool: Spool, files: RowFiles, rule: Rule) -> tuple[list[Counts], int, int]:
    """Drops duplicates and puts each user's rows in order, file by file.

    Returns:
      The counts after each step that changed something; the number of exact duplicates that were dropped; and the
      number of those whose first occurrence is in an earlier part.
    """
    again = across = 0
    after_exact, after_all = Seen(files), Seen(files)
    for number in tqdm(range(len(spool)), desc="order in time", unit="file", disable=None):
        records = spool.take(number)
        frame = pl.DataFrame({name: np.ascontiguousarray(records[name]) for name in _RAW.names})
        if rule.exact_duplicates == "drop":
            frame, dropped, of_them = _without_repeats(frame)
            again, across = again + dropped, across + of_them
        after_exact.add(frame)
        frame = frame.sort("user", "part", "time", "row")
        if rule.duplicates != "all":
            frame = frame.unique(["user", "item"], keep=rule.duplicates, maintain_order=True)
            after_all.add(frame)
        if rule.core_counts == "distinct":
            frame = frame.with_columns(first=pl.struct("user", "item").is_first_distinct())
        files.add(frame)
    steps = [after_exact.counts(step_name("again", rule))] if again else []
    if rule.duplicates != "all":
        steps.append(after_all.counts(step_name("duplicates", rule)))
    return steps, again, across


def _without_repeats(frame: pl.DataFrame) -> tuple[pl.DataFrame, int, int]:
    """The rows without exact duplicates, the number of duplicates, and of those that first occur in an earlier part."""
    key = ["user", "item", "time"]
    frame = frame.sort("part", "row")
    known = pl.col("time") != UNKNOWN
    again = known & ~pl.struct(key).is_first_distinct()
    dropped = frame.filter(again)
    if not len(dropped):
        return frame, 0, 0
    first = frame.join(dropped.select(key).unique(), on=key, how="semi").group_by(key).agg(pl.col("part").min())
    across = dropped.join(first, on=key, suffix="_first").filter(pl.col("part") > pl.col("part_first")).height
    return frame.filter(~again), len(dropped), across


class _Sorted(NamedTuple):
    """Files of `_NUMBERED` records in the order of the result."""

    paths: list[Path]
    any_time: bool

    def blocks(self) -> Iterator[np.ndarray]:
        for path in self.paths:
            yield np.load(path)


def _by_number(
    files: RowFiles, number_U: np.ndarray, lengths_U: np.ndarray, folder: Path, file_rows: int
) -> tuple[_Sorted, np.ndarray]:
    """The kept rows in the order of their users' numbers, and the item codes in the order of their first appearance.

    Args:
      number_U: number from 1 of each user code; 0 if the user is dropped.
      lengths_U: number of kept rows of each user code.
    """
    in_order = np.zeros(len(number_U) + 1, np.int64)
    in_order[number_U] = lengths_U
    in_order[0] = 0
    starts = np.cumsum(in_order) - in_order  # of each number
    total = int(in_order.sum())
    spool = Spool(folder, _NUMBERED, min(-(-total // file_rows), _MOST_FILES))
    each = -(-total // len(spool))
    for user, item, time, part in files.kept("time", "part", last=True):
        records = np.zeros(len(user), _NUMBERED)
        records["user"], records["item"], records["time"], records["part"] = number_U[user], item, time, part
        spool.add(starts[records["user"]] // each, records)
    spool.close()
    paths, any_time = [], False
    seen_V, found = np.zeros(files.num_items, bool), []
    for number in tqdm(range(len(spool)), desc="numbering", unit="file", disable=None):
        records = spool.take(number)
        records = records[np.argsort(records["user"], kind="stable")]
        any_time |= bool((records["time"] != UNKNOWN).any())
        new = records["item"][~seen_V[records["item"]]]
        codes, first = np.unique(new, return_index=True)
        found.append(codes[np.argsort(first)])
        seen_V[codes] = True
        paths.append(folder / f"{number:05d}.npy")
        np.save(paths[-1], records)
    return _Sorted(paths, any_time), np.concatenate(found).astype(np.int64)
