"""Converts text files to Parquet parts in a temporary folder, in batches of lines, so that memory stays bounded."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.raw_files import BadLines

_BATCH = 200_000  # rows; about 30 MB of Python objects
_TYPES = {"user": pl.String, "item": pl.String, "rating": pl.Float64, "time": pl.Int64}


def counted(count: int, what: str) -> str:
    """A count and a reason of `Reader.dropped`: "2 rows without an id", "1 row without an id"."""
    one = re.sub("(row|record|line)s", r"\1", what, count=1)
    return f"{count:,} {one if count == 1 else what}"


@dataclass
class Listed:
    """What the columns of a user's earlier items have said so far, in all files of a split of the user's own.

    Attributes:
      columns: of each file that was begun, the name of its column; None without one.
      before: {user: the newest earlier items that are known, with a blank around each}.
      rows: (user, item) of the items that only a list in --valid or --test has; they belong to the training part.
    """

    columns: list[str | None] = field(default_factory=list)
    before: dict[str, str] = field(default_factory=dict)
    rows: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Reader:
    """The reader that importers use.

    Attributes:
      folder: temporary, for Parquet parts.
      bad: counts malformed lines.
      reads_rating: whether the rule reads ratings; if not, a rating that is not a number is ignored.
      dropped: {reason: number} of rows that were left out although the file is valid, such as rows without an
        id. They are printed and recorded in the manifest.
      notes: sentences for the user about how the files were read; printed, and recorded in the manifest.
      listed: the users' earlier items, where a column lists them.
    """

    folder: Path
    bad: BadLines
    reads_rating: bool = True
    dropped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    listed: Listed = field(default_factory=Listed)

    def note(self, text: str) -> None:
        """Adds a note, once."""
        if text not in self.notes:
            self.notes.append(text)

    def stage(self, rows: Iterable[tuple], columns: tuple[str, ...]) -> pl.LazyFrame:
        """Rows in file order, as a frame on disk.

        Args:
          rows: tuples of the columns' values.
          columns: some of user, item, rating, time.

        Raises:
          InputError: the rows end and none came, because all were malformed or left out. A file that is empty in itself
            gives an empty frame.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        schema = {name: _TYPES[name] for name in columns}
        batch: list[tuple] = []
        parts = 0
        for row in rows:
            batch.append(row)
            self.bad.read += 1
            if len(batch) == _BATCH:
                self._write(batch, schema, parts)
                batch, parts = [], parts + 1
        if batch or not parts:
            if not batch and self.bad.found:
                raise InputError(
                    f"{self.bad.first[0]}; no line of the file can be read; check the file and the flags that say how "
                    "to read it"
                )
            if not batch and self.dropped:
                why = ", ".join(f"{counted(count, what)}" for what, count in self.dropped.items())
                raise InputError(
                    f"every row was left out ({why}); expected at least one row; check the file and the flags that "
                    "say how to read it"
                )
            self._write(batch, schema, parts)
        return pl.scan_parquet(sorted(self.folder.glob("part-*.parquet")), glob=False)

    def _write(self, batch: list[tuple], schema: Mapping[str, Any], part: int) -> None:
        path = self.folder / f"part-{part:06d}.parquet"
        columns = zip(*batch) if batch else [[] for _ in schema]
        frame = pl.DataFrame([pl.Series(*column) for column in zip(schema, columns, schema.values())])
        frame.write_parquet(path, compression="zstd", compression_level=1)
