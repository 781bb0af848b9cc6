"""Approximate similar users by a graph, for so many users that comparing each with every other takes too long."""

from __future__ import annotations

import numpy as np
from tqdm import tqdm

from llmesr_jax.core import graphs
from llmesr_jax.semantic.similar_users import embedded, unit

_ROWS = 4096  # users looked up together
_SAMPLE = 256  # users by whom the graph is compared with exact search
_BLOCK_BYTES = 128 * 2**20  # memory of the similarities of some users to all


def similar_users(
    user_llm_UxF: np.ndarray, k: int, kind: str, among_U: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """As `similar_users.similar_users`, but by a graph.

    A graph depends on the number of threads and the order in which they add users, so its results vary slightly. For a
    user for whom it finds fewer than k others, all are compared.

    Args:
      user_llm_UxF: float user embeddings, finite.
      k: neighbours of each user, at most as many as there are others.
      kind: "faiss" or "usearch".
      among_U: bool, users that may be neighbours, at least k + 1; None: all users.

    Returns:
      int32 (U, k) rows of users, nearest first, all -1 for a user whose vector is zero; and the recall: the share of
      the exact neighbours of a sample of users that the graph found.
    Raises:
      InputError: the package of that kind is not installed.
    """
    embedded_U, unit_UxF = embedded(user_llm_UxF), unit(user_llm_UxF)
    rows_C = np.flatnonzero(embedded_U if among_U is None else embedded_U & among_U)
    find = graphs.build(kind, unit_UxF[rows_C])
    similar_UxK = np.full((len(unit_UxF), k), -1, np.int32)
    wanted = np.flatnonzero(embedded_U)
    for start in tqdm(range(0, len(wanted), _ROWS), "similar users", unit="block", disable=None):
        users_B = wanted[start : start + _ROWS]
        found_BxN = find(unit_UxF[users_B], min(k + 1, len(rows_C)))
        found_BxN = np.where(found_BxN >= 0, rows_C[np.maximum(found_BxN, 0)], -1)
        similar_UxK[users_B] = _without_oneself(found_BxN, users_B, k)
    few = wanted[(similar_UxK[wanted] < 0).any(axis=1)]
    similar_UxK[few] = _exact(unit_UxF, rows_C, few, k)
    sample = np.random.default_rng(0).choice(wanted, min(_SAMPLE, len(wanted)), replace=False)
    return similar_UxK, graphs.recall(similar_UxK[sample], _exact(unit_UxF, rows_C, sample, k))


def _without_oneself(found_BxN: np.ndarray, users_B: np.ndarray, k: int) -> np.ndarray:
    """(B, k): the users that were found, in their order, without the user; then -1."""
    other_BxN = (found_BxN >= 0) & (found_BxN != users_B[:, None])
    order_BxN = np.argsort(~other_BxN, axis=1, kind="stable")[:, :k]
    found_BxK = np.where(
        np.take_along_axis(other_BxN, order_BxN, axis=1), np.take_along_axis(found_BxN, order_BxN, axis=1), -1
    )
    return np.pad(found_BxK, ((0, 0), (0, k - found_BxK.shape[1])), constant_values=-1)


def _exact(unit_UxF: np.ndarray, rows_C: np.ndarray, users: np.ndarray, k: int) -> np.ndarray:
    """(len(users), k) nearest others among `rows_C`; equal similarities go to the lower row."""
    block = max(1, _BLOCK_BYTES // (4 * max(len(rows_C), 1)))
    nearest = np.empty((len(users), k), np.int64)
    for start in range(0, len(users), block):
        some = users[start : start + block]
        similarity_BxC = unit_UxF[some] @ unit_UxF[rows_C].T
        similarity_BxC[some[:, None] == rows_C] = -np.inf
        nearest[start : start + block] = rows_C[np.argsort(-similarity_BxC, axis=1, kind="stable")[:, :k]]
    return nearest
