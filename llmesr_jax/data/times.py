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
FORMAT_DOC = (
    "format of times that are text, as of Python's strptime: %d.%m.%Y %H:%M for 31.12.2019 13:45; empty: ISO 8601"
)
WANTED = (
    "a time in ISO 8601, such as 2019-12-31 or 2019-12-31T13:45, a number and --time_unit, or text and --time_format, "
    "such as %d.%m.%Y"
)
_UTC = datetime.UTC
# BigQuery and other databases write "2017-07-15 02:56:40 UTC", or a blank before the offset.
_ZULU = re.compile(r"(?<=\d)\s*(?:UTC|GMT|Z)$", re.IGNORECASE)
_SPACED = re.compile(r"\s+([+-]\d\d(?::?\d\d)?)$")
# The same for the regular expressions of polars, and the parts of a date in ISO 8601.
_POLARS_ZULU, _POLARS_SPACED = r"(?i)(\d)\s*(?:UTC|GMT|Z)$", r"\s+([+-]\d\d(?::?\d\d)?)$"
_WITHOUT_DASHES = r"^(\d{4})(\d\d)(\d\d)T"
_PARTS = (
    r"^(?<day>\d{4}-\d\d-\d\d)(?:.(?<hour>\d\d)(?::?(?<minute>\d\d)(?::?(?<second>[0-5]\d)(?:[.,](?<fraction>\d+))?)?)?"
    r"(?:(?<east>[+-]\d\d)(?::?(?<minutes_east>\d\d))?)?)?$"
)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=_UTC)
_PROBE = datetime.datetime(2019, 12, 31, 13, 45, tzinfo=_UTC)


def from_number(value: Any, unit: str = "s") -> int:
    """Microseconds since 1970 of a number, or text of a number, of `unit` ("s", "ms", "us" or "ns") since 1970.

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
    """Microseconds since 1970 of a date, or date and time, in ISO 8601; UTC if it has no zone.

    Args:
      wanted: describes it in the message.

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


def form(unit: str, text_format: str) -> str:
    """The argument `unit` of `from_any` and `column`: the format of times that are text if it is set, else the unit.

    Raises:
      InputError: the format does not give a day, or gives another hour or minute than the text says.
    """
    if not text_format:
        return unit
    try:
        found = datetime.datetime.strptime(_PROBE.strftime(text_format), text_format).replace(tzinfo=_UTC)
    except ValueError:
        found = None
    day = _PROBE.replace(hour=0, minute=0)
    if "%" not in text_format or "%Z" in text_format or found not in (_PROBE, day):
        raise InputError(
            f"--time_format={text_format}: is not the format of a day, or of a day with hour and minute; expected codes "
            "of Python's strptime, such as %d.%m.%Y, %m/%d/%Y %I:%M %p or %Y%m%d (a time zone is %z)"
        )
    return text_format


def wanted(unit: str) -> str:
    """What `from_any` expects with this `unit`, for messages."""
    return f"a time as --time_format={unit} says" if "%" in unit else WANTED


def _from_format(value: Any, text_format: str) -> int:
    try:
        moment = datetime.datetime.strptime(str(value).strip(), text_format)
    except ValueError:
        raise Malformed(f"{wanted(text_format)}, not {repr(value)[:40]}") from None
    return from_text(moment.isoformat())


def from_any(value: Any, unit: str) -> int:
    """Microseconds since 1970 of a number of `unit`, or of a date; if `unit` is a format (see `form`), of text in it.

    Raises:
      Malformed: it is neither, or not from 1970 to 2100.
    """
    if "%" in unit:
        return _from_format(value, unit)
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
            pass  # a number, but too large for a float
        raise Malformed(f"a time from 1970 to 2100 in {unit} (--time_unit), not {repr(value)[:40]}") from None


def date(micro: int) -> str:
    """The day (UTC) of a time, as "2019-12-31"."""
    return (_EPOCH + datetime.timedelta(microseconds=micro)).date().isoformat()


def column(name: str, dtype: pl.DataType, unit: str) -> pl.Expr:
    """Int64 microseconds since 1970 of a table's column; null for a value that is empty or not from 1970 to 2100.

    Args:
      unit: as of `from_any`.

    Raises:
      InputError: a column of this type cannot contain times.
    """
    found = pl.col(name)
    if isinstance(dtype, pl.Date) or isinstance(dtype, pl.Datetime):
        micro = found.cast(pl.Datetime("us")).to_physical()
    elif "%" in unit:
        text = found.cast(pl.String).str.strip_chars()
        # To polars %f is a count of nanoseconds, %6f has six digits, and %.f any number, even none.
        named = unit.replace(".%f", "%.f").replace("%f", "%6f")
        micro = text.str.to_datetime(named, time_unit="us", strict=False, time_zone="UTC").to_physical()
        if "%.f" in named:
            micro = pl.when(text.str.contains(_like(unit))).then(micro)
    elif dtype == pl.String:
        text = found.str.strip_chars()
        micro = pl.coalesce(_scaled(text.cast(pl.Float64, strict=False), unit), _iso(text))
    elif dtype.is_numeric():
        micro = _scaled(found, unit)
    else:
        raise InputError(f"column {name!r} holds {dtype}; expected times: numbers, dates or text")
    micro = micro.cast(pl.Int64, strict=False)
    return pl.when((micro >= 0) & (micro < LAST)).then(micro)


def _iso(text: pl.Expr) -> pl.Expr:
    """`from_text` of a column.

    Each value is written in one form first: polars would infer a form from the first value, and find no time in values
    of other forms. It would also accept 05/12/2019, as a day in December, although May may be meant.
    """
    text = text.str.replace(_POLARS_ZULU, "${1}+00:00").str.replace(_POLARS_SPACED, "${1}")
    parts = text.str.replace(_WITHOUT_DASHES, "${1}-${2}-${3}T").str.extract_groups(_PARTS).struct
    clock = [parts.field(name).fill_null("00") for name in ("hour", "minute", "second")]
    fraction = parts.field("fraction").fill_null("0").str.slice(0, 6)
    zone = [parts.field("east").fill_null("+00"), parts.field("minutes_east").fill_null("00")]
    whole = pl.format("{}T{}:{}:{}.{}{}{}", parts.field("day"), *clock, fraction, *zone)
    return whole.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", time_unit="us", strict=False).to_physical()


def _like(text_format: str) -> str:
    """A regular expression for text with one to six digits where the format has %f."""
    parts = re.findall(r"%.|[^%]+", text_format)
    wanted = (r"\d{1,6}" if part == "%f" else ".+" if part[0] == "%" else re.escape(part) for part in parts)
    return f"^{''.join(wanted)}$".replace(r"\ ", r"\s+")


def _scaled(found: pl.Expr, unit: str) -> pl.Expr:
    return found // 1000 if unit == "ns" else found * int(UNITS[unit])


def day(text: str, flag: str) -> int:
    """Microseconds since 1970 of a flag's value, a date or a date and time.

    Raises:
      InputError: it is neither, or not from 1970 to 2100.
    """
    try:
        return from_text(text)
    except Malformed as error:
        raise InputError(f"--{flag}={text}: expected {error}") from error
