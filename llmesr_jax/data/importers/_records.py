"""What importers of records share: missing ids, and titles under other names."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from llmesr_jax.data import times
from llmesr_jax.data.columns import check_columns
from llmesr_jax.data.raw_files import RawFile
from llmesr_jax.data.staging import Reader
from llmesr_jax.data.values import Ids, Malformed, identifier, number

MISSING = Ids().missing
# Reasons in `Reader.dropped`, for rows of a valid file that are left out.
NO_ID = "rows without an id"
NO_RATING = "rows without a rating"
NO_ITEM = "item records without an id"


def read(value: Any) -> str | None:
    """An id as text, without surrounding blanks; None for a missing value: null, or a word such as "NA".

    Raises:
      Malformed: it is neither text nor a whole number, or has a line break.
    """
    if isinstance(value, str):
        value = value.strip()
        return None if value in MISSING else identifier(value)
    return None if value is None else identifier(value)


def field(record: Mapping[str, Any], name: str) -> str | None:
    """The id in a field of a record; None for a missing value, see `read`.

    Raises:
      Malformed: the record has no such field, or no id in it.
    """
    return read(record[name]) if name in record else identifier(None)


def lacking(user: str | None, item: str | None, rating: Any, reader: Reader) -> str:
    """Why a valid row is left out, for `Reader.dropped`; "" if it is kept."""
    if user is None or item is None:
        return NO_ID
    nothing = rating is None or (isinstance(rating, str) and rating.strip() in MISSING)
    return NO_RATING if nothing and reader.reads_rating else ""


def stars(value: Any, reader: Reader) -> float | None:
    """A rating; None if no rule reads it.

    Raises:
      Malformed: it is read, and not a number.
    """
    return number(value) if reader.reads_rating else None


def moment(value: Any, unit: str = "s", year: int = 1970) -> int:
    """A time, as by `times.from_number`. A time before `year` is malformed, as it means that the unit is wrong.

    Raises:
      Malformed: it is not a number, or not from that year to 2100.
    """
    try:
        found = times.from_number(value, unit)
    except Malformed:
        found = -1
    if found < datetime.datetime(year, 1, 1, tzinfo=datetime.UTC).timestamp() * 1_000_000:
        raise Malformed(f"a time from {year} to 2100 in {unit} since 1970, not {repr(value)[:40]}")
    return found


def titled(
    records: Iterable[tuple[int, dict[str, Any] | None]], raw: RawFile, column: str, default: str
) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """(line, record), with the field `column` of each record renamed to "title"; a record that is None stays None.

    Raises:
      InputError: `column` is not the `default`, and no record has it.
    """
    there: set[str] = set()
    for line, record in records:
        if record is not None and column != "title":
            there.update(map(str, record))
            title = record.pop(column, None)
            record["title"] = title
        yield line, record
    if there and column != default:
        check_columns(raw, {"title_column": column}, sorted(there))
