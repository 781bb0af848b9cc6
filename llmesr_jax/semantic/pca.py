"""Initial values of the collaborative item table: principal components of the LLM embeddings."""

from __future__ import annotations

import numpy as np

_NOISE = 0x9CA  # separates the random numbers of the noise from the other uses of the seed
_LARGE = 2**28  # numbers (1 GiB of float32) from which the embeddings are read block by block, never whole
_BLOCK = 4096  # rows of a block


def pca_start(item_llm_VxF: np.ndarray, width: int, seed: int) -> np.ndarray:
    """Centred, not whitened principal components, strongest first (LLM-ESR, section 3.2).

    V centred points span at most V - 1 directions. If `width` is larger than the number of components, the other
    columns are normal noise with the standard deviation of the weakest component: columns of zeros would get no
    gradient, as the gradient of a product of two zeros is zero, and stronger noise would hide the components.

    Args:
      item_llm_VxF: float embedding of each item, finite; may be memory-mapped.
      width: columns of the result.
      seed: of the noise and, on large inputs, of scikit-learn's randomised solver.

    Returns:
      (V, width) float32. A component's sign is such that its largest loading is positive.
    """
    # Imported here: scikit-learn is slow to import, and a cached table does not need it.
    from sklearn.decomposition import PCA
    from threadpoolctl import threadpool_limits

    num_items, llm_width = item_llm_VxF.shape
    kept = min(width, llm_width, max(num_items - 1, 1))
    if item_llm_VxF.size >= _LARGE:
        return _filled_up(_in_blocks(item_llm_VxF, kept), width, seed)
    item_llm_VxF = np.asarray(item_llm_VxF, np.float32)
    # Text embeddings share a large mean; taken out in float64, it cannot cancel digits in the covariance.
    centred_VxF = item_llm_VxF - item_llm_VxF.mean(axis=0, dtype=np.float64).astype(np.float32)
    # One thread, so that sums do not depend on the number of cores. If all items are equal, scikit-learn divides zero
    # by zero for shares of variance, which are not used.
    with threadpool_limits(1), np.errstate(invalid="ignore"):
        start_VxK = PCA(kept, random_state=seed).fit_transform(centred_VxF).astype(np.float32)
    return _filled_up(start_VxK, width, seed)


def _filled_up(start_VxK: np.ndarray, width: int, seed: int) -> np.ndarray:
    """(V, width): the components, then columns of noise."""
    num_items, kept = start_VxK.shape
    if kept == width:
        return start_VxK
    rng = np.random.default_rng([seed, _NOISE])
    noise = rng.normal(scale=start_VxK[:, -1].std(), size=(num_items, width - kept))
    return np.concatenate([start_VxK, noise.astype(np.float32)], axis=1)


def _in_blocks(item_llm_VxF: np.ndarray, kept: int) -> np.ndarray:
    """(V, kept): the same components as eigenvectors of the covariance, which is summed up over blocks of rows."""
    num_items, llm_width = item_llm_VxF.shape
    starts = range(0, num_items, _BLOCK)
    block = lambda start: np.asarray(item_llm_VxF[start : start + _BLOCK], np.float32)  # noqa: E731
    mean_F = sum(block(start).sum(axis=0, dtype=np.float64) for start in starts) / num_items
    mean_F = mean_F.astype(np.float32)
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        covariance_FxF = np.zeros((llm_width, llm_width))
        for start in starts:
            centred_BxF = block(start) - mean_F[None]
            covariance_FxF += centred_BxF.T @ centred_BxF
        directions_FxK = np.linalg.eigh(covariance_FxF)[1][:, ::-1][:, :kept]
        largest_K = np.abs(directions_FxK).argmax(axis=0)
        directions_FxK = directions_FxK * np.sign(directions_FxK[largest_K, np.arange(kept)])[None]
        directions_FxK = directions_FxK.astype(np.float32)
        start_VxK = np.empty((num_items, kept), np.float32)
        for start in starts:
            start_VxK[start : start + _BLOCK] = (block(start) - mean_F[None]) @ directions_FxK
    return start_VxK
