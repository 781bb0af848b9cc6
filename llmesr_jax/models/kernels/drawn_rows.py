"""Rows for sequences that a step draws at random: a few static widths, and enough rows of each for nearly every draw.

The drawn sequences are sorted by length, longest first, and laid into rows of falling widths, a staircase that the host
plans from the lengths in the data. If a draw has more long sequences than planned, some are cut to their row's width;
the plan leaves a margin of four standard deviations. Compiled code reads the staircase from the shapes of small tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from llmesr_jax.models.types import Array, Sequences

_SHARES = (0.0, 0.1, 0.5)  # share of the sequences that is longer than the width of each group of rows
_ROWS = 1024  # the tables of a staircase have so many rows together: they stand for shares
_FEWEST = 128  # sequences of a draw that the margin is computed for


def names(name: str) -> tuple[str, ...]:
    """The names of the tables of a staircase."""
    return tuple(f"{name}_{g}" for g in range(len(_SHARES)))


def plan(name: str, length_m: np.ndarray, chance_m: np.ndarray, longest: int) -> dict[str, np.ndarray]:
    """The staircase, widest rows first: tables of shape (share of `_ROWS`, width), whose values do not matter.

    Args:
      name: of the staircase, see `names`.
      length_m: int lengths of the sequences that may be drawn.
      chance_m: float probability of drawing each; they add up to 1.
      longest: width of the widest rows; longer sequences are cut in any case.
    """
    length_m = np.clip(length_m, 1, longest)
    order = np.argsort(-length_m, kind="stable")
    longer = np.cumsum(chance_m[order])  # probability that a draw is at least as long
    sorted_m = length_m[order]
    widths = [longest]
    for share in _SHARES[1:]:
        at = min(int(np.searchsorted(longer, share)), len(sorted_m) - 1)
        widths.append(int(sorted_m[at]) if len(sorted_m) else longest)
    ends = []
    for width in widths[1:]:
        share = chance_m[length_m > width].sum()
        margin = 4 * np.sqrt(share * (1 - min(share, 1)) / _FEWEST) + 1 / _FEWEST
        ends.append(int(np.ceil(min(1.0, share + margin) * _ROWS)) if width < longest else 0)
    bounds = np.maximum.accumulate([0, *ends, _ROWS])
    rows = np.diff(bounds)
    return {n: np.zeros((int(r), w), np.int32) for n, r, w in zip(names(name), rows, widths)}


def groups(tables: Mapping[str, Array], name: str, total: int) -> list[tuple[int, int]]:
    """[(rows, width)] for `total` sequences, widest first."""
    shapes = [tables[one].shape for one in names(name)]
    ends = np.minimum(np.ceil(np.cumsum([rows for rows, _ in shapes]) * total / _ROWS).astype(int), total)
    return [(int(rows), width) for rows, (_, width) in zip(np.diff(ends, prepend=0), shapes) if rows]


def sort(length_m: Array) -> tuple[Array, Array]:
    """int32 (m,) twice: the sequences in order of length, longest first; and each sequence's place in that order."""
    order_m = jnp.argsort(-length_m, stable=True).astype(jnp.int32)
    return order_m, jnp.zeros_like(order_m).at[order_m].set(jnp.arange(len(order_m), dtype=jnp.int32))


def together(parts: Sequence[Sequences]) -> Sequences:
    """The rows of several bags as one bag. All have the same layout; places and users are dropped."""
    start, last = 0, []
    for part in parts:
        last.append(part.last_R + start)
        start += len(part.items_T)
    left_out = [part.left_out_R for part in parts]
    return Sequences(
        items_T=jnp.concatenate([part.items_T for part in parts]),
        positions_T=jnp.concatenate([part.positions_T for part in parts]),
        last_R=jnp.concatenate(last),
        buckets=tuple(bucket for part in parts for bucket in part.buckets),
        left_out_R=None if left_out[0] is None else jnp.concatenate(left_out),
        items_first=parts[0].items_first,
    )
