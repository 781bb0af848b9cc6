"""Distributes records of a fixed size over files on disk, so that each file fits in memory if all records do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np


class Spool:
    """Files of records. Records that were added first come first in their file."""

    def __init__(self, folder: Path, dtype: np.dtype, count: int):
        """Makes the folder, and `count` empty files for records of `dtype`."""
        folder.mkdir(parents=True)
        self._dtype, self._paths = dtype, [folder / f"{number:05d}" for number in range(count)]
        self._open = [path.open("wb") for path in self._paths]

    def __len__(self) -> int:
        return len(self._paths)

    def add(self, file_n: np.ndarray, records: np.ndarray) -> None:
        """Appends records to files.

        Args:
          file_n: int (n,), the number of each record's file, from 0.
          records: (n,) of the spool's dtype.

        Raises:
          OSError: a file cannot be written, as when the disk is full.
        """
        order = np.argsort(file_n.astype(np.uint16), kind="stable")  # 16 bits, which NumPy sorts in linear time
        records, ends = records[order], np.cumsum(np.bincount(file_n, minlength=len(self)))
        for file, start, stop in zip(self._open, np.concatenate([[0], ends[:-1]]), ends):
            if stop > start:
                file.write(records[start:stop].data)

    def close(self) -> None:
        """Closes the files; only then may `take` read them."""
        for file in self._open:
            file.close()

    def take(self, number: int) -> np.ndarray:
        """Reads the records of a file, and deletes it."""
        records = np.fromfile(self._paths[number], self._dtype)
        self._paths[number].unlink()
        return records
