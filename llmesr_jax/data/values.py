"""The values of a raw record, checked one by one: ids, ratings."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

# What an id may not hold: it stands alone on a line of a UTF-8 file.
_UNFIT = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")


class Malformed(ValueError):
    """A line that is not as its format says; the message is what was found, or what was wanted."""


def identifier(value: Any) -> str:
    """An id as text: a string or a whole number, on one line.

    Raises:
      Malformed: it is anything else, or empty.
    """
    if type(value) is int:
        return str(value)
    if not isinstance(value, str) or not value or (not value.isprintable() and _UNFIT.search(value)):
        raise Malformed(f"an id (text or a whole number), not {ascii(value)[:40]}")
    return value


def absent(record: Mapping[str, Any], *fields: str) -> str:
    """The text "no x, y; " for the fields that a record lacks, for a message; "" where it has all."""
    names = ", ".join(field for field in fields if field not in record)
    return f"no {names}; " if names else ""


def number(value: Any) -> float:
    """A rating.

    Raises:
      Malformed: it is no finite number.
    """
    try:
        found = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise Malformed(f"a number, not {ascii(value)[:40]}")
    return found
