"""Where the slots of a bag of sequences are: each sequence in a row of its own, or several packed into one bin.

The layout is known when a program is built. Separate rows of a few lengths need the least arithmetic, which is best on
a CPU. Bins of one width turn many products into one, which is best on an accelerator, where small products mostly wait.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Buckets = tuple[tuple[int, int], ...]

_LEAST_WIDTH = 64  # of a bin: a tile of a GPU's matrix product
_MULTIPLE = 8  # a bin's width is a multiple of this, for which a GPU's products are fast


class Places(NamedTuple):
    """Where rows and slots are.

    Attributes:
      bins: ((count, width), ...), in the order of slots; without packing the rows themselves, as `Sequences.buckets`.
      row_T: int32, the row that each slot belongs to. Slots that a bin has left belong to its last row.
      first_R, width_R: int32, the first slot of each row, and its number of slots.
      rows: for each entry of `bins` int32 (count, Q), the rows in each bin, filled up with row 0.
      place_R: int32, the place of each row in all of `rows`, flattened and one after the other.
      packed: whether a bin may hold several rows.
    """

    bins: Buckets
    row_T: np.ndarray
    first_R: np.ndarray
    width_R: np.ndarray
    rows: tuple[np.ndarray, ...]
    place_R: np.ndarray
    packed: bool


def bin_width(buckets: Buckets) -> int:
    """The width of bins, for an accelerator, into which every one of these rows fits."""
    longest = max(length for _, length in buckets)
    return max(_LEAST_WIDTH, -(-longest // _MULTIPLE) * _MULTIPLE)


@functools.lru_cache(maxsize=256)
def places(buckets: Buckets, widths: tuple[int, ...] = ()) -> Places:
    """Lays rows out: in `buckets` one after the other, or packed, longest first, into the first bin with room.

    Args:
      buckets: ((rows, length), ...), longest first.
      widths: of the bins; a row goes into the narrowest that holds it. () does not pack.
    """
    lengths = [length for count, length in buckets for _ in range(count)]
    if not widths:
        ends = np.cumsum([0, *(count for count, _ in buckets)]).tolist()
        alone = [[[row] for row in range(*bounds)] for bounds in zip(ends[:-1], ends[1:])]
        return _places([length for _, length in buckets], alone, lengths)
    by_width = {one: _Bins(one) for one in sorted(widths, reverse=True)}
    row = 0
    for count, length in buckets:
        by_width[min(one for one in widths if one >= length)].put(range(row, row + count), length)
        row += count
    used = [one for one in by_width.values() if one.rows]
    return _places([one.width for one in used], [one.rows for one in used], lengths)


class _Bins:
    """Bins of one width, filled by first fit."""

    def __init__(self, width: int):
        self.width, self.rows, self.room = width, [], []

    def put(self, rows: Sequence[int], length: int) -> None:
        """Puts rows of one length into the first bins with room, and the rest into new ones."""
        for i, room in enumerate(self.room):
            fits = min(room // length, len(rows))
            self.rows[i] += rows[:fits]
            self.room[i] -= fits * length
            rows = rows[fits:]
        fits = self.width // length
        for start in range(0, len(rows), fits):
            taken = list(rows[start : start + fits])
            self.rows.append(taken)
            self.room.append(self.width - len(taken) * length)


def _places(widths: Sequence[int], held: Sequence[Sequence[Sequence[int]]], lengths: Sequence[int]) -> Places:
    """The `Places` of rows that are assigned to bins.

    Args:
      widths, held: of each group of bins the width, and the rows in each bin.
      lengths: of each row.
    """
    first_R, width_R, place_R = (np.zeros(len(lengths), np.int32) for _ in range(3))
    row_T, rows, slot, place = [], [], 0, 0
    for bin_width, bins in zip(widths, held):
        most = max(len(one) for one in bins)
        table = np.zeros((len(bins), most), np.int32)
        for i, one in enumerate(bins):
            table[i, : len(one)] = one
            of_one = np.array([lengths[row] for row in one], np.int32)
            of_one[-1] += bin_width - of_one.sum()
            first_R[one] = slot + np.cumsum(of_one) - of_one
            width_R[one], place_R[one] = of_one, place + np.arange(len(one))
            row_T.append(np.repeat(np.array(one, np.int32), of_one))
            slot, place = slot + bin_width, place + most
        rows.append(table)
    packed = any(table.shape[1] > 1 for table in rows)
    bins = tuple((len(one), bin_width) for one, bin_width in zip(held, widths))
    return Places(bins, np.concatenate(row_T), first_R, width_R, tuple(rows), place_R, packed)
