"""Ranks of targets among candidates, and the best items of each user.

Scores are user vectors . item vectors, computed in blocks of users: memory holds one (block, V) array at a time, never
(U, V). A target's score is read from the same array as its competitors' scores, so equal item vectors tie exactly.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llmesr_jax.data.corpus import Corpus
from llmesr_jax.models import kept
from llmesr_jax.models.types import Array
from llmesr_jax.ranking.split_items import (
    SplitItems,
    best,
    here,
    on_blocks,
    only_items,
    total,
)

# Bytes of the scores of a block: on a CPU so few that they stay in its caches, elsewhere enough to use the whole
# device.
_BLOCK_BYTES = {"cpu": 8 << 20}
_BLOCK_BYTES_DEFAULT = 512 << 20


class Ranks(NamedTuple):
    """The number of competitors of each user's target that score higher, and that score the same; (0, 0) is best.

    A target whose score is NaN has all its competitors above it, and a competitor whose score is NaN is above.
    """

    higher_U: Array  # int32 (U,)
    tied_U: Array  # int32 (U,)


@dataclasses.dataclass(frozen=True)
class ItemSets:
    """One set of items for each of U users, ascending and flat: user u has items_P[offsets[u] : offsets[u + 1]].

    Attributes:
      items_P: int32 item ids, P over all users.
      offsets: int64 (U + 1,).
    """

    items_P: np.ndarray
    offsets: np.ndarray

    @property
    def sizes_U(self) -> np.ndarray:
        """int64 (U,): the number of items of each user."""
        return np.diff(self.offsets)


def prefix_sets(corpus: Corpus, rows_E: np.ndarray, stops_E: np.ndarray) -> ItemSets:
    """The distinct items among the first interactions of E users.

    Args:
      corpus: the interactions.
      rows_E: int rows of the users, from 0.
      stops_E: int, how many of each user's first interactions count.
    """
    user_P = np.repeat(np.arange(len(rows_E)), stops_E)
    place_P = np.arange(len(user_P)) - np.repeat(np.cumsum(stops_E) - stops_E, stops_E)
    item_P = corpus.items[corpus.offsets[rows_E][user_P] + place_P].astype(np.int64)
    user_P, item_P = np.divmod(np.unique(user_P * (corpus.num_items + 1) + item_P), corpus.num_items + 1)
    sizes_E = np.bincount(user_P, minlength=len(rows_E))
    return ItemSets(item_P.astype(np.int32), np.concatenate([[0], np.cumsum(sizes_E)]))


class _Hidden(NamedTuple):
    """N blocks of B users; block n hides columns_NxP[n, p] from its user rows_NxP[n, p] (B where there is no pair)."""

    rows_NxP: np.ndarray
    columns_NxP: np.ndarray


def _block_rows(count: int, row_bytes: int) -> int:
    budget = _BLOCK_BYTES.get(jax.default_backend(), _BLOCK_BYTES_DEFAULT)
    return max(1, min(count, max(32, budget // row_bytes)))


def _into_blocks(x_Ux: Array, rows: int) -> Array:
    """(U, ...) as (N, rows, ...), zeros after the last user."""
    num_blocks = -(-len(x_Ux) // rows)
    padding = [(0, num_blocks * rows - len(x_Ux))] + [(0, 0)] * (x_Ux.ndim - 1)
    return jnp.pad(x_Ux, padding).reshape(num_blocks, rows, *x_Ux.shape[1:])


def _plan(users_UxE: Array, items_VxE: Array, hidden: ItemSets) -> tuple[int, _Hidden]:
    """How many users are in a block, and what is hidden from them."""
    num_users, num_items = len(users_UxE), len(items_VxE)
    _check_lengths(num_users, hidden=len(hidden.sizes_U))
    rows = _block_rows(num_users, num_items * items_VxE.dtype.itemsize)
    num_blocks = -(-num_users // rows)

    starts_N = hidden.offsets[np.minimum(np.arange(num_blocks + 1) * rows, num_users)]
    user_P = np.repeat(np.arange(num_users), hidden.sizes_U)
    block_P = user_P // rows
    place_P = np.arange(len(user_P)) - starts_N[block_P]
    shape = (num_blocks, int(np.diff(starts_N).max(initial=0)))
    rows_NxP, columns_NxP = np.full(shape, rows, np.int32), np.zeros(shape, np.int32)
    rows_NxP[block_P, place_P] = user_P % rows
    columns_NxP[block_P, place_P] = hidden.items_P - 1
    return rows, _Hidden(rows_NxP, columns_NxP)


def _check_lengths(num_users: int, **lengths: int) -> None:
    for name, length in lengths.items():
        if length != num_users:
            raise ValueError(f"{num_users} user vectors, but {name} has {length} rows; expected one row per user")


def _scores(users_BxE: Array, items_VxE: Array) -> Array:
    """(B, V), in full precision: the default on a GPU rounds float32 to 10 bits, which changes ranks.

    The barrier keeps the compiler from computing single scores a second time with other roundings.
    """
    scores_BxV = jax.lax.dot_general(
        users_BxE, items_VxE, (((1,), (1,)), ((), ())), precision=jax.lax.Precision.HIGHEST
    )
    return jax.lax.optimization_barrier(scores_BxV)


def _count(x: Array) -> Array:
    return jnp.sum(x, axis=1, dtype=jnp.int32)


def _ranks_from_counts(competitors_B: Array, not_above_B: Array, equal_B: Array) -> Ranks:
    """Counts of candidates that include the target itself, except where its score is NaN and equals nothing."""
    return Ranks(jnp.minimum(competitors_B + 1 - not_above_B, competitors_B), jnp.maximum(equal_B - 1, 0))


def _block_ranks(
    scores_BxV: Array,
    targets_B: Array,
    rows_P: Array,
    columns_P: Array,
    zero_hidden: bool,
    num_items: int,
    split: SplitItems | None,
) -> Ranks:
    """Counts over all items, minus the counts over the hidden ones: cheaper than masking scores_BxV.

    With `zero_hidden`, the hidden ones are counted again, with the score 0. V are the items of this device.
    """
    num_rows, width = scores_BxV.shape
    at_B, has_target_B = here(targets_B - 1, width, split)
    target_Bx1 = jnp.take_along_axis(scores_BxV, at_B[:, None], axis=1, mode="clip")
    if split is not None:
        target_Bx1 = total(jnp.where(has_target_B[:, None], target_Bx1, jnp.zeros_like(target_Bx1)), split)
    if zero_hidden:
        is_target_P = columns_P == targets_B.at[rows_P].get(mode="clip") - 1
        hidden_B = jax.ops.segment_max(is_target_P.astype(jnp.int32), rows_P, num_rows) > 0
        target_Bx1 = jnp.where(hidden_B[:, None], jnp.zeros_like(target_Bx1), target_Bx1)
    at_P, is_here_P = here(columns_P, width, split)
    hidden_P = scores_BxV.at[rows_P, at_P].get(mode="clip")
    hidden_target_P = target_Bx1[:, 0].at[rows_P].get(mode="clip")

    def over_hidden(x_P: Array) -> Array:  # drops the pairs whose row is out of range, the padding
        return jax.ops.segment_sum(x_P.astype(jnp.int32), rows_P, num_rows)

    not_above_B = _count(scores_BxV <= target_Bx1) - over_hidden((hidden_P <= hidden_target_P) & is_here_P)
    equal_B = _count(scores_BxV == target_Bx1) - over_hidden((hidden_P == hidden_target_P) & is_here_P)
    not_above_B, equal_B = total(not_above_B, split), total(equal_B, split)
    competitors_B = num_items - 1 - over_hidden(jnp.ones_like(rows_P))
    if zero_hidden:
        not_above_B = not_above_B + over_hidden(hidden_target_P >= 0)
        equal_B = equal_B + over_hidden(hidden_target_P == 0)
        competitors_B = jnp.full_like(competitors_B, num_items - 1)
    return _ranks_from_counts(competitors_B, not_above_B, equal_B)


def _block_top(
    scores_BxV: Array, rows_P: Array, columns_P: Array, k: int, zero_hidden: bool, split: SplitItems | None
) -> Array:
    scores_BxV = jnp.where(jnp.isnan(scores_BxV), -jnp.inf, scores_BxV)
    at_P, _ = here(columns_P, scores_BxV.shape[1], split)
    scores_BxV = scores_BxV.at[rows_P, at_P].set(0.0 if zero_hidden else -jnp.inf, mode="drop")
    best_BxK, columns_BxK = best(scores_BxV, k, split)
    ids_BxK = jnp.where(best_BxK > -jnp.inf, columns_BxK + 1, 0)
    return jnp.pad(ids_BxK, ((0, 0), (0, k - ids_BxK.shape[1])))


def _flat(x_NxBx: Array, count: int) -> Array:
    return x_NxBx.reshape(x_NxBx.shape[0] * x_NxBx.shape[1], *x_NxBx.shape[2:])[:count]


# These programs also cut users into blocks and join the results: outside, each shape would need another small program.


@kept.jit(static_argnames=("rows", "top", "zero_hidden", "split"))
def _full(
    users_UxE: Array,
    items_VxE: Array,
    targets_U: Array,
    hidden: _Hidden,
    rows: int,
    top: int,
    zero_hidden: bool,
    split: SplitItems | None,
) -> tuple[Ranks, Array]:
    count = len(items_VxE) if split is None else split.count

    def of_items(items_VxE, blocks):
        def one_block(block):
            users_BxE, targets_B, (rows_P, columns_P) = block
            scores_BxV = only_items(_scores(users_BxE, items_VxE), split)
            ranks = _block_ranks(scores_BxV, targets_B, rows_P, columns_P, zero_hidden, count, split)
            return ranks, _block_top(scores_BxV, rows_P, columns_P, top, zero_hidden, split)

        return jax.lax.map(one_block, blocks)

    blocks = _into_blocks(users_UxE, rows), _into_blocks(targets_U, rows), hidden
    found = on_blocks(split, of_items, items_VxE, blocks)
    return jax.tree.map(lambda x: _flat(x, len(users_UxE)), found)


@kept.jit(static_argnames=("rows", "k"))
def _top(users_UxE: Array, items_VxE: Array, hidden: _Hidden, rows: int, k: int) -> Array:
    def one_block(block):
        users_BxE, (rows_P, columns_P) = block
        return _block_top(_scores(users_BxE, items_VxE), rows_P, columns_P, k, False, None)

    return _flat(jax.lax.map(one_block, (_into_blocks(users_UxE, rows), hidden)), len(users_UxE))


@kept.jit(static_argnames=("rows", "split"))
def _sampled(users_UxE: Array, items_VxE: Array, ids_UxC: Array, rows: int, split: SplitItems | None) -> Ranks:
    def of_items(items_VxE, blocks):
        def one_block(block):
            users_BxE, ids_BxC = block  # column 0 is the target
            at_BxC, is_here_BxC = here(ids_BxC - 1, len(items_VxE), split)
            # Multiply and add, not a matrix product: that one rounds differently from candidate to candidate on a CPU.
            vectors_BxCxE = items_VxE.at[at_BxC].get(mode="clip")
            scores_BxC = jax.lax.optimization_barrier(jnp.sum(users_BxE[:, None, :] * vectors_BxCxE, axis=-1))
            if split is not None:
                scores_BxC = total(jnp.where(is_here_BxC, scores_BxC, jnp.zeros_like(scores_BxC)), split)
            target_Bx1, real_BxC = scores_BxC[:, :1], ids_BxC > 0
            not_above_B = _count((scores_BxC <= target_Bx1) & real_BxC)
            equal_B = _count((scores_BxC == target_Bx1) & real_BxC)
            return _ranks_from_counts(_count(real_BxC) - 1, not_above_B, equal_B)

        return jax.lax.map(one_block, blocks)

    blocks = _into_blocks(users_UxE, rows), _into_blocks(ids_UxC, rows)
    found = on_blocks(split, of_items, items_VxE, blocks)
    return Ranks(*(_flat(x, len(users_UxE)) for x in found))


def full_ranks(
    users_UxE: Array,
    items_VxE: Array,
    targets_U: np.ndarray,
    hidden: ItemSets,
    *,
    top: int = 0,
    zero_hidden: bool = False,
    split: SplitItems | None = None,
) -> tuple[Ranks, Array]:
    """Ranks each target among all items except the hidden ones, and returns the best items by the same scores.

    Args:
      users_UxE: float user vectors.
      items_VxE: float item vectors, row 0 = id 1; no row for the padding or the mask.
      targets_U: int item ids, 1..V.
      hidden: the items that are no candidates for each user. They must not contain the user's target, except with
        `zero_hidden`, where the target then has the score 0 as well.
      top: how many best items to return.
      zero_hidden: hidden items are candidates with the score 0, so they are above all with a negative score (FAERec's
        release).
      split: how the rows of `items_VxE` are split over devices; None: one device has all.

    Returns:
      `Ranks`, and int32 (U, top) item ids as of `top_k`.

    Raises:
      ValueError: the arguments have different numbers of users.
    """
    _check_lengths(len(users_UxE), targets=len(targets_U))
    rows, pairs = _plan(users_UxE, items_VxE, hidden)
    return _full(users_UxE, items_VxE, np.asarray(targets_U, np.int32), pairs, rows, top, zero_hidden, split)


def top_k(users_UxE: Array, items_VxE: Array, k: int, hidden: ItemSets) -> Array:
    """int32 (U, k) item ids: each user's items of highest score that are not hidden, best first; then 0.

    Items with equal scores are in order of id; an item whose score is NaN is left out.

    Args:
      users_UxE: float user vectors.
      items_VxE: float item vectors, row 0 = id 1.
      k: length of each list.
      hidden: the items that are no candidates for each user.

    Raises:
      ValueError: `hidden` has another number of users.
    """
    rows, pairs = _plan(users_UxE, items_VxE, hidden)
    return _top(users_UxE, items_VxE, pairs, rows, k)


def sampled_ranks(
    users_UxE: Array,
    items_VxE: Array,
    targets_U: np.ndarray,
    candidates_UxC: np.ndarray,
    *,
    split: SplitItems | None = None,
) -> Ranks:
    """Ranks each target among its own candidates.

    Args:
      users_UxE: float user vectors.
      items_VxE: float item vectors, row 0 = id 1.
      targets_U: int item ids, 1..V.
      candidates_UxC: int item ids without the target; 0 = no candidate.
      split: how the rows of `items_VxE` are split over devices; None: one device has all.

    Raises:
      ValueError: the arguments have different numbers of users.
    """
    count = len(users_UxE)
    _check_lengths(count, targets=len(targets_U), candidates=len(candidates_UxC))
    ids_UxC = np.concatenate([np.asarray(targets_U)[:, None], candidates_UxC], axis=1).astype(np.int32)
    rows = _block_rows(count, ids_UxC.shape[1] * items_VxE.shape[1] * items_VxE.dtype.itemsize)
    return _sampled(users_UxE, items_VxE, ids_UxC, rows, split)
