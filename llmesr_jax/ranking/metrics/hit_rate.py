"""Hit rate: the share of users whose target is among the first K."""

from __future__ import annotations

import numpy as np

from llmesr_jax.ranking.metrics import CUTOFFS

FROM = "ranks"
NAMES = tuple(f"H@{k}" for k in CUTOFFS)


def values(higher: np.ndarray, tied: np.ndarray) -> dict[str, np.ndarray]:
    """With h = higher and t = tied: H@K = min(1, max(0, K - h) / (t + 1)), the mean over all orders of ties."""
    return {f"H@{k}": np.clip((k - higher) / (tied + 1), 0.0, 1.0) for k in CUTOFFS}
