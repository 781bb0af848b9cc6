"""Columns of tables by their names: finding one, and reporting missing ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.wording import listed
from llmesr_jax.data.raw_files import RawFile

TYPED = re.compile(r"(.+):(?:token|float)(?:_seq)?")
_PLAIN = {"user_id": "user", "item_id": "item"}  # a second name of a column
_COUNTS = {1: "one", 2: "two", 3: "three", 4: "four"}


def bare(name: str) -> str:
    """A column's name without the type that RecBole appends."""
    typed = TYPED.fullmatch(name)
    return typed[1] if typed else name


def actual(names: Iterable[str], wanted: str) -> str:
    """`wanted`; but `user` for `user_id` and `item` for `item_id`, if only the short name exists."""
    names = list(names)
    return _PLAIN[wanted] if wanted in _PLAIN and _PLAIN[wanted] in names and wanted not in names else wanted


def find(names: Sequence[str], wanted: str) -> int | None:
    """The index of a column, found by its whole name, by its name without RecBole's type, or by its number from 1.

    Without a `user_id` or `item_id`, `user` or `item` is used. None if there is no such column.
    """
    wanted = actual(names, wanted.strip())
    for known in (names, [bare(name) for name in names]):
        if wanted in known:
            return list(known).index(wanted)
    if bare(wanted) != wanted and bare(wanted) in names:
        return list(names).index(bare(wanted))
    return int(wanted) - 1 if is_number(wanted) and int(wanted) <= len(names) else None


def is_number(name: str) -> bool:
    """Whether a name may be a column's number: digits, not all zero."""
    return name.isascii() and name.isdigit() and 0 < int(name[:9])


def check_columns(raw: RawFile, wanted: Mapping[str, str], there: Iterable[str]) -> None:
    """Raises InputError if columns of `wanted`, {flag: column}, are missing. Only whole names match."""
    there = list(there)
    if absent := {flag: name for flag, name in wanted.items() if name not in there}:
        raise absence(raw, absent, there)


def absence(raw: RawFile, absent: Mapping[str, str], there: Sequence[str], hint: str = "") -> InputError:
    """The error for missing columns, {flag: column}, which names the columns that exist.

    Args:
      hint: what else may be wrong, in brackets.
    """
    names, flags = listed(map(repr, absent.values())), listed(f"--{flag}" for flag in absent)
    found = ", ".join(repr(name)[1:-1] for name in there[:20])[:300]
    if len(there) == 1:
        found += " (only one column: is --separator right?)"
    column, them = ("column", "it") if len(absent) == 1 else ("columns", "them")
    return InputError(
        f"{raw}: has no {column} {names}; expected {_COUNTS[len(absent)]} of: {found}{hint}; name {them} with {flags}"
    )
