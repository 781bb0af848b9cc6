"""Fixed-size records spread over files on disk, so that each file fits in memory where all of them do not."""

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
        """Appends each record to the file of its number, from 0.

        Raises:
          OSError: the disk is full.
        """
        order = np.argsort(file_n.astype(np.uint16), kind="stable")  # 16 bits, which NumPy sorts in linear time
        records, ends = records[order], np.cumsum(np.bincount(file_n, minlength=len(self)))
        for file, start, stop in zip(self._open, np.concatenate([[0], ends[:-1]]), ends):
            if stop > start:
                file.write(records[start:stop].data)

    def close(self) -> None:
        """Ends the adding."""
        for file in self._open:
            file.close()

    def take(self, number: int) -> np.ndarray:
        """The records of a file, which is deleted."""
        records = np.fromfile(self._paths[number], self._dtype)
        self._paths[number].unlink()
        return records
