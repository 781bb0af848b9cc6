"""Exact search for each user's items of highest score, in blocks of items, so that never all scores are in memory."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

USERS = (1, 4, 16, 64, 256)  # numbers of users of a search; a smaller batch is filled up to the next of these
# Items of a block. On a CPU, so few that its scores stay in the caches; elsewhere, enough to keep the device busy.
_BLOCK = {"cpu": 8192}
_BLOCK_DEFAULT = 1 << 18
_LEAST_PAIRS = 64


class Hidden(NamedTuple):
    """P pairs of a user and an item that the user must not get.

    Attributes:
      rows_P: int32 places of users in the batch.
      columns_P: int32 rows of items.
    """

    rows_P: np.ndarray
    columns_P: np.ndarray


NOTHING = Hidden(np.zeros(0, np.int32), np.zeros(0, np.int32))


class Top(NamedTuple):
    """The best items of B users, best first; equal scores in order of row.

    Attributes:
      rows_BxK: int32 rows of items, -1 after the last one.
      scores_BxK: float32, -inf where the row is -1.
    """

    rows_BxK: np.ndarray
    scores_BxK: np.ndarray


def search(users_BxE: np.ndarray, items_VxE: Any, k: int, hidden: Hidden = NOTHING, allowed_V: Any = None) -> Top:
    """The k items of highest user . item. A score that is NaN is never among them.

    Args:
      users_BxE: float32 vectors of users.
      items_VxE: float32 vectors of items, on the device.
      k: items per user.
      hidden: pairs that are left out.
      allowed_V: bool, on the device, the items that may be found; None for all.
    """
    users, items = len(users_BxE), len(items_VxE)
    if users > USERS[-1]:
        parts = []
        for start in range(0, users, USERS[-1]):
            mine = (hidden.rows_P >= start) & (hidden.rows_P < start + USERS[-1])
            pairs = Hidden(hidden.rows_P[mine] - start, hidden.columns_P[mine])
            parts.append(search(users_BxE[start : start + USERS[-1]], items_VxE, k, pairs, allowed_V))
        return Top(*(np.concatenate(x) for x in zip(*parts, strict=True)))
    shape = (users, k)
    if not users or not items:
        return Top(np.full(shape, -1, np.int32), np.full(shape, -np.inf, np.float32))
    size = next(size for size in USERS if size >= users)
    filled_BxE = np.zeros((size, users_BxE.shape[1]), np.float32)
    filled_BxE[:users] = users_BxE
    pairs = max(_LEAST_PAIRS, 1 << (max(1, len(hidden.rows_P)) - 1).bit_length())  # few shapes, so few compilations
    rows_P, columns_P = np.full(pairs, size, np.int32), np.zeros(pairs, np.int32)
    rows_P[: len(hidden.rows_P)], columns_P[: len(hidden.rows_P)] = hidden
    found = jax.device_get(_search(filled_BxE, items_VxE, rows_P, columns_P, allowed_V, k))
    return Top(*(x[:users] for x in found))


def traced(users_BxE: Any, items_VxE: Any, rows_P: Any, columns_P: Any, allowed_V: Any, k: int) -> tuple[Any, Any]:
    """The computation of `search`, for use in a compiled function. Pairs whose row is B or more hide nothing.

    Returns:
      int32 and float32 (B, k), as in `Top`.
    """
    users, items = len(users_BxE), len(items_VxE)
    block = min(items, _BLOCK.get(jax.default_backend(), _BLOCK_DEFAULT))
    block = items if items <= 2 * block else block
    taken = min(k, block)
    minus = jnp.full((), -jnp.inf, jnp.float32)

    def best_of(start, first):
        """The best of `block` items from `start` on, without those before `first`, because the last block overlaps."""
        vectors = jax.lax.dynamic_slice_in_dim(items_VxE, start, block)
        scores = jax.lax.dot_general(users_BxE, vectors, (((1,), (1,)), ((), ())), precision=jax.lax.Precision.HIGHEST)
        open_N = start + jnp.arange(block, dtype=jnp.int32) >= first
        if allowed_V is not None:
            open_N &= jax.lax.dynamic_slice_in_dim(allowed_V, start, block)
        scores = jnp.where(open_N[None, :] & ~jnp.isnan(scores), scores, minus)
        places = columns_P - start
        rows = jnp.where((places >= 0) & (places < block), rows_P, users)  # out of range: dropped
        scores = scores.at[rows, places].set(minus, mode="drop")
        values, columns = jax.lax.top_k(scores, taken)
        return columns.astype(jnp.int32) + start, values

    def step(n, best):
        first = n * block
        rows, values = best_of(jnp.minimum(first, items - block), first)
        rows, values = jnp.concatenate([best[0], rows], axis=1), jnp.concatenate([best[1], values], axis=1)
        values, places = jax.lax.top_k(values, k)  # takes the first of equal values, which have the lower rows
        return jnp.take_along_axis(rows, places, axis=1), values

    best = jnp.full((users, k), -1, jnp.int32), jnp.full((users, k), -jnp.inf, jnp.float32)
    if block == items:
        rows, values = step(jnp.zeros((), jnp.int32), best)
    else:
        rows, values = jax.lax.fori_loop(0, -(-items // block), step, best)
    return jnp.where(values > minus, rows, -1), values


_search = jax.jit(traced, static_argnames="k")
