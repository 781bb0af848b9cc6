"""The items that a target is ranked against under the protocol `sampled`."""

from __future__ import annotations

from typing import Literal

import numpy as np

from llmesr_jax.data.corpus import Corpus
from llmesr_jax.ranking.engine import prefix_sets

SAMPLED = 100  # candidates beside the target


def _distinct_draws(rng: np.random.Generator, pool_U: np.ndarray, count: int) -> np.ndarray:
    """int (U, count): for each row a uniform subset of `count` of the numbers 0 .. pool - 1 (Floyd's algorithm).

    A pool with fewer numbers is taken whole, followed by -1.
    """
    draws_CxU = np.empty((count, len(pool_U)), np.int64)
    large_U = np.maximum(pool_U, count)
    for i in range(count):
        last_U = large_U - count + i
        draw_U = rng.integers(0, last_U + 1)
        draws_CxU[i] = np.where((draws_CxU[:i] == draw_U).any(axis=0), last_U, draw_U)
    order_C = np.arange(count)
    small_UxC = np.where(order_C < pool_U[:, None], order_C, -1)
    return np.where(pool_U[:, None] <= count, small_UxC, draws_CxU.T)


def sample_candidates(
    corpus: Corpus, split: Literal["valid", "test"], seed: int, count: int = SAMPLED, rows_E: np.ndarray | None = None
) -> np.ndarray:
    """int32 (E, count) item ids: for each target, distinct items drawn uniformly outside the user's whole history.

    If fewer than `count` items are outside it, all of them are taken, followed by 0. The same arguments give the same
    candidates.

    Args:
      corpus: the interactions.
      split: of the targets.
      seed: of the draws.
      count: candidates of each target.
      rows_E: int rows of users, one for each target; None: those of all targets of the split.
    """
    rows_E = corpus.targets[split].rows_E if rows_E is None else rows_E
    seen = prefix_sets(corpus, rows_E, corpus.lengths_U[rows_E])
    rng = np.random.default_rng([seed, ("valid", "test").index(split)])
    draws_ExC = _distinct_draws(rng, corpus.num_items - seen.sizes_U, count)

    # A draw r is the r-th unseen item. The k-th seen item s_k (ids from 1, r and k from 0) has s_k - 1 - k unseen ones
    # before it, so r is pushed up by one for each k with s_k - 1 - k <= r. These numbers are searched in one sorted
    # list over all users, in which each user has a range of its own.
    user_P = np.repeat(np.arange(len(rows_E)), seen.sizes_U)
    unseen_before_P = seen.items_P - 1 - (np.arange(len(user_P)) - seen.offsets[user_P])
    stretch = corpus.num_items + 1
    sought_ExC = np.arange(len(rows_E))[:, None] * stretch + draws_ExC
    pushes_ExC = np.searchsorted(user_P * stretch + unseen_before_P, sought_ExC, side="right") - seen.offsets[:-1, None]
    return np.where(draws_ExC >= 0, draws_ExC + 1 + pushes_ExC, 0).astype(np.int32)
