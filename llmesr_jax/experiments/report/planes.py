"""Maps of vectors to the plane by t-SNE, computed once for each set of vectors."""

from __future__ import annotations

import hashlib

import numpy as np
from sklearn.manifold import TSNE

from llmesr_jax.experiments.report.compare import SEED


class Planes:
    """Computes t-SNE's maps and caches them, because several figures show the same vectors."""

    def __init__(self) -> None:
        self._made: dict[str, np.ndarray] = {}

    def of(self, vectors_nxE: np.ndarray) -> np.ndarray:
        """float (n, 2), n >= 4: from -1 to 1, centred, rounded to 3 digits; the same vectors give the same map."""
        digest = hashlib.sha256(np.ascontiguousarray(vectors_nxE).tobytes()).hexdigest()
        if digest not in self._made:
            perplexity = min(30.0, (len(vectors_nxE) - 1) / 3)
            tsne = TSNE(init="pca", perplexity=perplexity, random_state=SEED % 2**32, n_jobs=1)
            plane = tsne.fit_transform(vectors_nxE.astype(np.float64))
            plane -= plane.mean(axis=0)
            self._made[digest] = np.round(plane / (np.abs(plane).max() or 1.0), 3)
        return self._made[digest]
