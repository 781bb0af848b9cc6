"""Loops over blocks of rows, of which only the device knows how many there are to work on.

A CPU ends such a loop at the last block that is needed (`counted`). An accelerator waits at the end of each turn for the
device to say whether there is another, longer than the turn takes; there the work is done at its most, in as few turns
as memory allows (`whole`), usually one, which is no loop at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from llmesr_jax.models.types import Array

MOST = 2**25  # numbers that one turn may hold of its widest array, where work is done whole: 128 MiB of float32


def size(n: int, block: int, width: int, whole: bool) -> int:
    """Rows of a turn, at least one: `block` where they are counted, else all n, or equal parts of them that stay within `MOST`.

    Args:
      width: numbers a row, of the widest array.
    """
    if not whole:
        return min(block, n)
    return max(1, -(-n // max(1, -(-n * width // MOST))))


def run(count: Array | int, body: Callable[[Any, Any], Any], carry: Any) -> Any:
    """`jax.lax.fori_loop(0, count, body, carry)`, without a loop where there is one turn, known beforehand."""
    if isinstance(count, int) and count == 1:
        return body(0, carry)
    return jax.lax.fori_loop(0, count, body, carry)
