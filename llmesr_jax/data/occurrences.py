"""Where each item occurs in the training sequences, for methods that read an item's contexts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from llmesr_jax.data.corpus import Corpus


class Occurrences(NamedTuple):
    """Every occurrence of every item in the training parts, by item and within an item in the corpus's order.

    Attributes:
      place_n: int32, index into `Corpus.items`.
      first_n, end_n: int32, of the user's training part: its first index, and one past its last.
      start_V, count_V: int32 (V + 2,), where an item's places are in `place_n`; none for padding and mask token.
    """

    place_n: np.ndarray
    first_n: np.ndarray
    end_n: np.ndarray
    start_V: np.ndarray
    count_V: np.ndarray


def occurrences(corpus: Corpus) -> Occurrences:
    """Finds all occurrences. An item that a training sequence holds twice has two places there."""
    first_U = corpus.offsets[:-1]
    user_n = np.repeat(np.arange(corpus.num_users), corpus.lengths_U)
    end_n = (first_U + corpus.train_lengths_U)[user_n]
    trains_n = np.flatnonzero(np.arange(len(corpus.items)) < end_n)
    place_n = trains_n[np.argsort(corpus.items[trains_n], kind="stable")]
    count_V = np.bincount(corpus.items[place_n], minlength=corpus.num_items + 2)
    found = (place_n, first_U[user_n[place_n]], end_n[place_n], np.cumsum(count_V) - count_V, count_V)
    return Occurrences(*(part.astype(np.int32) for part in found))
