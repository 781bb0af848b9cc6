"""What importers of records share: ids that are not there, and titles under other names."""

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
# What is counted in `Reader.dropped`, as nothing is wrong with the file.
NO_ID = "rows without an id"
NO_RATING = "rows without a rating"
NO_ITEM = "item records without an id"


def read(value: Any) -> str | None:
    """An id as text, without blanks around it; None where a word or a null says that there is none.

    Raises:
      Malformed: it is neither text nor a whole number, or does not stand on one line.
    """
    if isinstance(value, str):
        value = value.strip()
        return None if value in MISSING else identifier(value)
    return None if value is None else identifier(value)


def field(record: Mapping[str, Any], name: str) -> str | None:
    """The id that a record has under this name; None where it says that there is none.

    Raises:
      Malformed: it has no such field, or no id there.
    """
    return read(record[name]) if name in record else identifier(None)


def lacking(user: str | None, item: str | None, rating: Any, reader: Reader) -> str:
    """Why a row is left out although nothing is wrong with it, for `Reader.dropped`; "" where it is not."""
    if user is None or item is None:
        return NO_ID
    nothing = rating is None or (isinstance(rating, str) and rating.strip() in MISSING)
    return NO_RATING if nothing and reader.reads_rating else ""


def stars(value: Any, reader: Reader) -> float | None:
    """A rating; None where no rule reads it.

    Raises:
      Malformed: it is read, and no number.
    """
    return number(value) if reader.reads_rating else None


def moment(value: Any, unit: str = "s", year: int = 1970) -> int:
    """A time as `times.from_number` has it, not before the `year`, where a smaller unit was taken for a larger one.

    Raises:
      Malformed: it is no number, or out of that year to 2100.
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
    """The records with their `column` as "title"; None stays as it is.

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
