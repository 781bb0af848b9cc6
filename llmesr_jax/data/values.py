"""The values of a raw record, checked one by one: ids, ratings."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

# Characters that an id must not contain, because ids are written one per line into a UTF-8 file.
_UNFIT = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")
_WHOLE_FLOAT = re.compile(r"(-?[0-9]+)\.0+")
_EXACT = 2**53  # from here on, floats do not represent every whole number

# What databases, pandas, R and spreadsheets write for a missing value.
MISSING = r"nan,NaN,NAN,NA,N/A,n/a,#N/A,None,null,NULL,<NA>,\N"


class Malformed(ValueError):
    """A malformed value or line; the message says what was expected, to follow "expected "."""


class Ids:
    """Reads ids from text and JSON files: blanks around them are ignored, and 12.0 becomes 12.

    Attributes:
      missing: words that mean "no id", besides the empty text.
      float: the first id that was written as a whole float; "" if there was none.
    """

    def __init__(self, missing: str = MISSING):
        self.missing = frozenset(["", *(word.strip() for word in missing.split(","))])
        self.float = ""

    def read(self, value: Any) -> str | None:
        """An id as text; None if there is no id.

        Raises:
          Malformed: it is neither text nor a number, or has a control character, such as a line break.
        """
        if type(value) is not str:
            return self._number(value)
        value = value.strip()
        if value in self.missing:
            return None
        if value[-1] == "0" and "." in value and (whole := _WHOLE_FLOAT.fullmatch(value)):
            self.float = self.float or value
            return whole[1]
        if not value.isprintable() and _UNFIT.search(value):
            raise Malformed(f"an id (text or a whole number), not {repr(value)[:40]}")
        return value

    def _number(self, value: Any) -> str | None:
        if value is None:
            return None
        if type(value) is int:
            return str(value)
        if type(value) is not float or abs(value) >= _EXACT:
            raise Malformed(f"an id (text or a whole number), not {repr(value)[:40]}")
        if math.isnan(value):
            return None
        if not value.is_integer():
            return str(value)
        self.float = self.float or str(value)
        return str(int(value))


def identifier(value: Any) -> str:
    """An id as text: a string or a whole number, on one line.

    Raises:
      Malformed: it is anything else, or empty.
    """
    if type(value) is int:
        return str(value)
    if not isinstance(value, str) or not value or (not value.isprintable() and _UNFIT.search(value)):
        raise Malformed(f"an id (text or a whole number), not {repr(value)[:40]}")
    return value


def absent(record: Mapping[str, Any], *fields: str) -> str:
    """The text "no x, y; " for the fields that a record lacks, for a message; "" if it has all."""
    names = ", ".join(field for field in fields if field not in record)
    return f"no {names}; " if names else ""


def number(value: Any) -> float:
    """A rating.

    Raises:
      Malformed: it is not a finite number.
    """
    try:
        found = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise Malformed(f"a number, not {repr(value)[:40]}")
    return found
