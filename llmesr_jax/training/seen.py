"""The items that users have seen, as gaps, from which unseen items are drawn exactly (`interactions.unseen`)."""

from __future__ import annotations

import numpy as np

from llmesr_jax.data.corpus import Corpus


def ranges(start_m: np.ndarray, length_m: np.ndarray) -> np.ndarray:
    """int64 (sum of lengths,): start, start + 1, ..., start + length - 1 of each range, one range after the other."""
    ends = np.cumsum(length_m)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(start_m - (ends - length_m), length_m)


def gaps(corpus: Corpus, users_m: np.ndarray, avoid: str) -> tuple[np.ndarray, np.ndarray]:
    """For each seen item of some users, the number of unseen items with a lower id.

    Args:
      corpus: the interactions.
      users_m: int (m,) rows of users.
      avoid: `data.avoid`: items count as seen in the "training" part, or in the whole "history".

    Returns:
      int32: for each user in turn, s_k - 1 - k of the sorted distinct seen items s_0 < s_1 < ...; and int64 (m,), how
      many items that is for each user.
    """
    length_m = (corpus.lengths_U if avoid == "history" else corpus.train_lengths_U)[users_m]
    items = corpus.items[ranges(corpus.offsets[users_m], length_m)].astype(np.int64)
    number = np.repeat(np.arange(len(users_m)), length_m)
    seen = np.unique(number * (corpus.num_items + 1) + items)
    seen_number, seen_item = np.divmod(seen, corpus.num_items + 1)
    count_m = np.bincount(seen_number, minlength=len(users_m))
    start_m = np.cumsum(count_m) - count_m
    return (seen_item - 1 - (np.arange(len(seen)) - start_m[seen_number])).astype(np.int32), count_m


def all_gaps(corpus: Corpus, avoid: str) -> tuple[np.ndarray, np.ndarray]:
    """`gaps` of all users, computed in blocks of users."""
    found = [gaps(corpus, np.arange(users.start, users.stop), avoid) for users in corpus.user_blocks()]
    return tuple(np.concatenate(parts) for parts in zip(*found))
