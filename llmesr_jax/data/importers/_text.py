"""Interactions from text files, delimited or JSON, with known columns."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import polars as pl

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import times
from llmesr_jax.data.columns import absence, find
from llmesr_jax.data.decoding import Text
from llmesr_jax.data.delimited import Table
from llmesr_jax.data.importers import _columns
from llmesr_jax.data.json_files import objects
from llmesr_jax.data.raw_files import RawFile
from llmesr_jax.data.staging import Listed, Reader
from llmesr_jax.data.values import Ids, Malformed, number

_SEEN = 200  # objects of a first look
NO_ID = "rows without an id"
_LIST = "_list:token_seq"


class Source(NamedTuple):
    """A text file, or parts of one.

    Attributes:
      raw: the (first) file.
      names: of the columns.
      sample: the first rows.
      rows: rows(reader, places) -> (file, line, the cells at these places) for each row.
    """

    raw: RawFile
    names: tuple[str, ...]
    sample: Sequence[Sequence[Any]]
    rows: Callable[[Reader, Sequence[int]], Iterator[tuple[RawFile, int, Sequence[Any]]]]


def delimited(tables: Sequence[Table]) -> Source:
    """Tables with the same columns, one after the other."""

    def rows(reader: Reader, at: Sequence[int]) -> Iterator[tuple[RawFile, int, Sequence[str]]]:
        pick = operator.itemgetter(*at)
        for table in tables:
            raw = table.raw
            for line, cells in table.rows(reader):
                yield raw, line, pick(cells)

    return Source(tables[0].raw, tables[0].names, tables[0].sample, rows)


def json(texts: Sequence[Text], wanted: Sequence[str]) -> Source:
    """Files of JSON objects, one after the other; the columns are the fields of the first objects.

    Args:
      texts: the files.
      wanted: the columns if the first file has no object.

    Raises:
      InputError: the start of the first file cannot be read.
    """
    first = [value for _, value in itertools.islice(objects(texts[0], None), _SEEN)]
    names = tuple(dict.fromkeys(name for value in first for name in value) if first else wanted)

    def rows(reader: Reader, at: Sequence[int]) -> Iterator[tuple[RawFile, int, Sequence[Any]]]:
        fields = [names[n] for n in at]
        for text in texts:
            raw = text.raw
            for line, value in objects(text, reader.bad):
                get = value.get
                yield raw, line, [get(name) for name in fields]
            if note := text.note():
                reader.note(note)

    return Source(texts[0].raw, names, [[value.get(name) for name in names] for value in first], rows)


class Places(NamedTuple):
    """Indices of the columns; None for a column that does not exist.

    Attributes:
      unit: of the times, see `times.form`.
      history: a column of the user's earlier items, separated by blanks.
    """

    user: int
    item: int
    rating: int | None
    time: int | None
    unit: str
    history: int | None = None


def places(
    source: Source,
    reader: Reader,
    named: dict[str, str],
    unit: str,
    *,
    hint: str = "",
    standard: Sequence[str] = (),
    broad: bool = False,
) -> Places:
    """Finds the columns; that of times is detected if no flag names it.

    Args:
      source: the files.
      reader: gets notes.
      named: {flag: column} for user_column, item_column, rating_column ("" or "none" for none) and time_column ("" to
        detect it, "none" for none).
      unit: of times that are numbers, or the format of times that are text (`times.form`).
      hint: what else may be wrong, for the message about a missing column.
      standard: names of the column of times that need no note.
      broad: see `_columns.find_time`.

    Raises:
      InputError: a column is missing, several columns may hold times, or the times need `--time_format`.
    """
    raw, names = source.raw, source.names
    wanted = {
        flag: column
        for flag, column in named.items()
        if column and (flag not in ("rating_column", "time_column") or column != _columns.NONE or column in names)
    }
    if absent := {flag: column for flag, column in wanted.items() if find(names, column) is None}:
        raise absence(raw, absent, names, hint)
    found = {flag: _columns.place(raw, names, flag, column) for flag, column in wanted.items()}
    time = _columns.Time(found.get("time_column"), unit)
    if time.column is not None:
        _columns.check_time(raw, names[time.column], [row[time.column] for row in source.sample], unit)
    if not named["time_column"]:
        time = _columns.find_time(
            raw, names, source.sample, unit, reader, standard=standard, broad=broad, taken=found.values()
        )
    item = names[found["item_column"]]
    history = item.partition(":")[0] + _LIST
    where = names.index(history) if history in names else None
    return Places(found["user_column"], found["item_column"], found.get("rating_column"), time.column, time.unit, where)


def interactions(source: Source, at: Places, reader: Reader, missing: str) -> pl.LazyFrame:
    """The rows as a frame: user, item, and rating and time if there are columns of them.

    Args:
      missing: words that mean "no id", separated by commas.
    """
    columns = ("user", "item", *["rating"] * (at.rating is not None), *["time"] * (at.time is not None))
    return reader.stage(_rows(source, at, reader, missing), ("user", "item", "rating", "time")).select(columns)


def _rows(source: Source, at: Places, reader: Reader, missing: str) -> Iterator[tuple]:
    ids = Ids(missing)
    read, unit = ids.read, at.unit
    # Every row has five cells: the user's column replaces a column that does not exist or is not read.
    rated, timed = at.rating is not None and reader.reads_rating, at.time is not None
    wanted = [at.user, at.item, at.rating if rated else at.user, at.time if timed else at.user]
    wanted.append(at.user if at.history is None else at.history)
    column = source.names[at.history] if at.history is not None else None
    reader.listed.columns.append(column)
    histories = _Histories(column, read, reader.listed) if column is not None else None
    for raw, line, (user, item, rating, time, listed) in source.rows(reader, wanted):
        try:
            user, item = read(user), read(item)
            if user is None or item is None:
                reader.dropped[NO_ID] += 1
                continue
            if histories:
                where = f"{raw}, line {line}"
                yield from ((user, earlier, None, None) for earlier in histories.new(where, user, item, listed))
            if rated:
                if rating is None or (type(rating) is str and rating.strip() in ids.missing):
                    reader.dropped["rows without a rating"] += 1
                    continue
                rating = number(rating)
            else:
                rating = None
            time = times.from_any(time, unit) if timed else None
        except Malformed as error:
            reader.bad.add(raw, line, f"expected {error}")
            continue
        yield user, item, rating, time
    if ids.float:
        reader.note(float_note(ids))
    if histories and histories.found:
        reader.note(
            f"{histories.found:,} interactions are only in the column {column!r} of a user's first "
            f"row; they come before that row, without a time or rating{histories.training}"
        )


def float_note(ids: Ids) -> str:
    """The note that ids such as 12.0 were read as 12."""
    return f"ids that are written as whole floats were read as whole numbers: {ids.float} as {ids.read(ids.float)}"


class _Histories:
    """Checks the earlier items that each row lists against the rows before; those of a user's first row are new.

    Attributes:
      found: interactions that are only in such a list.
      training: the end of the note about them.
    """

    def __init__(self, column: str, read: Callable[[Any], str | None], listed: Listed):
        self._column, self._read, self.found = column, read, 0
        self._before = listed.before
        self._rows = listed.rows if len(listed.columns) > 1 else None
        self.training = "" if self._rows is None else ", in the training part"

    def new(self, where: str, user: str, item: str, listed: str) -> list[str]:
        """Earlier items that are in no earlier row, to be rows before this one.

        Of --valid and --test, they are put with `Listed.rows` instead.

        Raises:
          InputError: the list does not end with the earlier items.
        """
        items = [found for word in listed.split() if (found := self._read(word)) is not None]
        text = f" {' '.join(items)} " if items else " "
        before = self._before.get(user)
        if before is not None and not (items and before.endswith(text)):
            raise InputError(
                f"{where}: column {self._column!r} of user {repr(user)[1:-1][:40]} ends with {_end(text)}, but the "
                f"rows before end with {_end(before)}; expected the rows of each user in time order, each with all "
                "its earlier items or the newest of them; sort the file, or delete this column if it means something "
                "else"
            )
        # This list and the item are enough: the next row's list is these, maybe without the oldest.
        self._before[user] = f"{text}{item} "
        if before is not None:
            return []
        self.found += len(items)
        if self._rows is None:
            return items
        self._rows += [(user, earlier) for earlier in items]
        return []


def _end(text: str) -> str:
    return repr(" ".join(text.split()[-3:]))[:60]
