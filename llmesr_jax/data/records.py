"""Reads `items.jsonl`: checks every line once; parses a record at each use and keeps none in memory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmesr_jax.core.errors import InputError


class Records(Sequence):
    """(V,) records in order of id, on disk: `item_id`, `title`, any other attributes. Slices are views.

    Raises:
      InputError: on reading, the file has been replaced since it was checked.
    """

    def __init__(self, path: Path, starts_V: np.ndarray, stamp: tuple[int, ...]):
        self._path, self._starts_V, self._stamp = path, starts_V, stamp

    def __len__(self) -> int:
        return len(self._starts_V)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return Records(self._path, self._starts_V[index], self._stamp)
        return next(iter(Records(self._path, self._starts_V[[index]], self._stamp)))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with self._path.open("rb") as file:
            if _stamp(file.fileno()) != self._stamp:
                raise InputError(f"{self._path}: was changed while it was in use; run the same command again")
            for start in self._starts_V.tolist():
                file.seek(start)
                yield json.loads(file.readline().decode("utf-8-sig"))


def read(path: Path, num_items: int) -> Records:
    """Checks `items.jsonl`, and returns its records, in order of id.

    Args:
      path: the file.
      num_items: V.

    Raises:
      InputError: the file is unreadable or malformed (with the line number), or its ids are not 1..V.
    """
    starts_V, found, highest = np.full(num_items, -1, np.int64), 0, 0
    seen_beyond: set[int] = set()  # ids above V, which are an error, but a line may be a worse one
    try:
        with path.open("rb") as file:
            stamp, start = _stamp(file.fileno()), 0
            for number, line in enumerate(file, 1):
                if line.strip():
                    item = _checked(f"{path}, line {number}", line)
                    again = starts_V[item - 1] >= 0 if item <= num_items else item in seen_beyond
                    if again:
                        raise InputError(
                            f"{path}, line {number}: item_id {item} appears a second time; expected each item once"
                        )
                    if item <= num_items:
                        starts_V[item - 1] = start
                    else:
                        seen_beyond.add(item)
                    found, highest = found + 1, max(highest, item)
                start += len(line)
    except (OSError, UnicodeDecodeError) as error:
        reason = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror or error
        raise InputError(f"{path}: cannot be read ({reason}); expected a readable text file") from error
    if seen_beyond or found != num_items:
        missing = np.flatnonzero(starts_V < 0)
        raise InputError(
            f"{path}: found {found} items with ids up to {highest}; expected the {num_items} items of inter.txt, ids "
            f"1..{num_items}" + (f" (the first missing is {missing[0] + 1})" if len(missing) else "")
        )
    return Records(path, starts_V, stamp)


def _checked(where: str, line: bytes) -> int:
    """The item of a line."""
    text = line.decode("utf-8-sig")
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise InputError(f"{where}: found {repr(text.strip()[:60])}; expected one JSON object per line")
    item = record.get("item_id")
    if type(item) is not int or item < 1:
        raise InputError(f"{where}: item_id is {repr(item)[:60]}; expected a whole number from 1")
    # "" is a title: real catalogues have items without a name.
    if not isinstance(record.get("title"), str):
        raise InputError(f'{where}: item {item} has no title; expected "title": "..." ("" if it is unknown)')
    return item


def _stamp(file: int) -> tuple[int, ...]:
    stat = os.fstat(file)
    return stat.st_size, stat.st_mtime_ns
