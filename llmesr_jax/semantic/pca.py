"""Start of the collaborative item table: principal components of the LLM embeddings."""

from __future__ import annotations

import numpy as np
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

_NOISE = 0x9CA  # keeps the noise columns' stream apart from the other uses of one seed


def pca_start(item_llm_VxF: np.ndarray, width: int, seed: int) -> np.ndarray:
    """Centred, not whitened principal components, strongest first (LLM-ESR, section 3.2).

    V centred points span at most V - 1 directions. Where `width` asks for more columns than there are
    components, the rest is normal noise at the spread of the weakest component: those dimensions start alive
    (a zero column would get no gradient through a product of two zeros) and do not drown the real ones.

    Args:
      item_llm_VxF: LLM embedding of each item, finite.
      width: columns of the result.
      seed: of the noise and, on large inputs, of the randomised solver.

    Returns:
      (V, width) float32. A component's sign is such that its largest loading is positive.
    """
    num_items, llm_width = item_llm_VxF.shape
    kept = min(width, llm_width, max(num_items - 1, 1))
    # Text embeddings share a large mean; taken out in float64, it cannot cancel digits in the covariance.
    centred_VxF = item_llm_VxF.astype(np.float32) - item_llm_VxF.mean(axis=0, dtype=np.float64).astype(np.float32)
    # One thread: the sums do not depend on the number of cores. Of equal items, the shares of no variance are not used.
    with threadpool_limits(1), np.errstate(invalid="ignore"):
        start_VxK = PCA(kept, random_state=seed).fit_transform(centred_VxF).astype(np.float32)
    if kept == width:
        return start_VxK
    rng = np.random.default_rng([seed, _NOISE])
    noise = rng.normal(scale=start_VxK[:, -1].std(), size=(num_items, width - kept))
    return np.concatenate([start_VxK, noise.astype(np.float32)], axis=1)
