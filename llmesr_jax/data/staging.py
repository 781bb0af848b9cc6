"""Text files become Parquet parts in a temporary folder, a batch of lines at a time, so that memory stays bounded."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from llmesr_jax.data.raw_files import BadLines, RawFile, lines
from llmesr_jax.errors import InputError

_BATCH = 200_000  # rows; about 30 MB of Python objects
_UNCLOSED = ' (is a quote (") of this line left open? or does --separator not fit?)'
_TYPES = {"user": pl.String, "item": pl.String, "rating": pl.Float64, "time": pl.Int64}


@dataclass(frozen=True)
class Reader:
    """What importers read with.

    Attributes:
      folder: temporary, for Parquet parts.
      bad: counts malformed lines.
      reads_rating: whether the rule reads ratings; where it does not, one that is no number does not matter.
      dropped: {why: how many} rows that were left out although nothing is wrong with the file, such as rows without an
        id. They are printed and stand in the manifest.
      notes: sentences about how the files were read, which the user has to know; printed, and in the manifest.
    """

    folder: Path
    bad: BadLines
    reads_rating: bool = True
    dropped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Adds a note, once."""
        if text not in self.notes:
            self.notes.append(text)

    def stage(self, rows: Iterable[tuple], columns: tuple[str, ...]) -> pl.LazyFrame:
        """Rows in file order, as a frame that lies on disk.

        Args:
          rows: tuples of the columns' values.
          columns: some of user, item, rating, time.

        Raises:
          InputError: there is not a single row.
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
                raise InputError(f"{self.bad.first[0]}; not one line of the file could be read; see to --importer")
            self._write(batch, schema, parts)
        return pl.scan_parquet(sorted(self.folder.glob("part-*.parquet")), glob=False)

    def _write(self, batch: list[tuple], schema: Mapping[str, Any], part: int) -> None:
        path = self.folder / f"part-{part:06d}.parquet"
        columns = zip(*batch) if batch else [[] for _ in schema]
        frame = pl.DataFrame([pl.Series(*column) for column in zip(schema, columns, schema.values())])
        frame.write_parquet(path, compression="zstd", compression_level=1)


class Row(NamedTuple):
    """A line of a table with a header: {column: text}, and where it stands."""

    number: int
    values: dict[str, str]


def delimited(raw: RawFile, bad: BadLines, separator: str, quoted: bool = True) -> Iterator[Row]:
    """Rows of a CSV-like file with a header line; lines in another encoding, and rows with too few or too many
    fields, are counted in `bad`: a row with all the lines it goes over, as those behind a quote left open are lost.

    Raises:
      InputError: there is no header.
    """
    at = [0]

    def text() -> Iterator[str]:
        for at[0], line in lines(raw):
            try:
                yield line.decode("utf-8") + "\n"
            except UnicodeDecodeError:
                bad.add(raw, at[0], f"found {ascii(line[:60])[2:-1]}; wanted UTF-8 text")

    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(text(), delimiter=separator, quoting=quoting)
    header: list[str] = []
    while True:
        start = at[0] + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            hint = _UNCLOSED if quoted else ""
            what = f"{error}; wanted {len(header) or 'some'} fields separated by {separator!r}{hint}"
            bad.add(raw, start, what, at[0])
            continue
        if fields is None:
            break
        if not header:
            header = fields
        elif len(fields) != len(header):
            many = quoted and any("\n" in field for field in fields)
            found = f"found {len(fields)} field{'s' * (len(fields) != 1)}" + f" up to line {at[0]}" * many
            what = f"{found}; wanted {len(header)}, as the header has{_UNCLOSED * many}"
            bad.add(raw, start if many else at[0], what, at[0])
        else:
            yield Row(at[0], dict(zip(header, fields)))
    if not header:
        raise InputError(f"{raw}: is empty; wanted a line with the columns' names, then one line a row")


def header(raw: RawFile, separator: str, quoted: bool = True) -> list[str]:
    """The columns' names.

    Raises:
      InputError: there is no such line.
    """
    first = next(iter(lines(raw, quiet=True)), None)
    if first is None:
        raise InputError(f"{raw}: is empty; wanted a line with the columns' names, then one line a row")
    try:
        text = first[1].decode("utf-8")
        return next(csv.reader([text], delimiter=separator, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE))
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(
            f"{raw}, line 1: cannot be read ({error}); wanted UTF-8 text with the columns' names"
        ) from error


def check_columns(raw: RawFile, wanted: Mapping[str, str], there: Iterable[str]) -> None:
    """Raises InputError for the first of {flag: column} that is not there, naming those that are."""
    there = list(there)
    for flag, name in wanted.items():
        if name not in there:
            found = ", ".join(ascii(column)[1:-1] for column in there[:20])
            hint = " (one column: does --separator fit?)" if len(there) == 1 else ""
            raise InputError(
                f"{raw}: has no column {name!r}; wanted one of: {found[:300]}{hint}; name it with --{flag}"
            )
