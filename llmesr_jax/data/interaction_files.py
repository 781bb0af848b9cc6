"""Writes the files of a corpus's interactions: `inter.txt`, or `items.npy` and `offsets.npy`, which readers map.

With either come `times.npy` if times are known, and `split.npy` if the split is the user's own. All are written block
by block, so the interactions need not fit in memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import polars as pl

from llmesr_jax.data import splits
from llmesr_jax.data.preprocess import Block

TEXT, ITEMS, OFFSETS, TIMES, PARTS = "inter.txt", "items.npy", "offsets.npy", "times.npy", "split.npy"
FILES = (TEXT, ITEMS, OFFSETS, TIMES, PARTS)


class Facts(NamedTuple):
    """Facts about the interactions that were written.

    Attributes:
      longest: number of interactions of the user who has the most.
      first, last: seconds since 1970 of the earliest and the latest known time; None where none is known.
      of_parts: int64 (3,) interactions of each of `splits.PARTS`; None without a split of the user's own.
      users_back: number of users whose times descend somewhere.
    """

    longest: int
    first: int | None
    last: int | None
    of_parts: np.ndarray | None
    users_back: int


def write(folder: Path, blocks: Iterable[Block], users: int, count: int, as_arrays: bool) -> Facts:
    """Writes the interactions, their times and their parts.

    Args:
      folder: it exists.
      blocks: each has all interactions of its users; user ids ascend.
      users: number of users.
      count: number of interactions of all blocks.
      as_arrays: `items.npy` (int32, ids) and `offsets.npy` (int64, users + 1: where each begins) instead of `inter.txt`.
    """
    lengths_U, back = np.zeros(users, np.int64), 0
    first, last, of_parts = None, None, None
    with contextlib.ExitStack() as stack:
        to: dict[str, IO[bytes]] = {}

        def append(name: str, array: np.ndarray) -> None:
            if name not in to:
                to[name] = stack.enter_context((folder / name).open("wb"))
                header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": (count,)}
                np.lib.format.write_array_header_1_0(to[name], header)
            to[name].write(np.ascontiguousarray(array).data)

        text = None if as_arrays else stack.enter_context((folder / TEXT).open("wb"))
        for user_n, item_n, times, parts in blocks:
            lengths_U += np.bincount(user_n - 1, minlength=users)
            if as_arrays:
                append(ITEMS, item_n.astype(np.int32))
            else:
                pl.DataFrame([user_n, item_n]).write_csv(text, include_header=False, separator=" ")
            if parts is not None:
                append(PARTS, parts)
                counts = np.bincount(parts, minlength=len(splits.PARTS))
                of_parts = counts if of_parts is None else of_parts + counts
            if times is not None:
                append(TIMES, times)
                known = times[times != splits.UNKNOWN]
                if len(known):
                    first = int(known.min() if first is None else min(first, known.min()))
                    last = int(known.max() if last is None else max(last, known.max()))
                descends = (np.diff(user_n) == 0) & (times[1:] < times[:-1])
                back += len(np.unique(user_n[1:][descends]))
    if as_arrays:
        np.save(folder / OFFSETS, np.concatenate([[0], np.cumsum(lengths_U)]), allow_pickle=False)
    return Facts(int(lengths_U.max()), first, last, of_parts, back)
