"""Similar users: cosine top-k of the user embeddings (LLM-ESR, section 3.3)."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

_BLOCK_BYTES = 128 * 2**20  # memory of one (block, U) array of similarities
_ROWS = 4096  # users that are read together
_LONG = 20_000  # users from which a progress bar is shown


def similar_users(
    user_llm_UxF: np.ndarray, k: int = 100, block: int | None = None, among_U: np.ndarray | None = None
) -> np.ndarray:
    """Each user's k nearest others by cosine, nearest first.

    The search is exact. It compares a block of users with all at a time, so no (U, U) matrix is made. Of equal
    similarities, the lower row comes first. A user whose vector is zero is similar to no user: the user's own row is
    all -1, and the user is in no other row.

    Args:
      user_llm_UxF: float user embeddings, finite.
      k: neighbours of each user, at most U - 1.
      block: users compared at once; by default what fits 128 MiB of similarities.
      among_U: bool, users that may be neighbours, at least k + 1; None: all.

    Returns:
      int32 (U, min(k, U - 1)) rows of users, from 0; -1 after the last neighbour.
    """
    num_users = len(user_llm_UxF)
    k = min(k, num_users - 1)
    block = min(block or max(1, _BLOCK_BYTES // (4 * num_users)), num_users)
    embedded_U = embedded(user_llm_UxF)
    unit_UxF = jnp.asarray(unit(user_llm_UxF))
    among_U = jnp.asarray(embedded_U if among_U is None else embedded_U & among_U)
    similar_UxK = np.empty((num_users, k), np.int32)
    starts = range(0, num_users, block)
    for start in tqdm(starts, "similar users", unit="block", disable=None if num_users >= _LONG else True):
        first = min(start, num_users - block)  # the last block overlaps, so that one shape serves all
        similar_UxK[first : first + block] = _nearest(unit_UxF, among_U, first, block=block, k=k)
    return np.where(embedded_U[:, None], similar_UxK, -1).astype(np.int32)


def embedded(user_llm_UxF: np.ndarray) -> np.ndarray:
    """bool (U,): users whose vector is not zero. The vectors are read in blocks, as they may be memory-mapped."""
    starts = range(0, len(user_llm_UxF), _ROWS)
    parts = [(np.asarray(user_llm_UxF[i : i + _ROWS], np.float32) != 0).any(axis=1) for i in starts]
    return np.concatenate(parts) if parts else np.zeros(0, bool)


def unit(x_UxF: np.ndarray) -> np.ndarray:
    """float32 (U, F): rows scaled to length 1; rows of zeros stay.

    Each row is divided by its largest entry first, as squares of large numbers would overflow.
    """
    x_UxF = np.asarray(x_UxF, np.float32)
    largest_Ux1 = np.abs(x_UxF).max(axis=1, keepdims=True)
    x_UxF = x_UxF / np.where(largest_Ux1 > 0, largest_Ux1, 1)
    return x_UxF / np.maximum(np.linalg.norm(x_UxF, axis=1, keepdims=True), 1)  # at least 1, or 0 for zeros


@partial(jax.jit, static_argnames=("block", "k"))
def _nearest(unit_UxF: jax.Array, among_U: jax.Array, first: jax.Array, *, block: int, k: int) -> jax.Array:
    """int32 (block, k): the neighbours of the users from row `first` on, then -1; the lower of equal rows first."""
    block_BxF = jax.lax.dynamic_slice_in_dim(unit_UxF, first, block)
    # GPUs round matrix products to fewer bits by default, which would change who is nearest.
    similarity_BxU = jnp.dot(block_BxF, unit_UxF.T, precision=jax.lax.Precision.HIGHEST)
    row_B = jnp.arange(block)
    similarity_BxU = jnp.where(among_U[None], similarity_BxU, -jnp.inf)
    best_BxK, nearest_BxK = jax.lax.top_k(similarity_BxU.at[row_B, first + row_B].set(-jnp.inf), k)
    return jnp.where(best_BxK > -jnp.inf, nearest_BxK, -1)
