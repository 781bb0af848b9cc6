"""Approximate nearest vectors, for more vectors than can all be compared with each query.

faiss and usearch each build a graph of the vectors (HNSW, Malkov and Yashunin, arXiv 1603.09320), in which a search
finds those with the highest inner product. Both packages are optional: `pip install 'llmesr-jax[faiss]'` or
`[usearch]`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from llmesr_jax.core.errors import InputError

KINDS = ("exact", "faiss", "usearch")
_NEIGHBOURS = 32  # of a vector in the graph
_EFFORT = 128  # nodes that a search keeps


def build(kind: str, vectors_NxE: np.ndarray) -> Callable[[np.ndarray, int], np.ndarray]:
    """Builds an index.

    Args:
      kind: "faiss" or "usearch".
      vectors_NxE: floats; they are indexed as float32.

    Returns:
      A function of float32 queries (B, E) and a count: int64 (B, count), rows of the vectors it found, highest inner
      product first; -1 where it found fewer.

    Raises:
      InputError: the kind is not known, or its package is not installed.
    """
    if kind not in KINDS[1:]:
        raise InputError(f"index={kind!r}: is not known; expected one of: {', '.join(KINDS)}")
    vectors_NxE = np.ascontiguousarray(vectors_NxE, np.float32)
    try:
        return {"faiss": _faiss, "usearch": _usearch}[kind](vectors_NxE)
    except ImportError as error:
        raise InputError(f"index={kind}: needs the package {kind}; run pip install 'llmesr-jax[{kind}]'") from error


def _faiss(vectors_NxE: np.ndarray) -> Callable[[np.ndarray, int], np.ndarray]:
    import faiss

    graph = faiss.IndexHNSWFlat(vectors_NxE.shape[1], _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    graph.add(vectors_NxE)

    def find(queries_BxE: np.ndarray, count: int) -> np.ndarray:
        graph.hnsw.efSearch = max(_EFFORT, 2 * count)
        return graph.search(queries_BxE, count)[1]

    return find


def _usearch(vectors_NxE: np.ndarray) -> Callable[[np.ndarray, int], np.ndarray]:
    from usearch.index import Index

    graph = Index(ndim=vectors_NxE.shape[1], metric="ip", dtype="f32", connectivity=_NEIGHBOURS)
    graph.add(np.arange(len(vectors_NxE)), vectors_NxE)

    def find(queries_BxE: np.ndarray, count: int) -> np.ndarray:
        graph.expansion_search = max(_EFFORT, 2 * count)
        found = graph.search(queries_BxE, count)
        keys = np.asarray(found.keys).reshape(len(queries_BxE), -1).astype(np.int64)
        counts = np.asarray(getattr(found, "counts", [keys.shape[1]])).reshape(-1, 1)
        return np.where(np.arange(keys.shape[1]) < counts, keys, -1)

    return find


def recall(found: Any, wanted: Any) -> float:
    """The share of the wanted rows that were found.

    Args:
      found, wanted: int (B, K) rows for each of B queries, -1 for none; the widths K may differ.
    """
    hits = [len(set(f[f >= 0]) & set(w[w >= 0])) for f, w in zip(found, wanted, strict=True)]
    return sum(hits) / max(1, int((np.asarray(wanted) >= 0).sum()))
