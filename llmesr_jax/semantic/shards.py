"""Divides the texts of a data set among several processes, each with a store of its own; another run merges the stores.

The digest of a text decides to which shard it belongs. So equal texts belong to one shard, and a process knows its
texts without asking the others.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from llmesr_jax.core.errors import InputError
from llmesr_jax.semantic import rows
from llmesr_jax.semantic.encoders import TextEncoder
from llmesr_jax.semantic.store import KEY, Store, known_width, take

_BLOCK = 4096  # vectors that are copied together


class Shard(NamedTuple):
    """One of `count` shards, by its number from 0."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"shard {self.number} of {self.count} (from 0)"

    def has(self, keys_W: np.ndarray) -> np.ndarray:
        """bool (W,): whether each text, given by its `KEY`, belongs to this shard."""
        digits_WxB = np.ascontiguousarray(keys_W).view(np.uint8).reshape(-1, KEY.itemsize)
        return np.ascontiguousarray(digits_WxB[:, :8]).view("<u8").ravel() % self.count == self.number

    def folder(self, of_all: Path) -> Path:
        """The shard's store, beside that of all texts."""
        return of_all.with_name(f"{of_all.name}-shard-{self.number}-of-{self.count}")


def shard_of(shards: int, shard: int | None) -> Shard | None:
    """The shard that `--shards` and `--shard` name; None without them.

    Raises:
      InputError: one of them is missing, or there is no such shard.
    """
    if shards == 1 and shard in (None, 0):
        return None
    if shard is None or not 0 <= shard < shards:
        found = "is missing" if shard is None else f"={shard}: there is no such shard"
        raise InputError(
            f"--shard{found if shard is not None else ' ' + found}; with --shards={shards}, expected --shard=0 to "
            f"--shard={shards - 1}, each by a process of its own"
        )
    return Shard(shard, shards)


def folders(of_all: Path) -> list[Path]:
    """The existing stores of shards."""
    return sorted(path for path in of_all.parent.glob(f"{of_all.name}-shard-*") if path.is_dir())


def merge(store: Store, of_all: Path) -> None:
    """Copies into a store the vectors that only the shards' stores have. After a kill, the same call completes it.

    Args:
      store: of all texts.
      of_all: its folder.

    Raises:
      InputError: the process of a shard is still running.
    """
    for folder in folders(of_all):
        width = known_width(folder)
        if width is None or store.width not in (None, width):
            take(folder).release()  # the process of such a shard may still wait for its first vector
            continue
        with Store(folder, {}, width) as of_shard:
            keys_N, vectors = of_shard.keys, of_shard.rows()
            new_M = np.flatnonzero(rows.find(store.keys, keys_N) < 0)
            starts = range(0, len(new_M), _BLOCK)
            for start in tqdm(starts, f"merging {folder.name}", unit="block", disable=None):
                some = new_M[start : start + _BLOCK]
                store.add([keys_N[i].tobytes() for i in some], np.array(vectors(some)))


def with_shards(encoder: TextEncoder, of_all: Path) -> TextEncoder:
    """The encoder, whose `shortened` also gives the texts that were shortened in the runs of the shards."""
    where = [of_all, *folders(of_all)]
    return encoder._replace(shortened=lambda folder: set().union(*map(encoder.shortened, {folder, *where})))


def remove(of_all: Path) -> None:
    """Deletes the shards' stores, after their vectors were written elsewhere; not those that a process is using."""
    for folder in folders(of_all):
        with contextlib.suppress(InputError):
            held = take(folder)
            shutil.rmtree(folder, ignore_errors=True)
            held.release()
