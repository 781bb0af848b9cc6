"""Where each item occurs in the training sequences, for methods that read an item's contexts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from llmesr_jax.data.corpus import Corpus


class Occurrences(NamedTuple):
    """All n occurrences of items in the training parts, sorted by item and then by place in the corpus.

    Attributes:
      place_n: int32 index into `Corpus.items`.
      first_n, end_n: int32, where the training part of the occurrence's user begins in `Corpus.items`, and one past its
        end.
      start_V, count_V: int32 (V + 2,), each item's first index in `place_n`, and the number of its occurrences, by item
        id; padding (0) and mask token (V + 1) have none.
    """

    place_n: np.ndarray
    first_n: np.ndarray
    end_n: np.ndarray
    start_V: np.ndarray
    count_V: np.ndarray


def occurrences(corpus: Corpus) -> Occurrences:
    """Finds all occurrences. An item that a training sequence contains twice has two occurrences there."""
    first_U = corpus.offsets[:-1]
    user_n = np.repeat(np.arange(corpus.num_users), corpus.lengths_U)
    end_n = (first_U + corpus.train_lengths_U)[user_n]
    trains_n = np.flatnonzero(np.arange(len(corpus.items)) < end_n)
    place_n = trains_n[np.argsort(corpus.items[trains_n], kind="stable")]
    count_V = np.bincount(corpus.items[place_n], minlength=corpus.num_items + 2)
    found = (place_n, first_U[user_n[place_n]], end_n[place_n], np.cumsum(count_V) - count_V, count_V)
    return Occurrences(*(part.astype(np.int32) for part in found))
