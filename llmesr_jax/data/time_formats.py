"""Which `--time_format` reads the dates of a column: day first, month first or, with other marks than dashes, year first."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Sequence
from typing import Any

from llmesr_jax.data import times
from llmesr_jax.data.values import Malformed

_DATE = re.compile(r"(?:\d{1,2}|\d{4})([./-])\d{1,2}\1(?:\d{4}|\d{1,2})(?!\d)")
_DAYS = ("%d{0}%m{0}%Y", "%m{0}%d{0}%Y", "%Y{0}%m{0}%d")
_CLOCKS = ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%I:%M %p", "%I:%M:%S %p")


def fitting(values: Sequence[Any], earliest: int = 0) -> list[str]:
    """The formats, of strptime, with which all values that are not empty are times; none if all are empty.

    Args:
      values: of one column.
      earliest: a format with which a value is before this time, in microseconds since 1970, does not fit.
    """
    texts = [str(value).strip() for value in values if value is not None and str(value).strip()]
    found = _DATE.match(texts[0]) if texts else None
    if found is None:
        return []
    mark, clock = found[1], texts[0][found.end() :]
    ends = [blank + one for blank in (" ", ", ") for one in _CLOCKS] if clock else [""]
    forms = [day.format(mark) + end for day in _DAYS for end in ends]
    return [form for form in forms if _fits(texts, form, earliest)]


def _fits(texts: Sequence[str], form: str, earliest: int) -> bool:
    with contextlib.suppress(Malformed):
        return all(times.from_any(text, form) >= earliest for text in texts)
    return False


def proposal(forms: Sequence[str]) -> str:
    """The flag to set for formats that fit (see `fitting`), of which there is at least one."""
    flags = [f"--time_format={shlex.quote(form)}" for form in forms]
    if len(flags) == 1:
        return flags[0]
    orders = {"%d": "day first", "%m": "month first", "%Y": "year first"}
    told = " or ".join(f"{flag} ({orders[form[:2]]})" for flag, form in zip(flags, forms))
    return f"{told}, as both fit the first rows"
