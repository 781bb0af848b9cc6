"""Loops over rows of very unequal length, in blocks of a few widths, so that little padding is computed.

For work outside of steps: only the device knows the number of blocks of each width, so there is no gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from llmesr_jax.models.types import Array

ROWS = 256  # rows of a block


def in_blocks(
    arrays: Sequence[Array], length_m: Array, widths: Sequence[int], block: Callable[..., Any], total: Any
) -> Any:
    """Folds `block` over blocks of `ROWS` rows, each as wide as its rows need, and returns the last total.

    Args:
      arrays: (m, ...) each, in order of length, longest first.
      length_m: int32, from 1 to the last of `widths`.
      widths: ascending; static: each is compiled separately.
      block: ((*slices of the arrays, bool (ROWS,): which rows count), width, total) -> total.
      total: the first total.
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
    """The powers of two from `least` on that are below `longest`, and `longest`."""
    powers = [2**k for k in range(longest.bit_length()) if 2**k >= least]
    return [*(width for width in powers if width < longest), longest]
