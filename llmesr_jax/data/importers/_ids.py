"""What stands in files where there is no id: such rows are left out and counted, as nothing is wrong with the file."""

from __future__ import annotations

from typing import Any

MISSING = frozenset(("", "nan", "na", "n/a", "<na>", "none", "null"))  # in small letters
NO_ID = "rows without an id"  # in `Reader.dropped`


def missing(value: Any) -> bool:
    """Whether a value that is there says that there is no id."""
    if value is None or value != value:
        return True
    return isinstance(value, str) and value.strip().lower() in MISSING
