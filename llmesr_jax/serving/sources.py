"""Users to recommend for, in batches: all or some users of a corpus. For users of a file, see `histories`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.nearest import nearest_id
from llmesr_jax.core.wording import counted
from llmesr_jax.data.corpus import Corpus


class Batch(NamedTuple):
    """Some users: their raw ids, int32 arrays of item ids, oldest first, and the number of each one's unknown items."""

    users: list[str]
    histories: list[np.ndarray]
    unknown: list[int]


class Source(Protocol):
    """Histories in a fixed order.

    Attributes:
      count: users.
    """

    count: int

    def batch(self, start: int, stop: int) -> Batch:
        """The users from `start` to `stop`."""


@dataclasses.dataclass(frozen=True, eq=False)
class OfCorpus:
    """All interactions of a corpus's users: recommendations follow their newest item."""

    corpus: Corpus
    ids: Sequence[str]
    rows: np.ndarray | None = None  # rows of the users `ids`, -1 for one who is not in the corpus; None for all users

    @property
    def count(self) -> int:
        return len(self.ids)

    def batch(self, start: int, stop: int) -> Batch:
        rows = np.arange(start, min(stop, self.count)) if self.rows is None else self.rows[start:stop]
        bounds = self.corpus.offsets
        found = [self.corpus.items[bounds[r] : bounds[r + 1]] if r >= 0 else np.zeros(0, np.int32) for r in rows]
        return Batch(list(self.ids[start:stop]), found, [0] * len(rows))


@dataclasses.dataclass(frozen=True, eq=False)
class Slice:
    """The users of a source from `start` to `stop`."""

    source: Source
    start: int
    stop: int

    @property
    def count(self) -> int:
        return self.stop - self.start

    def batch(self, start: int, stop: int) -> Batch:
        return self.source.batch(self.start + start, min(self.start + stop, self.stop))


def of_users(corpus: Corpus, raw_users: Sequence[str], wanted: Sequence[str], where: str) -> tuple[OfCorpus, str]:
    """The histories of some of a corpus's users, by raw ids; and a line about users who are not in the data set.

    Raises:
      InputError: none of the users is in the data set.
    """
    rows = {raw: row for row, raw in enumerate(raw_users)}
    found = np.array([rows.get(raw, -1) for raw in wanted], np.int64)
    absent = int((found < 0).sum())
    if absent == len(wanted):
        raise InputError(
            f"{where}: {counted(absent, 'user')} found, but none is in the data set (such as {repr(wanted[0])[:40]}; "
            f"users of the data set are like {repr(raw_users[0])[:40]}); expected raw user ids, or new users' "
            f"--histories{nearest_id(wanted[0], rows)}"
        )
    if not absent:
        return OfCorpus(corpus, list(wanted), found), ""
    first = wanted[int((found < 0).argmax())]
    which = f"{repr(first)[:40]}{nearest_id(first, rows)}" if absent == 1 else f"such as {repr(first)[:40]}"
    are = "is" if absent == 1 else "are"
    return OfCorpus(corpus, list(wanted), found), f"{counted(absent, 'user')} {are} not in the data set: {which}"
