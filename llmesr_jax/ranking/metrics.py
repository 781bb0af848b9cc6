"""Ranking metrics from ranks, with ties shared out evenly, and their means over groups of users.

A rank is two counts over the target's competitors: `higher` scored above it and `tied` scored the same. Each
metric is its mean over all orders of the tied candidates, that is over ranks r = higher .. higher + tied (from 0):
a model that scores all items alike gets exactly what chance gets.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

PROTOCOLS = ("full", "sampled")  # what the target is ranked among
CUTOFFS = (5, 10, 20)
METRICS = (*(f"H@{k}" for k in CUTOFFS), *(f"N@{k}" for k in CUTOFFS), "MRR")


def _prefix_sums(terms: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(terms)])


def from_ranks(higher: np.ndarray, tied: np.ndarray) -> dict[str, np.ndarray]:
    """Expected metrics of each user under a random order of the tied candidates.

    With h = higher and t = tied:
      H@K = min(1, max(0, K - h) / (t + 1))
      N@K = 1 / (t + 1) * sum over r = h .. min(h + t, K - 1) of 1 / log2(r + 2)
      MRR = 1 / (t + 1) * sum over r = h .. h + t of 1 / (r + 1)

    Args:
      higher: int (n,), candidates scored above the target.
      tied: int (n,), other candidates scored the same as the target.

    Returns:
      {metric: float64 (n,)} for every name in `METRICS`.
    """
    first = np.asarray(higher, np.int64)
    orders = np.asarray(tied, np.int64) + 1
    end = first + orders  # one past the worst rank
    places = np.arange(end.max(initial=0), dtype=np.float64)
    discounts = _prefix_sums(1 / np.log2(places[: max(CUTOFFS)] + 2))
    reciprocals = _prefix_sums(1 / (places + 1))

    hits = {f"H@{k}": np.clip((k - first) / orders, 0.0, 1.0) for k in CUTOFFS}
    gains = {f"N@{k}": (discounts[np.minimum(end, k)] - discounts[np.minimum(first, k)]) / orders for k in CUTOFFS}
    return {**hits, **gains, "MRR": (reciprocals[end] - reciprocals[first]) / orders}


def summarise(per_user: Mapping[str, np.ndarray], members: Mapping) -> dict:
    """Means of the metrics over each group of users.

    Args:
      per_user: {metric: float (n,)}.
      members: {group: bool (n,)}, or nested dicts of such.

    Returns:
      The nesting of `members`, with `{"count": users in the group, metric: mean, ...}` in place of each mask; the
      mean over an empty group is None.
    """
    values_MxN = np.stack(list(per_user.values()))

    def group_mean(mask: np.ndarray) -> dict:
        count = int(np.count_nonzero(mask))
        means = values_MxN[:, mask].mean(axis=1).tolist() if count else [None] * len(per_user)
        return {"count": count, **dict(zip(per_user, means))}

    def walk(node):
        return {name: walk(child) for name, child in node.items()} if isinstance(node, Mapping) else group_mean(node)

    return walk(members)
