"""The items of highest score of each user, exactly, in blocks of items: never all scores at once.

On a CPU the products are NumPy's: no dispatch, all cores, and a block is only searched above the worst of the best so
far. On an accelerator one compiled function has the scores and `top_k`.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_BLOCK = 4 << 20  # scores held at a time on a CPU
_FIRST = 4096  # items of the first block, which sets the bar for the others


class Hidden(NamedTuple):
    """P pairs of a user and an item that the user cannot get.

    Attributes:
      rows_P: int64 places of users.
      columns_P: int64 rows of items.
    """

    rows_P: np.ndarray
    columns_P: np.ndarray


NOTHING = Hidden(np.zeros(0, np.int64), np.zeros(0, np.int64))


class Top(NamedTuple):
    """The best items of B users, best first; equal scores in order of row.

    Attributes:
      rows_BxK: int64 rows of items, -1 once they run out.
      scores_BxK: float32, -inf there.
    """

    rows_BxK: np.ndarray
    scores_BxK: np.ndarray


def search(
    users_BxE: np.ndarray, items_VxE: np.ndarray, k: int, hidden: Hidden = NOTHING, among: np.ndarray | None = None
) -> Top:
    """The k items of highest user . item. A score that is NaN is never among them.

    Args:
      users_BxE, items_VxE: float32.
      k: how many.
      hidden: pairs that are left out.
      among: int64 (n,) ascending rows of the items that may be found; None for all.
    """
    if jax.default_backend() == "cpu":
        return _by_blocks(users_BxE, items_VxE, k, hidden, among)
    return _on_device(users_BxE, items_VxE, k, hidden, among)


def _by_blocks(users_BxE, items_VxE, k, hidden, among) -> Top:
    users, items = len(users_BxE), len(items_VxE) if among is None else len(among)
    order = np.argsort(hidden.columns_P, kind="stable")
    hidden_rows, hidden_columns = hidden.rows_P[order], hidden.columns_P[order]
    best = Top(np.full((users, k), -1, np.int64), np.full((users, k), -np.inf, np.float32))
    start, step = 0, max(min(_FIRST, items), k)
    while start < items and users:
        stop = min(start + step, items)
        rows = slice(start, stop) if among is None else among[start:stop]
        scores_BxN = users_BxE @ items_VxE[rows].T
        if len(hidden_columns):
            first = start if among is None else rows[0]
            last = stop if among is None else rows[-1] + 1
            pairs = slice(*np.searchsorted(hidden_columns, (first, last)))
            places, columns = hidden_rows[pairs], hidden_columns[pairs] - first
            if among is not None:
                at = np.searchsorted(rows, hidden_columns[pairs])
                there = rows[np.minimum(at, len(rows) - 1)] == hidden_columns[pairs]
                places, columns = places[there], at[there]
            scores_BxN[places, columns] = -np.inf
        best = _merge(best, scores_BxN, start, k)
        start, step = stop, max(_BLOCK // users, k)
    if among is None or not items:
        return best
    return best._replace(rows_BxK=np.where(best.rows_BxK < 0, -1, among[best.rows_BxK]))


def _merge(best: Top, scores_BxN: np.ndarray, start: int, k: int) -> Top:
    """The best of those found so far and of a block, whose first item is `start`."""
    bar_B = best.scores_BxK[:, -1]
    if start == 0 and scores_BxN.shape[1] > k:  # the k-th best of the block: what is lower is out
        with np.errstate(invalid="ignore"):
            kth = np.partition(np.nan_to_num(scores_BxN, nan=-np.inf, posinf=np.inf, neginf=-np.inf), -k, axis=1)[:, -k]
        above = (scores_BxN >= kth[:, None]) & (scores_BxN > -np.inf)
    else:
        above = scores_BxN > bar_B[:, None]
    users, columns = np.nonzero(above)
    if not len(users):
        return best
    old_users, old_places = np.nonzero(best.rows_BxK >= 0)
    users = np.concatenate([old_users, users])
    rows = np.concatenate([best.rows_BxK[old_users, old_places], columns + start])
    scores = np.concatenate([best.scores_BxK[old_users, old_places], scores_BxN[above]])
    order = np.lexsort((rows, -scores, users))
    users, rows, scores = users[order], rows[order], scores[order]
    place = np.arange(len(users)) - np.searchsorted(users, users)
    kept = place < k
    found = Top(np.full_like(best.rows_BxK, -1), np.full_like(best.scores_BxK, -np.inf))
    found.rows_BxK[users[kept], place[kept]] = rows[kept]
    found.scores_BxK[users[kept], place[kept]] = scores[kept]
    return found


def _on_device(users_BxE, items_VxE, k, hidden, among) -> Top:
    size = max(64, 1 << (max(1, len(hidden.rows_P)) - 1).bit_length())  # few shapes, so few compilations
    rows_P, columns_P = np.full(size, len(users_BxE), np.int32), np.zeros(size, np.int32)
    rows_P[: len(hidden.rows_P)], columns_P[: len(hidden.rows_P)] = hidden
    banned_V = np.zeros(len(items_VxE), bool)
    if among is not None:
        banned_V[:] = True
        banned_V[among] = False
    taken = min(k, len(items_VxE))
    scores, rows = jax.device_get(_compiled(users_BxE, items_VxE, rows_P, columns_P, banned_V, taken))
    rows, scores = np.where(scores > -np.inf, rows.astype(np.int64), -1), np.asarray(scores)
    wide = ((0, 0), (0, k - taken))
    return Top(np.pad(rows, wide, constant_values=-1), np.pad(scores, wide, constant_values=-np.inf))


@functools.partial(jax.jit, static_argnames="k")
def _compiled(users_BxE, items_VxE, rows_P, columns_P, banned_V, k):
    scores_BxV = jax.lax.dot_general(
        users_BxE, items_VxE, (((1,), (1,)), ((), ())), precision=jax.lax.Precision.HIGHEST
    )
    scores_BxV = jnp.where(jnp.isnan(scores_BxV) | banned_V[None, :], -jnp.inf, scores_BxV)
    return jax.lax.top_k(scores_BxV.at[rows_P, columns_P].set(-jnp.inf, mode="drop"), k)
