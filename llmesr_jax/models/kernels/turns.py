"""Loops over blocks of rows whose number is known only on the device.

A CPU ends such a loop after the last block that is needed. On an accelerator, deciding whether there is another turn
takes longer than the turn. So there (`whole`) all rows are computed, needed or not, in as few turns as memory allows:
usually one, without a loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from llmesr_jax.models.types import Array

MOST = 2**25  # with `whole`, numbers that one turn may hold of its widest array: 128 MiB of float32


def size(n: int, block: int, width: int, whole: bool) -> int:
    """Rows of a turn: at most `block`; with `whole` all n, or equal parts of them within `MOST`, but at least one.

    Args:
      n: rows in all.
      block: rows of a block on a CPU.
      width: numbers per row of the widest array.
    """
    if not whole:
        return min(block, n)
    return max(1, -(-n // max(1, -(-n * width // MOST))))


def run(count: Array | int, body: Callable[[Any, Any], Any], carry: Any) -> Any:
    """`jax.lax.fori_loop(0, count, body, carry)`, without a loop if `count` is the Python integer 1."""
    if isinstance(count, int) and count == 1:
        return body(0, carry)
    return jax.lax.fori_loop(0, count, body, carry)
