"""Stores vectors on disk as they arrive, each under the key of its text; a kill at any moment loses no stored one.

A store is a folder with `store.json` (what makes the vectors, and their width) and `vectors.bin`, to which records of
one size are appended:

    key (16 bytes), vector (width float32), CRC-32 of both (4 bytes)

When the store is opened, an incomplete or damaged record is found by its checksum, and counts as absent.

Why no database: with sqlite3, writing 200,000 vectors of width 384 takes 3 times as long (2.3 s against 0.8 s; 12 times
with an index over the keys), and reading them in order 3 to 6 times (0.3 s against 0.07 s). It does not check vectors:
of 300 flipped bits, 233 changed a vector or key silently, and one made the file unreadable; here each loses only its
record. With a column of checksums, writing takes 4 times as long as here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import zlib
from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import filelock
import numpy as np
from absl import logging

from llmesr_jax.core import files, locks

KEY = np.dtype("V16")
_VERSION = 1
_OWN = {"lock", "store.json", "vectors.bin"}
_BLOCK_BYTES = 16 * 2**20


def key_of(text: str) -> bytes:
    """16 bytes that identify a text."""
    return hashlib.blake2b(text.encode(), digest_size=KEY.itemsize).digest()


class Store:
    """The store in a folder, which is made if absent, and removed if it is empty at the end. For one process at a time.

    If the stored vectors have another width, or an unknown one, their file is renamed and the store begins empty.

    Args:
      folder: of the store.
      identity: what makes the vectors, for store.json.
      width: F, if it is known.

    Attributes:
      width: F; None before the first vector.

    Raises:
      InputError: another process has it open.
      OSError: a file cannot be read or written.
    """

    def __init__(self, folder: Path, identity: Mapping[str, str | int | None], width: int | None = None):
        self.folder, self._identity = folder, dict(identity)
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = take(folder)
        path = folder / "vectors.bin"
        self.width = known_width(folder) or width
        if path.exists() and path.stat().st_size and width not in (None, self.width) or self.width is None:
            self.width = width
            _set_aside(path)
        self._file = path.open("ab", buffering=0)
        if self.width is not None:
            self.set_width(self.width)
        self._keys, self._places = self._scan()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_) -> None:
        self._file.close()
        if not len(self) and {path.name for path in self.folder.glob("*")} <= _OWN:
            shutil.rmtree(self.folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # other things are there
                self.folder.parent.rmdir()
        self._lock.release()

    def __len__(self) -> int:
        return len(self._places)

    @property
    def keys(self) -> np.ndarray:
        """(n,) of type `KEY`: the texts with a stored vector."""
        return np.frombuffer(bytes(self._keys), KEY)

    def add(self, keys: Sequence[bytes], vectors_NxF: np.ndarray) -> None:
        """Stores vectors; after this returns, a kill does not lose them.

        Args:
          keys: of the texts, see `key_of`.
          vectors_NxF: finite float32.

        Raises:
          ValueError: the vectors are not finite float32 of this store's width.
        """
        if vectors_NxF.dtype != np.float32 or vectors_NxF.ndim != 2 or len(vectors_NxF) != len(keys):
            raise ValueError(f"expected {len(keys)} vectors, found {vectors_NxF.dtype} {vectors_NxF.shape}")
        if self.width is None:
            self.set_width(vectors_NxF.shape[1])
        if vectors_NxF.shape[1] != self.width or not np.isfinite(vectors_NxF).all():
            raise ValueError(f"expected finite vectors of width {self.width}, found {vectors_NxF.shape}")
        records = np.empty(len(keys), self._record)
        records["key"] = np.frombuffer(b"".join(keys), KEY)
        records["vector"] = vectors_NxF
        records["crc"] = _checksums(records)
        self._write(records.tobytes())
        self._keys += b"".join(keys)
        self._places.extend(range(self._end, self._end + len(keys)))
        self._end += len(keys)

    def drop(self, keys: Sequence[bytes]) -> None:
        """Removes the vectors of these texts, by overwriting their records."""
        wanted = set(keys)
        here = [self._keys[i : i + KEY.itemsize] for i in range(0, len(self._keys), KEY.itemsize)]
        kept = [i for i, key in enumerate(here) if bytes(key) not in wanted]
        empty = np.zeros(1, self._record)
        empty["vector"] = 1.0  # zeros would count as damaged
        empty["crc"] = _checksums(empty)
        with open(self._file.name, "r+b") as file:
            for i in set(range(len(here))) - set(kept):
                file.seek(self._places[i] * self._record.itemsize)
                file.write(empty.tobytes())
        self._keys, self._places = (
            bytearray(b"".join(here[i] for i in kept)),
            array("q", (self._places[i] for i in kept)),
        )

    def rows(self) -> Callable[[np.ndarray], np.ndarray]:
        """A function: indices into `keys` -> their vectors, float32 (n, width), read from the disk."""
        if not len(self):
            return lambda index: np.empty((len(index), self.width or 0), np.float32)
        vectors = np.memmap(self._file.name, self._record, "r", shape=(self._end,))["vector"]
        places = np.array(self._places)
        return lambda index: vectors[places[index]]

    def set_width(self, width: int) -> None:
        """Sets F, before the first vector."""
        text = json.dumps({"version": _VERSION, "width": width, "made_by": self._identity}, indent=1)
        files.write_text(self.folder / "store.json", text)
        self.width = width

    def remove(self) -> None:
        """Deletes the store, after its vectors were written elsewhere."""
        self._file.close()
        shutil.rmtree(self.folder)

    @property
    def _record(self) -> np.dtype:
        return np.dtype([("key", KEY), ("vector", "<f4", (self.width,)), ("crc", "<u4")])

    def _scan(self) -> tuple[bytearray, array]:
        """Keys and places of the valid records; an incomplete record at the end is cut off."""
        self._end, keys, places = 0, bytearray(), array("q")
        size = os.fstat(self._file.fileno()).st_size
        if self.width is None or not size:
            return keys, places
        record = self._record
        self._end = size // record.itemsize
        if size % record.itemsize:
            logging.warning("%s: the last record is incomplete, as after a kill; it is made again", self._file.name)
            self._file.truncate(self._end * record.itemsize)
        if not self._end:
            return keys, places
        records = np.memmap(self._file.name, record, "r", shape=(self._end,))
        block = max(1, _BLOCK_BYTES // record.itemsize)
        for start in range(0, self._end, block):
            some = np.array(records[start : start + block])
            usable_N = np.isfinite(some["vector"]).all(axis=1) & some["vector"].any(axis=1)
            sound_N = (some["crc"] == _checksums(some)) & usable_N
            keys += some["key"][sound_N].tobytes()
            places.extend((start + np.flatnonzero(sound_N)).tolist())
        if damaged := self._end - len(places):
            logging.warning(
                "%s: %d of %d records are damaged; they are made again", self._file.name, damaged, self._end
            )
        return keys, places

    def _write(self, content: bytes) -> None:
        rest = memoryview(content)
        while rest:
            rest = rest[self._file.write(rest) :]


def take(folder: Path, name: str = "lock") -> filelock.BaseFileLock:
    """Locks a folder for one process at a time.

    Raises:
      InputError: another process has it locked.
    """
    return locks.take(
        folder / name, f"{folder}: another launch.embed is using this folder; wait until it ends, or stop it"
    )


def known_width(folder: Path) -> int | None:
    """F of the store in `folder`; None if there is no store, or F is not known."""
    try:
        header = json.loads((folder / "store.json").read_bytes())
        sound = header["version"] == _VERSION and type(header["width"]) is int and header["width"] > 0
        return header["width"] if sound else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _set_aside(path: Path) -> None:
    if path.exists() and path.stat().st_size:
        logging.warning("%s: has another width, or an unknown one; renamed to %s.old", path, path.name)
        path.replace(f"{path}.old")


def _checksums(records: np.ndarray) -> np.ndarray:
    """(n,) uint32: CRC-32 of each record's bytes before the checksum."""
    size = records.dtype.itemsize
    flat = memoryview(records.tobytes())
    return np.array([zlib.crc32(flat[i : i + size - 4]) for i in range(0, len(flat), size)], np.uint32)
