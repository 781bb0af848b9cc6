"""Mean reciprocal rank: 1 for the first place, 1/2 for the second, 1/3 for the third."""

from __future__ import annotations

import numpy as np

from llmesr_jax.ranking.metrics import prefix_sums

FROM = "ranks"
NAMES = ("MRR",)


def values(higher: np.ndarray, tied: np.ndarray) -> dict[str, np.ndarray]:
    """With h = higher and t = tied: MRR = 1 / (t + 1) * sum over r = h .. h + t of 1 / (r + 1)."""
    orders = tied + 1
    end = higher + orders  # one past the worst rank
    reciprocals = prefix_sums(1 / (np.arange(end.max(initial=0), dtype=np.float64) + 1))
    return {"MRR": (reciprocals[end] - reciprocals[higher]) / orders}
