"""A list chosen from a user's best items: with a minimum share of tail items, and with diverse items."""

from __future__ import annotations

import numpy as np

from llmesr_jax.serving.index import Top


def choose(
    pool: Top, k: int, *, tail_V: np.ndarray, tail_share: float, diversity: float, vectors_VxF: np.ndarray | None
) -> Top:
    """Chooses lists greedily: one item after another, each time the best allowed one of the pool.

    With `diversity` d this is maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): the next item has the
    highest (1 - d) relevance - d similarity, where relevance is the score, scaled to 0..1 over the user's pool, and
    similarity is the highest cosine to an item that is already in the list. The list is in the order of choice.

    Without diversity the list has the highest sum of scores among lists with enough tail items, in order of score.

    Args:
      pool: the candidates of B users, P each.
      k: items of a list; at most P.
      tail_V: bool (V,).
      tail_share: at least ceil(tail_share * k) items of each list are tail items, as far as the pool has them.
      diversity: 0..1.
      vectors_VxF: float (V, F) frozen embeddings; only with diversity.
    """
    users, wanted = len(pool.rows_BxK), least_tail(tail_share, k)
    free_BxP = pool.rows_BxK >= 0
    tail_BxP = free_BxP & tail_V[pool.rows_BxK]
    relevance_BxP = (
        _unit_range(pool.scores_BxK, free_BxP) if diversity else np.where(free_BxP, pool.scores_BxK, -np.inf)
    )
    unit_BxPxF = _unit(np.asarray(vectors_VxF[pool.rows_BxK], np.float32)) if diversity else None
    nearest_BxP = np.zeros(pool.rows_BxK.shape, np.float32)
    chosen_BxK = np.full((users, k), -1, np.int64)
    need_B, at_B = np.minimum(wanted, tail_BxP.sum(axis=1)), np.arange(users)
    for place in range(k):
        must_B = need_B >= k - place
        value_BxP = relevance_BxP
        if diversity:  # -inf, where there is no item, times 0 would be NaN
            value_BxP = (1 - diversity) * np.where(free_BxP, relevance_BxP, 0) - diversity * nearest_BxP
        value_BxP = np.where(free_BxP & (tail_BxP | ~must_B[:, None]), value_BxP, -np.inf)
        best_B = value_BxP.argmax(axis=1)
        found_B = free_BxP[at_B, best_B] & (value_BxP[at_B, best_B] > -np.inf)
        chosen_BxK[:, place] = np.where(found_B, best_B, -1)
        need_B = need_B - (found_B & tail_BxP[at_B, best_B])
        free_BxP[at_B[found_B], best_B[found_B]] = False
        if diversity:
            cosine_BxP = np.einsum("bpf,bf->bp", unit_BxPxF, unit_BxPxF[at_B, best_B])
            nearest_BxP = np.maximum(nearest_BxP, cosine_BxP) if place else cosine_BxP
    there_BxK = chosen_BxK >= 0
    rows = np.where(there_BxK, np.take_along_axis(pool.rows_BxK, chosen_BxK, axis=1), -1)
    scores = np.where(there_BxK, np.take_along_axis(pool.scores_BxK, chosen_BxK, axis=1), -np.inf).astype(np.float32)
    if not diversity:
        order = np.lexsort((rows, -scores), axis=1)
        rows, scores = np.take_along_axis(rows, order, axis=1), np.take_along_axis(scores, order, axis=1)
    return Top(rows, scores)


def least_tail(share: float, k: int) -> int:
    """ceil(share * k), correct also where the product is rounded, as in .3 * 10."""
    return int(np.ceil(round(share * k, 9)))


def merged(first: Top, second: Top) -> Top:
    """The first pool, followed by items that are only in the second."""
    again = (second.rows_BxK[:, :, None] == first.rows_BxK[:, None, :]).any(axis=2)
    rows = np.concatenate([first.rows_BxK, np.where(again, -1, second.rows_BxK)], axis=1)
    return Top(rows, np.concatenate([first.scores_BxK, np.where(again, -np.inf, second.scores_BxK)], axis=1))


def _unit_range(scores_BxP: np.ndarray, there_BxP: np.ndarray) -> np.ndarray:
    low = np.where(there_BxP, scores_BxP, np.inf).min(axis=1, keepdims=True)
    high = np.where(there_BxP, scores_BxP, -np.inf).max(axis=1, keepdims=True)
    width = np.where(high > low, high - low, 1)
    with np.errstate(invalid="ignore"):
        return np.where(there_BxP, (scores_BxP - low) / width, -np.inf)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
