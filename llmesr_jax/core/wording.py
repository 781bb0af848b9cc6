"""How messages count, list and break lines."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number and its noun.

    >>> counted(1, "user"), counted(2000, "user"), counted(2, "history", "histories")
    ('1 user', '2,000 users', '2 histories')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def listed(names: Iterable[str]) -> str:
    """The names, at least one, as a list within a sentence.

    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def wrapped(text: str, width: int = 80) -> str:
    """The text with its long lines wrapped, except those of a table (with two blanks inside), and a line with the next
    command ("next: "), which users copy.

    >>> print(wrapped("a line of words", 12))
    a line of
      words
    """
    lines: list[str] = []
    for line in text.split("\n"):
        long = len(line) > width and "next: " not in line and "  " not in line.strip()
        options = {"subsequent_indent": "  ", "break_long_words": False, "break_on_hyphens": False}
        lines += textwrap.wrap(line, width, **options) if long else [line]
    return "\n".join(lines)
