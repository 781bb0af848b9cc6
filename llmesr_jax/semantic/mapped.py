"""Tables that are read where they lie, in the files of embeddings and of the cache: each process reads its own rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llmesr_jax.core.errors import InputError

_BLOCK = 4 << 20  # bytes read at a time where all are
_SAMPLE = 256  # rows that stand for all


class Access(NamedTuple):
    """How files are read.

    Attributes:
      mapped: large tables are mapped into memory, and nothing of them is read yet.
      verified: another process has just compared the cache's files with their digests, so this one does not.
    """

    mapped: bool = False
    verified: bool = False


class MappedTable:
    """A table over items or users as models read it, made of an array whose rows are read when they are asked for.

    Floats are float32. An index gives an array of the host, as that of an array does.

    Attributes:
      shape, dtype: with the rows of zeros.
    """

    def __init__(self, rows: np.ndarray, more: int):
        """
        Args:
          rows: (n, ...), mapped or not.
          more: rows of zeros at either end.
        """
        self._rows, self._more = rows, more
        self.shape = (len(rows) + 2 * more, *rows.shape[1:])
        self.dtype = np.dtype(np.float32) if rows.dtype.kind == "f" else rows.dtype
        self._path = Path(rows.filename) if isinstance(rows, np.memmap) else None
        self._seen = self._now()

    @property
    def ndim(self) -> int:
        """Axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        at, *rest = index if isinstance(index, tuple) else (index,)
        start, stop, step = at.indices(len(self))
        if step != 1:
            raise IndexError(f"rows {at} of a mapped table: expected neighbouring rows")
        found = np.zeros((max(stop - start, 0), *self.shape[1:]), self.dtype)
        first, last = max(start - self._more, 0), min(stop - self._more, len(self._rows))
        if first < last:
            found[first + self._more - start : last + self._more - start] = self._rows[first:last]
        return found[(slice(None), *rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def blocks(self) -> Iterator[np.ndarray]:
        """All rows, some at a time."""
        each = max(1, _BLOCK // max(1, math.prod(self.shape[1:]) * self.dtype.itemsize))
        for start in range(0, len(self), each):
            yield self[start : start + each]

    def sample(self) -> np.ndarray:
        """Rows that are far apart."""
        starts = np.unique(np.linspace(0, len(self) - 1, _SAMPLE).astype(np.int64)).tolist()
        return np.concatenate([self[start : start + 1] for start in starts])

    def check_unchanged(self) -> None:
        """Raises InputError where the file has changed since it was opened."""
        if self._now() != self._seen:
            raise InputError(
                f"{self._path}: was changed while it was read; run the same command again when it is written"
            )

    def _now(self) -> tuple[int, int] | None:
        """Size and time of change of the file."""
        if self._path is None:
            return None
        stat = self._path.stat()
        return stat.st_size, stat.st_mtime_ns
