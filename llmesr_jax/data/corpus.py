"""A corpus: the interactions of users with items in time order, and their split.

A folder holds `inter.txt` ("user item" per line, ids from 1, a user's lines in time order) and, optionally,
`items.jsonl` (one object per item: `item_id`, `title`, any other attributes), `times.npy` (int64 seconds since 1970,
one per line of `inter.txt`, NaT if unknown) and `split.npy` (uint8, one per line: 0 training, 1 validation, 2 test).

In place of `inter.txt` it may hold `items.npy` (int32, item ids, user after user) and `offsets.npy` (int64, users + 1:
where each user begins). These are memory-mapped, so the interactions need not fit in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import checks, splits
from llmesr_jax.data.splits import SplitConfig, Targets

_BLOCK = 2**24  # interactions that are processed together


@dataclass(frozen=True, eq=False)
class Corpus:
    """Interactions of U users with V items, grouped by user, in time order. All arrays are read-only.

    Attributes:
      name: of the data set.
      num_users: U; row u is user id u + 1.
      num_items: V; ids 1..V.
      items: int32 (n,) item ids; user u's are `items[offsets[u]:offsets[u + 1]]`.
      offsets: int64 (U + 1,).
      item_records: (V,) attributes of each item, at least `item_id` and `title`; None without texts. Those of a folder
        are read at their first use.
      digest: sha256, in hex, of V, items, offsets and, unless the split is leave-one-out, the split.
      folder: where the files are; None for data made in memory, such as the demo.
      split: which interactions train and which are targets.
      times: int64 (n,) seconds since 1970, `splits.UNKNOWN` if unknown; None if no time is known.
      ties: the order of interactions with equal times: "file", or "shuffled".
    """

    name: str
    num_users: int
    num_items: int
    items: np.ndarray
    offsets: np.ndarray
    item_records: Sequence[dict[str, Any]] | None
    digest: str
    folder: Path | None
    split: splits.Split
    times: np.ndarray | None = None
    ties: str = "file"

    @property
    def item_titles(self) -> tuple[str, ...] | None:
        """(V,) titles, or None without texts."""
        return None if self.item_records is None else tuple(record["title"] for record in self.item_records)

    @cached_property
    def lengths_U(self) -> np.ndarray:
        """int64 (U,): interactions of each user, at least 1."""
        return _frozen(np.diff(self.offsets))

    @property
    def train_lengths_U(self) -> np.ndarray:
        """int64 (U,): training interactions of each user, which are the first ones."""
        return self.split.train_U

    @property
    def targets(self) -> Mapping[str, Targets]:
        """{"valid": ..., "test": ...}: the targets of each split."""
        return self.split.targets

    @cached_property
    def valid_U(self) -> np.ndarray:
        """int32 (U,): item id of the user's first validation target, 0 if the user has none."""
        return self._first_target("valid")

    @cached_property
    def test_U(self) -> np.ndarray:
        """int32 (U,): item id of the user's first test target, 0 if the user has none."""
        return self._first_target("test")

    def target_items(self, split: str) -> np.ndarray:
        """int32 (E,): item ids of the targets of "valid" or "test"."""
        rows_E, stops_E = self.targets[split]
        return self.items[self.offsets[rows_E] + stops_E]

    def repeated(self, split: str) -> np.ndarray:
        """bool (E,): whether the target of "valid" or "test" is among the items of its own input."""
        return self._repeated[split]

    @cached_property
    def _repeated(self) -> dict[str, np.ndarray]:
        found = {split: np.zeros(len(rows_E), bool) for split, (rows_E, _) in self.targets.items()}
        for users in self.user_blocks():
            start, stop = self.offsets[users.start], self.offsets[users.stop]
            user_n = np.repeat(np.arange(users.start, users.stop), self.lengths_U[users])
            key_n = user_n * (self.num_items + 1) + self.items[start:stop]
            keys, first = np.unique(key_n, return_index=True)  # where each user met each item first
            for split, (rows_E, stops_E) in self.targets.items():
                of_E = np.flatnonzero((rows_E >= users.start) & (rows_E < users.stop))
                target_E = self.offsets[rows_E[of_E]] + stops_E[of_E] - start
                found[split][of_E] = first[np.searchsorted(keys, key_n[target_E])] < target_E
        return {split: _frozen(of_split) for split, of_split in found.items()}

    def user_blocks(self) -> Iterator[slice]:
        """Slices of users, in order: each has at most 2^24 interactions, or is a single user."""
        start = 0
        while start < self.num_users:
            stop = int(np.searchsorted(self.offsets, self.offsets[start] + _BLOCK, side="right")) - 1
            stop = min(max(stop, start + 1), self.num_users)
            yield slice(start, stop)
            start = stop

    def _first_target(self, split: str) -> np.ndarray:
        target_U = np.zeros(self.num_users, np.int32)
        # In reverse order, so that a user's first target is written last and stays.
        target_U[self.targets[split].rows_E[::-1]] = self.target_items(split)[::-1]
        return _frozen(target_U)

    @cached_property
    def item_counts_V(self) -> np.ndarray:
        """int64 (V,): training interactions of each item; row 0 is id 1."""
        counts_V = np.zeros(self.num_items, np.int64)
        for users in self.user_blocks():
            start, stop = self.offsets[users.start], self.offsets[users.stop]
            train_ends = self.offsets[users] + self.train_lengths_U[users]
            is_training = np.arange(start, stop) < np.repeat(train_ends, self.lengths_U[users])
            counts_V += np.bincount(self.items[start:stop][is_training] - 1, minlength=self.num_items)
        return _frozen(counts_V)


def from_pairs(
    name: str,
    users: np.ndarray,
    items: np.ndarray,
    *,
    times: np.ndarray | None = None,
    parts: np.ndarray | None = None,
    split: SplitConfig = SplitConfig(),
    item_records: Sequence[dict[str, Any]] | None = None,
    folder: Path | None = None,
    source: str | Path | None = None,
) -> Corpus:
    """Checks interactions, groups them by user, which keeps a user's order, and splits them.

    Args:
      name: of the data set.
      users: integers (n,), ids 1..U, all of them present.
      items: integers (n,), ids 1..V, all of them present.
      times: int64 (n,) seconds since 1970, ascending within a user, `splits.UNKNOWN` first.
      parts: uint8 (n,) index into `splits.PARTS`, ascending within a user: the user's own split.
      split: how to split, and how to order ties.
      item_records: (V,) in order of id.
      folder: kept in the corpus.
      source: the name in error messages; by default the data set.

    Raises:
      InputError: no interactions or more than 2^31 - 1, an id below 1, a gap in the ids, times out of order, or a split
        that cannot be made.
    """
    source = source or f"data set {name!r}"
    users, items = np.asarray(users), np.asarray(items)
    checks.check_size(source, len(users))
    if not len(users):
        raise InputError(f'{source}: is empty; expected one "user item" per line')
    checks.check_size(source, len(users), checks.count_ids(source, "user", users))
    checks.count_ids(source, "item", items)
    order = np.argsort(users, kind="stable")
    users, items = users[order], items[order].astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(users - 1))]).astype(np.int64)
    times, parts = (None if array is None else np.asarray(array)[order] for array in (times, parts))
    return from_sequences(
        name,
        items,
        offsets,
        times=times,
        parts=parts,
        split=split,
        item_records=item_records,
        folder=folder,
        source=source,
    )


def from_sequences(
    name: str,
    items: np.ndarray,
    offsets: np.ndarray,
    *,
    times: np.ndarray | None = None,
    parts: np.ndarray | None = None,
    split: SplitConfig = SplitConfig(),
    item_records: Sequence[dict[str, Any]] | None = None,
    folder: Path | None = None,
    source: str | Path | None = None,
) -> Corpus:
    """Checks interactions that are already grouped by user, and splits them. Mapped arrays stay mapped.

    Args:
      items: int32 (n,), ids 1..V, all of them present.
      offsets: int64 (U + 1,) where each user begins, from 0 to n.
      name, times, parts, split, item_records, folder, source: as of `from_pairs`.

    Raises:
      InputError: as `from_pairs`; or offsets do not ascend from 0 to n.
    """
    source = source or f"data set {name!r}"
    num_users = len(offsets) - 1
    if num_users < 1 or offsets[0] != 0 or offsets[-1] != len(items) or (np.diff(offsets) < 1).any():
        raise InputError(
            f"{source}: the offsets of users do not ascend from 0 to the {len(items)} interactions; expected where "
            "each user begins, and the number of interactions at the end; write the file again"
        )
    checks.check_size(source, len(items), num_users)
    num_items = checks.count_ids(source, "item", items)
    if parts is not None and times is not None and split.split not in ("auto", "files"):
        # A user's lines are in order of their parts, and of time only within a part; another split needs order of time.
        order = np.lexsort((times, np.repeat(np.arange(num_users), np.diff(offsets))))
        items, times, parts = items[order], times[order], None
    checks.check_order(source, offsets, times, parts)
    if split.ties == "shuffled":
        if times is None:
            raise InputError(
                f"{source}: data.ties=shuffled, but the data have no times (no times.npy); prepare the data from raw "
                "files with a time column, or use data.ties=file"
            )
        order = splits.shuffle_ties(offsets, times, parts, split.ties_seed)
        items = items[order]  # times and parts are equal wherever it changes the order
    made = splits.make(split, offsets, times, parts, source)
    digest = _digest(num_items, items, offsets, made)
    for array in (items, offsets, times, made.train_U, *(x for part in made.targets.values() for x in part)):
        if array is not None:
            _frozen(array)
    return Corpus(
        name, num_users, num_items, items, offsets, item_records, digest, folder, made, times, ties=split.ties
    )


def _digest(num_items: int, items: np.ndarray, offsets: np.ndarray, split: splits.Split) -> str:
    sha256 = hashlib.sha256(np.array([num_items], "<i8"))
    sha256.update(items.astype("<i4", copy=False).data)
    sha256.update(offsets.astype("<i8", copy=False).data)
    if split.name.partition(",")[0] != splits.LEAVE_ONE_OUT:  # that one follows from the offsets
        for array in (split.train_U, *(x for part in split.targets.values() for x in part)):
            sha256.update(array.astype("<i8").tobytes())
    return sha256.hexdigest()


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
