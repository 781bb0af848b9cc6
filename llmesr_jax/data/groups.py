"""Which users and items are head or tail, and the groups metrics are reported for; from training counts only."""

from __future__ import annotations

from typing import Literal

import numpy as np

from llmesr_jax.data.corpus import Corpus

_USER_LENGTH = {"1-4": (1, 4), "5-9": (5, 9), "10-14": (10, 14), "15-19": (15, 19), "20+": (20, None)}
# The bounds of LLM-ESR and then those of FAERec. 0 is shown alone too, as such items were never trained on, and so is
# FAERec's first group without them.
_ITEM_POPULARITY = {
    "0": (0, 0),
    "1-4": (1, 4),
    "0-9": (0, 9),
    "10-29": (10, 29),
    "30-59": (30, 59),
    "60-99": (60, 99),
    "100+": (100, None),
    "0-4": (0, 4),
    "5-9": (5, 9),
    "10-19": (10, 19),
    "20-49": (20, 49),
    "50+": (50, None),
}


def head_items(corpus: Corpus) -> np.ndarray:
    """bool (V,): the first floor(0.2 V) items by training count, descending, then by id."""
    return _head(corpus.item_counts_V)


def head_users(corpus: Corpus) -> np.ndarray:
    """bool (U,): the first floor(0.2 U) users by training length, descending, then by id."""
    return _head(corpus.train_lengths_U)


def popularity(corpus: Corpus) -> np.ndarray:
    """int32 (V,): training interactions of each item; 1, not 0, for one without any, as in FAERec's release."""
    return np.maximum(corpus.item_counts_V, 1).astype(np.int32)


def members(corpus: Corpus, split: Literal["valid", "test"]) -> dict[str, np.ndarray | dict[str, np.ndarray]]:
    """Who belongs to which group, among the E targets of the split, in their order.

    Item groups go by the target, user groups by the user; both by training counts.

    Returns:
      bool (E,) masks: `overall`, `tail_item`, `head_item`, `tail_user`, `head_user`, and, each a dict of masks by
      label in the order to report, `user_length` and `item_popularity`.
    """
    users_E, rows_E = corpus.targets[split].rows_E, corpus.target_items(split) - 1
    head_item_E, head_user_E = head_items(corpus)[rows_E], head_users(corpus)[users_E]
    return {
        "overall": np.ones(len(users_E), bool),
        "tail_item": ~head_item_E,
        "head_item": head_item_E,
        "tail_user": ~head_user_E,
        "head_user": head_user_E,
        "user_length": _buckets(corpus.train_lengths_U[users_E], _USER_LENGTH),
        "item_popularity": _buckets(corpus.item_counts_V[rows_E], _ITEM_POPULARITY),
    }


def _head(counts: np.ndarray) -> np.ndarray:
    head = np.zeros(len(counts), bool)
    head[np.argsort(-counts, kind="stable")[: len(counts) // 5]] = True
    return head


def _buckets(counts: np.ndarray, bounds: dict[str, tuple[int, int | None]]) -> dict[str, np.ndarray]:
    return {
        label: (counts >= low) & (counts <= (np.inf if high is None else high)) for label, (low, high) in bounds.items()
    }
