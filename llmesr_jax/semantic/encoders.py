"""Embeddings made here, without a network or a model: TF-IDF of the texts, or noise as a control."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from llmesr_jax.data.corpus import Corpus
from llmesr_jax.errors import InputError

_COMMON = 0.5  # a word in more than this share of the items (such as the prompt's own) tells nothing


def tfidf(texts_V: Sequence[str], corpus: Corpus, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Latent semantic analysis of the item texts, and the users in the same space.

    An item is its TF-IDF vector at length 1, projected to the leading singular directions of all items. A user
    is the sum of the TF-IDF vectors of the training items, brought to length 1, under the same projection: what
    the same words would give as one text.

    Args:
      texts_V: one text per item, row 0 = id 1.
      corpus: whose training interactions make the users.
      width: F; less where the items or their words are fewer.
      seed: of the randomised decomposition.

    Returns:
      (V, F) and (U, F) float32; a text without known words is a row of zeros.

    Raises:
      InputError: the texts do not tell the items apart.
    """
    vectorizer = TfidfVectorizer(max_df=_COMMON, dtype=np.float32)
    try:
        items_VxW = vectorizer.fit_transform(texts_V)
    except ValueError as error:  # scikit-learn: empty vocabulary, or nothing left of it
        raise _too_few_words(len(texts_V)) from error
    width = min(width, items_VxW.shape[1] - 1, len(texts_V) - 1)
    if width < 1:
        raise _too_few_words(len(texts_V))
    users_UxW = normalize(training_counts(corpus) @ items_VxW)
    with threadpool_limits(1):  # so that the sums, and with them a run's numbers, do not depend on the number of cores
        svd = TruncatedSVD(width, random_state=seed).fit(items_VxW)
        return svd.transform(items_VxW).astype(np.float32), svd.transform(users_UxW).astype(np.float32)


def random(rows: int, width: int, seed: list[int]) -> np.ndarray:
    """(rows, width) float32 noise, rows of length about 1: embeddings that say nothing."""
    return np.random.default_rng(seed).standard_normal((rows, width), np.float32) / np.float32(width**0.5)


def mean_of_items(item_llm_VxF: np.ndarray, corpus: Corpus) -> np.ndarray:
    """(U, F) float32: mean over a user's training items of their embeddings at length 1."""
    counts_UxV = normalize(training_counts(corpus), norm="l1")
    return (counts_UxV @ normalize(item_llm_VxF)).astype(np.float32)


def training_counts(corpus: Corpus) -> scipy.sparse.csr_array:
    """(U, V) float32, sparse: how often each item stands in the training part of each user's sequence."""
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


def _too_few_words(num_items: int) -> InputError:
    return InputError(
        f"items.jsonl: the texts of its {num_items} items hold no two words that tell items apart; "
        "give items titles and attributes, or put item_emb.npy and user_emb.npy beside it"
    )
