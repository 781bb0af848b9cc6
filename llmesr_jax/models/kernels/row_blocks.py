"""Rows of very unequal length, worked through in blocks of rows of a few widths: what is padding is left out.

For work outside of steps, without a gradient: how many blocks there are of a width only the device knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from llmesr_jax.models.types import Array

ROWS = 256  # of a block


def in_blocks(
    arrays: Sequence[Array], length_m: Array, widths: Sequence[int], block: Callable[..., Any], total: Any
) -> Any:
    """`block` over rows of arrays, so many at a time, each block as wide as its rows need: what it made of `total`.

    Args:
      arrays: (m, ...) each, in the order of lengths, longest first.
      length_m: int32, from 1 to the last of `widths`.
      widths: ascending; static, so each makes a program of its own.
      block: (arrays of so many rows and bool, which of them count; width; total) -> total.
    """
    padded = [jnp.pad(a, ((0, ROWS), *((0, 0),) * (a.ndim - 1))) for a in arrays]
    ends = [jnp.sum(length_m > width, dtype=jnp.int32) for width in (0, *widths)]
    for place, width in enumerate(widths):
        first, end = ends[place + 1], ends[place]

        def one(i, total, first=first, end=end, width=width):
            start = first + i * ROWS
            cut = [jax.lax.dynamic_slice_in_dim(a, start, ROWS) for a in padded]
            return block((*cut, start + jnp.arange(ROWS, dtype=jnp.int32) < end), width, total)

        total = jax.lax.fori_loop(0, (end - first + ROWS - 1) // ROWS, one, total)
    return total


def widths_to(longest: int, least: int = 1) -> list[int]:
    """Powers of two from `least` up to the longest, and this one."""
    powers = [2**k for k in range(longest.bit_length()) if 2**k >= least]
    return [*(width for width in powers if width < longest), longest]
