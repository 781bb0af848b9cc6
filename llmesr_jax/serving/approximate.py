"""Approximate search by faiss or usearch, for catalogues where exact search takes too long: extras of these names.

Both find the items whose vectors have the highest inner product with a user's. What is hidden from the user or not
allowed is left out afterwards, so more items are requested; a user with too few items left gets exact search.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.serving.index import Hidden, Top

KINDS = ("exact", "faiss", "usearch")
_NEIGHBOURS = 32  # of an item in the graph
_EFFORT = 128  # nodes that a search keeps


def build(kind: str, items_VxE: np.ndarray) -> Callable[[np.ndarray, int], np.ndarray]:
    """A function of users (B, E) and a number: int64 (B, number) rows of items, -1 where there are fewer.

    Both kinds are graphs (HNSW, Malkov and Yashunin, 2016).

    Raises:
      InputError: the kind is not known, or its package is not installed.
    """
    if kind not in KINDS[1:]:
        raise InputError(f"index={kind!r}: is not known; expected one of: {', '.join(KINDS)}")
    items_VxE = np.ascontiguousarray(items_VxE, np.float32)
    try:
        return {"faiss": _faiss, "usearch": _usearch}[kind](items_VxE)
    except ImportError as error:
        raise InputError(f"index={kind}: needs the package {kind}; run pip install 'llmesr-jax[{kind}]'") from error


def _faiss(items_VxE: np.ndarray) -> Callable[[np.ndarray, int], np.ndarray]:
    import faiss

    graph = faiss.IndexHNSWFlat(items_VxE.shape[1], _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    graph.add(items_VxE)

    def find(users_BxE: np.ndarray, count: int) -> np.ndarray:
        graph.hnsw.efSearch = max(_EFFORT, 2 * count)
        return graph.search(users_BxE, count)[1]

    return find


def _usearch(items_VxE: np.ndarray) -> Callable[[np.ndarray, int], np.ndarray]:
    from usearch.index import Index

    graph = Index(ndim=items_VxE.shape[1], metric="ip", dtype="f32", connectivity=_NEIGHBOURS)
    graph.add(np.arange(len(items_VxE)), items_VxE)

    def find(users_BxE: np.ndarray, count: int) -> np.ndarray:
        graph.expansion_search = max(_EFFORT, 2 * count)
        found = graph.search(users_BxE, count)
        keys = np.asarray(found.keys).reshape(len(users_BxE), -1).astype(np.int64)
        counts = np.asarray(getattr(found, "counts", [keys.shape[1]])).reshape(-1, 1)
        return np.where(np.arange(keys.shape[1]) < counts, keys, -1)

    return find


def search(
    find: Callable[[np.ndarray, int], np.ndarray],
    exact: Callable[..., Top],
    users_BxE: np.ndarray,
    items_VxE: np.ndarray,
    k: int,
    hidden: Hidden,
    allowed_V: np.ndarray | None,
) -> Top:
    """As `index.search`, by a graph: `exact(users, hidden)` serves users who are left with fewer than k."""
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


def recall(found: Any, wanted: Any) -> float:
    """The share of the expected rows that were found, user by user; -1 counts as none."""
    hits = [len(set(f[f >= 0]) & set(w[w >= 0])) for f, w in zip(found, wanted, strict=True)]
    return sum(hits) / max(1, int((np.asarray(wanted) >= 0).sum()))
