"""TF-IDF of the item texts and its leading directions (latent semantic analysis): no network, no model, no key."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
from absl import logging

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.knobs import knob
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.semantic.stand_ins import training_counts

TAKES = "corpus"
UNKNOWN_WORDS = True  # a text without any word that counts (too common, or a single letter) gets a row of zeros

_COMMON = 0.5  # a word in more than this share of the items, such as those of the prompt, distinguishes nothing
_BLOCK = 4096  # users at once: the words of all users would take many times the memory of the items' words


@dataclasses.dataclass(frozen=True)
class Config:
    width: int = knob(128, "width F of TF-IDF embeddings (less if there are fewer items or words)", least=1)
    seed: int = knob(42, "seed of TF-IDF's randomised decomposition", least=0)


def identity(config: Config) -> dict[str, int]:
    """Width and seed."""
    return dataclasses.asdict(config)


def embed(corpus: Corpus, texts_V: Iterable[str], config: Config) -> tuple[np.ndarray, np.ndarray]:
    """See `latent`."""
    return latent(texts_V, corpus, config.width, config.seed)


def latent(texts_V: Iterable[str], corpus: Corpus, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Latent semantic analysis of the item texts (Deerwester et al., 1990), with the users in the same space.

    An item is its TF-IDF vector, scaled to length 1, projected to the leading singular directions of all items. A user
    is the sum of these TF-IDF vectors over the training items, scaled to length 1, in the same projection.

    Memory: the items' words (12 bytes for each different one of each item) and a few arrays of the result's size.

    Args:
      texts_V: one text per item, row 0 = id 1; read once, one by one.
      corpus: whose training interactions make the users.
      width: F; less if there are fewer items or words.
      seed: of the randomised decomposition.

    Returns:
      (V, F) and (U, F) float32; a text without known words is a row of zeros.

    Raises:
      InputError: the texts do not distinguish the items.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize
    from threadpoolctl import threadpool_limits

    vectorizer = TfidfVectorizer(max_df=_COMMON, dtype=np.float32)
    has_text: list[bool] = []
    try:
        items_VxW = vectorizer.fit_transform(has_text.append(bool(text)) or text for text in texts_V)
    except InputError:  # raised while the texts were read
        raise
    except ValueError as error:  # scikit-learn: empty vocabulary, or nothing left of it
        raise _too_few_words(corpus.num_items) from error
    width = min(width, items_VxW.shape[1] - 1, items_VxW.shape[0] - 1)
    if width < 1:
        raise _too_few_words(corpus.num_items)
    if unknown := int((np.array(has_text) & (np.diff(items_VxW.indptr) == 0)).sum()):
        logging.warning(
            "%d items have a text without a word that distinguishes items; their vectors are zeros", unknown
        )
    del vectorizer  # frees the dictionary of all words
    counts_UxV = training_counts(corpus)
    with threadpool_limits(1):  # the sums, and so a run's numbers, must not depend on the number of cores
        svd = TruncatedSVD(width, random_state=seed).fit(items_VxW)
        users_UxF = np.empty((corpus.num_users, width), np.float32)
        for start in range(0, corpus.num_users, _BLOCK):
            words_BxW = normalize(counts_UxV[start : start + _BLOCK] @ items_VxW)
            users_UxF[start : start + _BLOCK] = svd.transform(words_BxW)
        return svd.transform(items_VxW).astype(np.float32, copy=False), users_UxF


def _too_few_words(num_items: int) -> InputError:
    return InputError(
        f"items.jsonl: the texts of its {num_items} items have fewer than two words that distinguish items; "
        "add titles and attributes to the items, or put item_emb.npy and user_emb.npy beside it"
    )
