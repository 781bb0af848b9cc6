"""NDCG with one relevant item, the target: 1 / log2(place + 1) if its place is among the first K, else 0."""

from __future__ import annotations

import numpy as np

from llmesr_jax.ranking.metrics import CUTOFFS, prefix_sums

FROM = "ranks"
NAMES = tuple(f"N@{k}" for k in CUTOFFS)


def values(higher: np.ndarray, tied: np.ndarray) -> dict[str, np.ndarray]:
    """With h = higher and t = tied: N@K = 1 / (t + 1) * sum over r = h .. min(h + t, K - 1) of 1 / log2(r + 2)."""
    orders = tied + 1
    end = higher + orders  # one past the worst rank
    places = np.arange(min(end.max(initial=0), max(CUTOFFS)), dtype=np.float64)
    discounts = prefix_sums(1 / np.log2(places + 2))
    return {f"N@{k}": (discounts[np.minimum(end, k)] - discounts[np.minimum(higher, k)]) / orders for k in CUTOFFS}
