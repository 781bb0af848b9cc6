"""How many of an ascending run of numbers are at most x: binary search, and a 16-way search for accelerators."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from llmesr_jax.models.types import Array

_WAYS = 16  # parts of a run among which one turn of that search chooses


def at_most(values_m: Array, start: Array, count: Array, x: Array, most: int, whole: bool) -> Array:
    """int32: how many of values[start : start + count], ascending, are at most x.

    Args:
      values_m: int32.
      start, count, x: int32, of one shape; a count may be 0.
      most: no count is higher; static.
      whole: a 16-way search in an unrolled loop, with a quarter of the turns: on an accelerator a turn of a compiled
        loop costs more than its work. On a CPU unrolled turns are slow to compile, and bisection reads the fewest
        values.
    """
    return _wide(values_m, start, count, x, most) if whole else _bisect(values_m, start, count, x, most)


def _bisect(values_m: Array, start: Array, count: Array, x: Array, most: int) -> Array:
    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) // 2
        value = jnp.take(values_m, start + middle, mode="clip")
        right = (low < high) & (value <= x)
        return jnp.where(right, middle + 1, low), jnp.where((low < high) & ~right, middle, high)

    # A loop of the compiler, not of Python: unrolled, its fusions grow exponentially and so does the compile time.
    return jax.lax.fori_loop(0, most.bit_length(), halve, (jnp.zeros_like(x), count))[0]


def _wide(values_m: Array, start: Array, count: Array, x: Array, most: int) -> Array:
    found, step = jnp.zeros_like(x), 1
    while step * _WAYS <= most:
        step *= _WAYS
    part = jnp.arange(1, _WAYS, dtype=jnp.int32).reshape(*[1] * x.ndim, -1)
    while step:
        # Values ascend, so the number of parts whose last value is at most x tells which part to search next.
        place = found[..., None] + part * step - 1
        value = jnp.take(values_m, start[..., None] + place, mode="clip")
        below = (place < count[..., None]) & (value <= x[..., None])
        found = found + step * jnp.sum(below, axis=-1, dtype=jnp.int32)
        step //= _WAYS
    return found
