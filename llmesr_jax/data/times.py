"""Times of interactions, as whole microseconds since 1970 (UTC): fine enough to keep any source's order."""

from __future__ import annotations

import datetime
import math
import re
from typing import Any

import polars as pl

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.values import Malformed

UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 0.001}
LAST = 4_102_444_800 * 1_000_000  # 2100: a later time is milliseconds read as seconds
WANTED = "a time in ISO 8601, such as 2019-12-31 or 2019-12-31T13:45, or a number and --time_unit"
_UTC = datetime.UTC
# BigQuery and other databases write "2017-07-15 02:56:40 UTC", or a blank before the offset.
_ZULU = re.compile(r"(?<=\d)\s*(?:UTC|GMT|Z)$", re.IGNORECASE)
_SPACED = re.compile(r"\s+([+-]\d\d(?::?\d\d)?)$")
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=_UTC)


def from_number(value: Any, unit: str = "s") -> int:
    """A count of `unit` since 1970.

    Raises:
      Malformed: it is not a number, or not from 1970 to 2100.
    """
    try:
        if isinstance(value, bool):
            raise ValueError
        if not isinstance(value, (int, float)):
            value = int(value) if str(value).strip().lstrip("+-").isdecimal() else float(value)
        whole = value // 1000 if unit == "ns" else value * UNITS[unit]
        found = int(whole) if math.isfinite(whole) else -1
    except (TypeError, ValueError, OverflowError):
        raise Malformed(f"a time, not {repr(value)[:40]}") from None
    if not 0 <= found < LAST:
        raise Malformed(f"a time from 1970 to 2100 in {unit}, not {repr(value)[:40]}")
    return found


def from_text(value: Any, wanted: str = 'a date as "2019-12-31" or "2019-12-31 23:59:59"') -> int:
    """A date or a date with time, in ISO 8601; without a zone it is UTC. `wanted` describes it in the message.

    Raises:
      Malformed: it is neither, or not from 1970 to 2100.
    """
    try:
        moment = _moment(value)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=_UTC)
        found = (moment - _EPOCH) // datetime.timedelta(microseconds=1)
    except (TypeError, ValueError, OverflowError):
        raise Malformed(f"{wanted}, not {repr(value)[:40]}") from None
    if not 0 <= found < LAST:
        raise Malformed(f"a date from 1970 to 2100, not {repr(value)[:40]}")
    return found


def _moment(value: Any) -> datetime.datetime:
    try:
        return datetime.datetime.fromisoformat(value)
    except ValueError:
        value = _SPACED.sub(r"\1", _ZULU.sub("+00:00", value.strip()))
        return datetime.datetime.fromisoformat(value)


def from_any(value: Any, unit: str) -> int:
    """A number of `unit`, else a date.

    Raises:
      Malformed: it is neither, or not from 1970 to 2100.
    """
    if isinstance(value, str) and ("-" in value[1:] or "T" in value) and "e-" not in value.lower():
        return from_text(value, WANTED)
    try:
        return from_number(value, unit)
    except Malformed:
        try:
            float(value)
        except (TypeError, ValueError):
            raise Malformed(f"{WANTED}, not {repr(value)[:40]}") from None
        except OverflowError:
            pass  # a number all the same
        raise Malformed(f"a time from 1970 to 2100 in {unit} (--time_unit), not {repr(value)[:40]}") from None


def date(micro: int) -> str:
    """The day (UTC) of a time, as "2019-12-31"."""
    return (_EPOCH + datetime.timedelta(microseconds=micro)).date().isoformat()


def column(name: str, dtype: pl.DataType, unit: str) -> pl.Expr:
    """Int64 microseconds from a table's column; null if it is empty or not from 1970 to 2100."""
    found = pl.col(name)
    if isinstance(dtype, pl.Date) or isinstance(dtype, pl.Datetime):
        micro = found.cast(pl.Datetime("us")).to_physical()
    elif dtype == pl.String:
        number = found.cast(pl.Float64, strict=False)
        named = found.str.replace(r"(?i)(\d)\s*(?:UTC|GMT|Z)$", "${1}")
        moment = named.str.to_datetime(time_unit="us", strict=False, time_zone="UTC").to_physical()
        # polars would take 05/12/2019 as well, for a day in December, which may be one in May.
        moment = pl.when(found.str.contains(r"^\d{4}-")).then(moment)
        micro = pl.coalesce(_scaled(number, unit), moment)
    elif dtype.is_numeric():
        micro = _scaled(found, unit)
    else:
        raise InputError(f"column {name!r} holds {dtype}; expected times: numbers, dates or text")
    micro = micro.cast(pl.Int64, strict=False)
    return pl.when((micro >= 0) & (micro < LAST)).then(micro)


def _scaled(found: pl.Expr, unit: str) -> pl.Expr:
    return found // 1000 if unit == "ns" else found * int(UNITS[unit])


def day(text: str, flag: str) -> int:
    """Microseconds of a flag's date, or of its date and time.

    Raises:
      InputError: it is neither.
    """
    try:
        return from_text(text)
    except Malformed as error:
        raise InputError(f"--{flag}={text}: expected {error}") from error
