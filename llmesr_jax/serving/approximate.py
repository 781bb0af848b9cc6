"""Approximate search by a graph (`core.graphs`), for catalogues where exact search takes too long.

A graph finds the items whose vectors have the highest inner product with a user's. Items that are hidden from the user
or not allowed are removed afterwards, so more items are requested; a user with too few items left gets exact search.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from llmesr_jax.core.graphs import KINDS, build, recall
from llmesr_jax.serving.index import Hidden, Top

__all__ = ["KINDS", "build", "recall", "search"]


def search(
    find: Callable[[np.ndarray, int], np.ndarray],
    exact: Callable[..., Top],
    users_BxE: np.ndarray,
    items_VxE: np.ndarray,
    k: int,
    hidden: Hidden,
    allowed_V: np.ndarray | None,
) -> Top:
    """As `index.search`, by a graph.

    Args:
      find: (vectors of users, n) -> int rows of n items for each, -1 for none.
      exact: (vectors of users, hidden) -> their `Top`, for users who are left with fewer than k items.
      users_BxE, items_VxE: float32 vectors, on the host.
      k: items of a list.
      hidden: pairs that are left out.
      allowed_V: bool, the items that may be found; None for all.
    """
    users, items = len(users_BxE), len(items_VxE)
    most = int(np.bincount(hidden.rows_P, minlength=users).max(initial=0))
    rows_BxN = find(np.ascontiguousarray(users_BxE, np.float32), min(items, k + most))
    vectors_BxNxE = items_VxE[np.maximum(rows_BxN, 0)]
    scores_BxN = np.einsum("be,bne->bn", users_BxE, vectors_BxNxE).astype(np.float32)
    taken = rows_BxN >= 0
    if allowed_V is not None:
        taken &= allowed_V[np.maximum(rows_BxN, 0)]
    keys = hidden.rows_P.astype(np.int64) * items + hidden.columns_P
    taken &= ~np.isin(np.arange(users)[:, None] * items + rows_BxN, keys)
    scores_BxN = np.where(taken, scores_BxN, -np.inf)
    order = np.lexsort((rows_BxN, -scores_BxN), axis=1)[:, :k]
    scores, rows = (np.take_along_axis(x, order, axis=1) for x in (scores_BxN, rows_BxN))
    short = k - scores.shape[1]
    scores = np.pad(scores, ((0, 0), (0, short)), constant_values=-np.inf)
    rows = np.where(scores > -np.inf, np.pad(rows, ((0, 0), (0, short)), constant_values=-1), -1)
    few = np.flatnonzero((rows < 0).any(axis=1))
    if len(few):
        mine = np.isin(hidden.rows_P, few)
        found = exact(users_BxE[few], hidden=Hidden(np.searchsorted(few, hidden.rows_P[mine]), hidden.columns_P[mine]))
        rows[few], scores[few] = found
    return Top(rows.astype(np.int32), scores)
