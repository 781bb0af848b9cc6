"""Replacements for embeddings of texts: the mean of a user's items, and noise as a control."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from llmesr_jax.core.streams import stream
from llmesr_jax.data.corpus import Corpus

if TYPE_CHECKING:
    import scipy.sparse


def random(rows: int, width: int, seed: int, kind: str) -> np.ndarray:
    """float32 (rows, width) noise, rows of length about 1: embeddings without information, of "items" or "users"."""
    return stream(f"random {kind}", seed).standard_normal((rows, width), np.float32) / np.float32(width**0.5)


def mean_of_items(item_llm_VxF: np.ndarray, corpus: Corpus) -> np.ndarray:
    """float32 (U, F): the mean over a user's training items of their embeddings, each scaled to length 1 before."""
    # Imported here: scikit-learn is slow to import, and existing embeddings do not need it.
    from sklearn.preprocessing import normalize

    counts_UxV = normalize(training_counts(corpus), norm="l1")
    return (counts_UxV @ normalize(np.asarray(item_llm_VxF, np.float32))).astype(np.float32)


def training_counts(corpus: Corpus) -> scipy.sparse.csr_array:
    """float32 (U, V), sparse: how often each item occurs in the training part of each user's sequence."""
    import scipy.sparse  # imported here: it is slow, and --help of a command does not need it

    sequence_lengths_U = np.diff(corpus.offsets)
    position_n = np.arange(len(corpus.items)) - np.repeat(corpus.offsets[:-1], sequence_lengths_U)
    in_training_n = position_n < np.repeat(corpus.train_lengths_U, sequence_lengths_U)
    column_n = corpus.items[in_training_n] - 1
    row_ends_U = np.concatenate([[0], np.cumsum(corpus.train_lengths_U)])
    counts_UxV = scipy.sparse.csr_array(
        (np.ones(len(column_n), np.float32), column_n, row_ends_U), shape=(corpus.num_users, corpus.num_items)
    )
    counts_UxV.sum_duplicates()
    return counts_UxV
