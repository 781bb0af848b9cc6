"""Rows of interactions in files on disk, a file for each column, and what is counted over all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from tqdm import tqdm

from llmesr_jax.data.rules import Rule
from llmesr_jax.data.splits import UNKNOWN
from llmesr_jax.data.tally import Counts


class Seen:
    """Counts users, items and rows, file by file."""

    def __init__(self, files: RowFiles):
        self._users, self._items = np.zeros(files.num_users, bool), np.zeros(files.num_items, bool)
        self._rows = 0

    def add(self, frame: pl.DataFrame) -> None:
        """Counts rows with the columns "user" and "item", as codes."""
        self._users[frame["user"].to_numpy()] = True
        self._items[frame["item"].to_numpy()] = True
        self._rows += len(frame)

    def counts(self, step: str) -> Counts:
        """Different users and items, and rows, of all that was added."""
        return Counts(step, int(self._users.sum()), int(self._items.sum()), self._rows)


class RowFiles:
    """Rows in groups of users, with a file for each column of a group; a user's rows are in the order of the result.

    Attributes:
      num_users, num_items: numbers of user codes and of item codes.
      alive_U, alive_V: bool; a row is kept while both its user and its item are alive.
    """

    def __init__(self, folder: Path, num_users: int, num_items: int):
        folder.mkdir(parents=True)
        self._folder, self._count = folder, 0
        self.num_users, self.num_items = num_users, num_items
        self.alive_U, self.alive_V = np.ones(num_users, bool), np.ones(num_items, bool)

    def add(self, frame: pl.DataFrame) -> None:
        """Writes one more group: all rows of some users."""
        for column in frame:
            np.save(self._path(self._count, column.name), column.to_numpy())
        self._count += 1

    def _path(self, number: int, column: str) -> Path:
        return self._folder / f"{number:05d}-{column}.npy"

    def kept(self, *columns: str, last: bool = False) -> Iterator[list[np.ndarray]]:
        """For each group: user, item and `columns` of the rows that are kept.

        Args:
          last: deletes each group's files after they were read.
        """
        for number in range(self._count):
            user, item, *others = (np.load(self._path(number, name)) for name in ("user", "item", *columns))
            here = self.alive_U[user] & self.alive_V[item]
            yield [array[here] for array in (user, item, *others)]
            if last:
                for path in self._folder.glob(f"{number:05d}-*"):
                    path.unlink()

    def core(self, rule: Rule) -> None:
        """Marks users and items with too few rows (or too few distinct items and users) as not alive.

        Once, or until nothing changes, as the rule says.
        """
        distinct = ["first"] if rule.core_counts == "distinct" else []
        before = None
        with tqdm(desc="k-core", unit="round", disable=None) as bar:
            while True:
                user_U, item_V, rows = np.zeros(self.num_users, np.int64), np.zeros(self.num_items, np.int64), 0
                for user, item, *first in self.kept(*distinct):
                    rows += len(user)
                    if first:
                        user, item = user[first[0]], item[first[0]]
                    user_U += np.bincount(user, minlength=self.num_users)
                    item_V += np.bincount(item, minlength=self.num_items)
                bar.update(1)
                if rows == before:
                    return
                self.alive_U &= user_U >= rule.user_core
                self.alive_V &= item_V >= rule.item_core
                if rule.core == "once":
                    return
                before = rows

    def counts(self, step: str) -> Counts:
        """Numbers of users, items and rows that are kept."""
        seen = Seen(self)
        for user, item in self.kept():
            seen.add(pl.DataFrame({"user": user, "item": item}))
        return seen.counts(step)

    def lengths(self) -> np.ndarray:
        """int64 (U,): rows of each user that are kept."""
        lengths_U = np.zeros(self.num_users, np.int64)
        for user, _ in self.kept():
            lengths_U += np.bincount(user, minlength=self.num_users)
        return lengths_U

    def repeats(self) -> int:
        """How many kept rows have the user, the item and the known time of another one."""
        found = 0
        for user, item, time in self.kept("time"):
            frame = pl.DataFrame({"user": user, "item": item, "time": time}).filter(pl.col("time") != UNKNOWN)
            found += len(frame) - frame.n_unique()
        return found

    def first_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Over the kept rows of each user: int64 (U,) the lowest row number, and int64 (U,) how many rows there are.

        A user without kept rows has the largest int64, and 0.
        """
        first_U, lengths_U = np.full(self.num_users, np.iinfo(np.int64).max), np.zeros(self.num_users, np.int64)
        for user, _, row in self.kept("row"):
            starts = np.flatnonzero(np.diff(user, prepend=-1))
            if len(starts):
                first_U[user[starts]] = np.minimum.reduceat(row, starts)
                lengths_U[user[starts]] = np.diff(starts, append=len(user))
        return first_U, lengths_U
