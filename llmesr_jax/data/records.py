"""Reads `items.jsonl`: checks every line once; parses a record at each use and keeps none in memory."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from llmesr_jax.core.errors import InputError

_AT_ONCE = 256  # records that are read at a time


class Held:
    """A file that stays open, so that it can be read as it was after another one has taken its name."""

    def __init__(self, path: Path):
        self.path, self._file, self._lock = path, path.open("rb"), threading.Lock()
        weakref.finalize(self, self._file.close)

    @contextlib.contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The file, for one reader at a time."""
        with self._lock:
            self._file.seek(0)
            yield self._file


class Records(Sequence):
    """(V,) records in order of id, on disk: `item_id`, `title`, any other attributes. Slices are views.

    Raises:
      InputError: on reading, the file has been replaced since it was checked; a file that is held (`Held`) has been
        changed.
    """

    def __init__(self, file: Path | Held, starts_V: np.ndarray, stamp: tuple[int, ...]):
        self._file, self._starts_V, self._stamp = file, starts_V, stamp

    def __len__(self) -> int:
        return len(self._starts_V)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return Records(self._file, self._starts_V[index], self._stamp)
        return next(iter(Records(self._file, self._starts_V[[index]], self._stamp)))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for start in range(0, len(self), _AT_ONCE):
            with _opened(self._file) as file:
                if _stamp(file.fileno()) != self._stamp:
                    path = self._file if isinstance(self._file, Path) else self._file.path
                    raise InputError(f"{path}: was changed while it was in use; run the same command again")
                lines = []
                for begin in self._starts_V[start : start + _AT_ONCE].tolist():
                    file.seek(begin)
                    lines.append(file.readline())
            yield from (json.loads(line.decode("utf-8-sig")) for line in lines)


def _opened(file: Path | Held) -> contextlib.AbstractContextManager[BinaryIO]:
    return file.open("rb") if isinstance(file, Path) else file.open()


def read(source: Path | Held, num_items: int) -> Records:
    """Checks `items.jsonl`, and returns its records, in order of id.

    Args:
      source: the file; a `Held` one is read as it is, whatever its path is now.
      num_items: V.

    Raises:
      InputError: the file is unreadable or malformed (with the line number), or its ids are not 1..V.
    """
    path = source if isinstance(source, Path) else source.path
    starts_V, found, highest = np.full(num_items, -1, np.int64), 0, 0
    seen_beyond: set[int] = set()  # ids above V, which are an error, but a line may be a worse one
    try:
        with _opened(source) as file:
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
    return Records(source, starts_V, stamp)


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
