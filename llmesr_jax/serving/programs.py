"""The functions of a served model on arrays, and the encoding of histories in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

BATCHES = (1, 4, 16, 64, 256)  # numbers of histories that are encoded at a time; a batch is filled up to the next one


class Programs(NamedTuple):
    """The functions of a trained model, compiled here or loaded from a bundle.

    Attributes:
      encode: {length: (views (W, V + 2, D), ids (B, length) int32, lengths (B,) int32) -> user vectors (B, E)}. Ids are
        oldest first, from column 0 on. `views` are the *view rows*: each item's vector in each of W views, as the
        encoder reads it; row 0 is padding, the last row the mask token.
      parts: views (W, n, D) -> (P, n, E): the parts of the vectors of n items, which add up to the item vectors.
      names: of the P parts; the first W are those of the views (`view_names`).
      semantic: embeddings (n, F) -> (n, D), the rows of the view "semantic"; None if there is no such view.
      longest: maximum number of items of a history that an encoder reads; older ones are cut off.
    """

    encode: dict[int, Callable[[Any, np.ndarray, np.ndarray], Any]]
    parts: Callable[[Any], Any]
    names: tuple[str, ...]
    semantic: Callable[[np.ndarray], Any] | None
    longest: int

    def users(self, views: Any, histories: Sequence[np.ndarray], most: int = BATCHES[-1]) -> np.ndarray:
        """float32 (n, E): the vectors of users with these histories of item ids, oldest first, none of them empty.

        Args:
          views: (W, V + 2, D), on the device.
          histories: int32 arrays.
          most: how many are encoded at a time, one of `BATCHES`.
        """
        lengths_n = np.array([min(len(ids), self.longest) for ids in histories], np.int32)
        of_length_n = np.searchsorted(sorted(self.encode), lengths_n)
        found: np.ndarray | None = None
        for place, length in enumerate(sorted(self.encode)):
            chosen = np.flatnonzero(of_length_n == place)
            for start in range(0, len(chosen), most):
                batch = chosen[start : start + most]
                size = next(size for size in BATCHES if size >= len(batch))
                ids_BxL, lengths_B = np.zeros((size, length), np.int32), np.ones(size, np.int32)
                for row, history in enumerate(batch):
                    newest = histories[history][-self.longest :]
                    ids_BxL[row, : len(newest)], lengths_B[row] = newest, len(newest)
                vectors = np.asarray(self.encode[length](views, ids_BxL, lengths_B))[: len(batch)]
                found = np.empty((len(histories), vectors.shape[1]), np.float32) if found is None else found
                found[batch] = vectors
        return np.zeros((0, 0), np.float32) if found is None else found


def view_names(parts: Sequence[str], views: int) -> tuple[str, ...]:
    """The names of so many views, which are the first parts; none if one view has several parts (AlphaFuse)."""
    return tuple(parts[:views]) if views > 1 or len(parts) == 1 else ()


def lengths_up_to(longest: int, shortest: int = 16) -> tuple[int, ...]:
    """The static lengths at which histories are encoded: 16, 50, 150, ... and the longest."""
    found, length = [], shortest
    while length < longest:
        found.append(length)
        length = 50 if length == shortest else 3 * length
    return (*found, longest)
