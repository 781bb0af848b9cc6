"""Tables whose rows are read from the files of embeddings and of the cache when they are needed.

So each of several processes reads only its own rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llmesr_jax.core.errors import InputError

_BLOCK = 4 << 20  # bytes of a block, where all rows are read
_SAMPLE = 256  # rows of a sample


class Access(NamedTuple):
    """How files are read.

    Attributes:
      mapped: large tables are memory-mapped, so no row is read until it is needed.
      verified: another process has just compared the cache's files with their digests, so this process need not.
    """

    mapped: bool = False
    verified: bool = False


class MappedTable:
    """A table over items or users, as models read it, whose rows are read when they are indexed.

    It is indexed by slices of neighbouring rows, which return NumPy arrays; floats become float32.

    Args:
      rows: (n, ...), memory-mapped or not.
      more: number of rows of zeros before, and after, the rows.

    Attributes:
      shape, dtype: of the table, with the rows of zeros.
    """

    def __init__(self, rows: np.ndarray, more: int):
        self._rows, self._more = rows, more
        self.shape = (len(rows) + 2 * more, *rows.shape[1:])
        self.dtype = np.dtype(np.float32) if rows.dtype.kind == "f" else rows.dtype
        self._path = Path(rows.filename) if isinstance(rows, np.memmap) else None
        self._seen = self._now()

    @property
    def ndim(self) -> int:
        """Number of axes."""
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
        """All rows, in blocks of neighbouring rows."""
        each = max(1, _BLOCK // max(1, math.prod(self.shape[1:]) * self.dtype.itemsize))
        for start in range(0, len(self), each):
            yield self[start : start + each]

    def sample(self) -> np.ndarray:
        """Up to 256 rows, evenly spaced."""
        starts = np.unique(np.linspace(0, len(self) - 1, _SAMPLE).astype(np.int64)).tolist()
        return np.concatenate([self[start : start + 1] for start in starts])

    def check_unchanged(self) -> None:
        """Raises InputError if the file has changed since it was opened."""
        if self._now() != self._seen:
            raise InputError(
                f"{self._path}: was changed while it was read; run the same command again once the file is complete"
            )

    def _now(self) -> tuple[int, int] | None:
        """Size and time of change of the file."""
        if self._path is None:
            return None
        stat = self._path.stat()
        return stat.st_size, stat.st_mtime_ns
