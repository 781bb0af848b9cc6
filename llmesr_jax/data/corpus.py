"""A corpus: the interactions of users with items in time order, and their split.

A folder holds `inter.txt` ("user item" per line, ids from 1, a user's lines in time order) and, optionally,
`items.jsonl` (one object per item: `item_id`, `title`, any other attributes), `times.npy` (int64 seconds since 1970,
one per line of `inter.txt`, NaT if unknown) and `split.npy` (uint8, one per line: 0 training, 1 validation, 2 test).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import splits
from llmesr_jax.data.splits import SplitConfig, Targets

# Places of interactions are int32 on the device; under the cloze task a user stands there twice, as u and u + U.
MOST_INTERACTIONS, MOST_USERS = 2**31 - 1, 2**30


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
      digest: sha256, in hex, of V, items, offsets and, unless it is leave-one-out, the split.
      folder: where the files are; None for the demo.
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
        key_n = np.repeat(np.arange(self.num_users), self.lengths_U) * (self.num_items + 1) + self.items
        keys, first = np.unique(key_n, return_index=True)  # where each user met each item first
        found = {}
        for split, (rows_E, stops_E) in self.targets.items():
            target_E = self.offsets[rows_E] + stops_E
            found[split] = _frozen(first[np.searchsorted(keys, key_n[target_E])] < target_E)
        return found

    def _first_target(self, split: str) -> np.ndarray:
        target_U = np.zeros(self.num_users, np.int32)
        # Backwards, so that of several targets the first one stays.
        target_U[self.targets[split].rows_E[::-1]] = self.target_items(split)[::-1]
        return _frozen(target_U)

    @cached_property
    def item_counts_V(self) -> np.ndarray:
        """int64 (V,): training interactions of each item; row 0 is id 1."""
        train_ends = self.offsets[:-1] + self.train_lengths_U
        is_training = np.arange(len(self.items)) < np.repeat(train_ends, self.lengths_U)
        return _frozen(np.bincount(self.items[is_training] - 1, minlength=self.num_items))


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
    check_size(source, len(users))
    if not len(users):
        raise InputError(f'{source}: is empty; expected one "user item" per line')
    num_users, num_items = _count_ids(source, "user", users), _count_ids(source, "item", items)
    check_size(source, len(users), num_users)
    order = np.argsort(users, kind="stable")
    users, items = users[order], items[order].astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(users - 1))]).astype(np.int64)
    times, parts = (None if array is None else np.asarray(array)[order] for array in (times, parts))
    if parts is not None and times is not None and split.split not in ("auto", "files"):
        # The parts stand one after the other; another split wants each user's order in time.
        order = np.lexsort((times, users))
        items, times, parts = items[order], times[order], None
    _check_order(source, users, times, parts)
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


def check_size(source: str | Path, interactions: int, users: int = 0) -> None:
    """Raises InputError for more interactions or users than 32-bit numbers can count."""
    for kind, count, most in (("interactions", interactions, MOST_INTERACTIONS), ("users", users, MOST_USERS)):
        if count > most:
            raise InputError(
                f"{source}: {count} {kind}; expected at most {most}, as the device uses 32-bit indices; leave "
                "out old interactions, or train on a part of the users"
            )


def _check_order(source: str | Path, users: np.ndarray, times: np.ndarray | None, parts: np.ndarray | None) -> None:
    """Raises InputError if parts, or times within a part, do not ascend within a user."""
    same = users[1:] == users[:-1]
    if parts is not None:
        if len(parts) and parts.max() >= len(splits.PARTS):
            raise InputError(
                f"{source}: split.npy holds {parts.max()}; expected 0 (training), 1 (validation), 2 (test)"
            )
        if (back := same & (parts[1:] < parts[:-1])).any():
            raise InputError(
                f"{source}: user {users[1:][back][0]} has training after validation, or validation after test, in "
                "split.npy; expected training, validation, test in this order; sort the user's lines"
            )
        same = same & (parts[1:] == parts[:-1])
    if times is not None and (back := same & (times[1:] < times[:-1])).any():
        raise InputError(
            f"{source}: the times of user {users[1:][back][0]} in times.npy do not ascend; expected each user's lines "
            "in time order; sort inter.txt and times.npy"
        )


def _count_ids(source: str | Path, kind: str, ids: np.ndarray) -> int:
    """The number of ids, which must be 1..that number."""
    lowest, highest = int(ids.min()), int(ids.max())
    if lowest < 1:
        raise InputError(f"{source}: found {kind} id {lowest}; expected ids from 1 (0 is padding)")
    # More ids than lines means a gap within the first len(ids) + 1 ids, however large the highest is.
    present = np.bincount(ids[ids <= len(ids)], minlength=min(highest, len(ids)) + 2)[1:] > 0
    if not present[:highest].all():
        missing = int(np.argmin(present)) + 1
        raise InputError(
            f"{source}: {kind} id {missing} is missing, although ids go up to {highest}; expected every id from 1 "
            "without gaps; renumber the ids"
        )
    return highest


def _digest(num_items: int, items: np.ndarray, offsets: np.ndarray, split: splits.Split) -> str:
    parts = [np.array([num_items], "<i8"), items.astype("<i4"), offsets.astype("<i8")]
    sha256 = hashlib.sha256(b"".join(part.tobytes() for part in parts))
    if split.name.partition(",")[0] != splits.LEAVE_ONE_OUT:  # which follows from the others
        for array in (split.train_U, *(x for part in split.targets.values() for x in part)):
            sha256.update(array.astype("<i8").tobytes())
    return sha256.hexdigest()


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
