"""The interactions on the device, and negatives drawn from them exactly: without rejection, without a bias."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from llmesr_jax.data.checks import check_size
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.data.settings import DataConfig
from llmesr_jax.models.kernels import search
from llmesr_jax.models.types import Array, on_device
from llmesr_jax.training import seen
from llmesr_jax.training.epoch_plan import BatchPlan, target_counts


@flax.struct.dataclass
class Interactions:
    """The data set on the device. Row u is user id u + 1.

    Attributes:
      items_n: int32 item ids, user after user, in time order.
      start_U, train_U: int32 first index of each user and length of the training part.
      gaps_m: int32, for each user and its sorted distinct seen items s_0 < s_1 < ... the numbers s_k - 1 - k: how many
        unseen items have a lower id than the k-th seen one. `data.avoid` says which items are seen: they are never
        negatives of the user.
      gap_start_U, gap_count_U: int32, the index of a user's first gap, and the number of gaps.
      count_ends_V: int32, running total of the items' training interactions, to draw an item by its frequency.
      num_items: V.
      most_seen: the largest number of distinct seen items of a user.
      last_negative: the highest id that a negative may have.
      whole: how seen items are searched, see `kernels.search`.
      target_log_shares_V: float32 log of each item's share of an epoch's targets; None unless targets are the
        negatives.
    """

    items_n: Array
    start_U: Array
    train_U: Array
    gaps_m: Array
    gap_start_U: Array
    gap_count_U: Array
    count_ends_V: Array
    num_items: int = flax.struct.field(pytree_node=False)
    most_seen: int = flax.struct.field(pytree_node=False)
    last_negative: int = flax.struct.field(pytree_node=False)
    whole: bool = flax.struct.field(pytree_node=False)
    target_log_shares_V: Array | None = None

    def unseen_items(self, key: Array, users_n: Array, count: int) -> Array:
        """int32 (n, count): items drawn uniformly, with replacement, among those that each user has not seen.

        `data.avoid` says which items are seen, as for the batch's own negatives.

        Args:
          key: random key.
          users_n: int32 rows of users; -1 for an unknown user, who has seen nothing.
          count: draws per user.
        """
        known_n = users_n >= 0
        row_n = jnp.maximum(users_n, 0)
        room_n = jnp.maximum(self.last_negative - jnp.where(known_n, self.gap_count_U[row_n], 0), 1)
        draws = below(jax.random.bits(key, (len(users_n), count), jnp.uint32), room_n[:, None])
        ids = unseen(self, draws, jnp.broadcast_to(row_n[:, None], draws.shape))
        return jnp.where(known_n[:, None], ids, draws + 1)


def resident(corpus: Corpus, plan: BatchPlan) -> Interactions:
    """Puts the whole corpus on the device.

    Args:
      corpus: on the host.
      plan: of the batches; it says which items are never negatives, and which are targets.
    Raises:
      InputError: there are more interactions or users than 32-bit numbers can count.
    """
    check_size(corpus.name, len(corpus.items), corpus.num_users)
    avoid = plan.config.avoid
    gaps, count_U = seen.all_gaps(corpus, avoid)
    start_U = np.cumsum(count_U) - count_U
    as_int = lambda x: on_device(x, np.int32)  # noqa: E731
    return Interactions(
        items_n=as_int(corpus.items),
        start_U=as_int(corpus.offsets[:-1]),
        train_U=as_int(corpus.train_lengths_U),
        gaps_m=as_int(gaps),
        gap_start_U=as_int(start_U),
        gap_count_U=as_int(count_U),
        count_ends_V=as_int(np.cumsum(corpus.item_counts_V)),
        num_items=corpus.num_items,
        most_seen=int(count_U.max()),
        last_negative=corpus.num_items + (avoid == "history"),
        whole=plan.whole,
        target_log_shares_V=target_log_shares(corpus, plan),
    )


def target_log_shares(corpus: Corpus, plan: BatchPlan) -> Array | None:
    """`Interactions.target_log_shares_V`."""
    if plan.config.negatives != "in_batch":
        return None
    counts_V = target_counts(corpus, plan)
    with np.errstate(divide="ignore"):  # an item that is never a target is never drawn
        return on_device(np.log(counts_V / max(counts_V.sum(), 1e-30)), np.float32)


def unseen(data: Interactions, draws: Array, users: Array) -> Array:
    """The (draw + 1)-th smallest item that the user has not seen: exact, without rejection. int32, shape of `draws`.

    id = draw + 1 + #{k : gap_k <= draw}, by a search in the user's sorted gaps.

    Args:
      data: the interactions.
      draws: int32, in [0, last_negative - number of seen items of the user).
      users: int32 rows of users, same shape.
    """
    low = search.at_most(
        data.gaps_m, data.gap_start_U[users], data.gap_count_U[users], draws, data.most_seen, data.whole
    )
    return jnp.minimum(draws + 1 + low, data.last_negative)


def below(words: Array, count: Array) -> Array:
    """int32 draws in [0, count), from uniform 32-bit words: the upper half of the 64-bit product words * count.

    Every number can be drawn; the relative error of its probability is at most count / 2^32. A remainder has the same
    error, but favours low numbers; floats have too few values. 64-bit integers are disabled in JAX, so the product is
    computed from 16-bit halves.

    Args:
      words: uint32.
      count: int32, at least 1; of the same rank.
    """
    count, half = count.astype(jnp.uint32), jnp.uint32(0xFFFF)
    high, low, count_high, count_low = words >> 16, words & half, count >> 16, count & half
    middle = high * count_low + (low * count_low >> 16)
    upper = high * count_high + (middle >> 16) + ((low * count_high + (middle & half)) >> 16)
    return upper.astype(jnp.int32)


def shared_negatives(config: DataConfig, data: Interactions, targets_T: Array, key: Array) -> tuple[Array, Array]:
    """int32 (K,): negatives that all positions of a step share, 0 for none; float32 (K,): log-probability of each."""
    if config.negatives == "uniform":
        words_K = jax.random.bits(key, (config.num_negatives,), jnp.uint32)
        ids_K = below(words_K, jnp.full(1, data.num_items, jnp.int32)) + 1
        return ids_K, jnp.full(config.num_negatives, -np.log(data.num_items), jnp.float32)
    if config.negatives == "in_batch":
        return targets_T, jnp.take(data.target_log_shares_V, jnp.maximum(targets_T - 1, 0), mode="clip")
    total = data.count_ends_V[-1]
    draws_K = below(jax.random.bits(key, (config.num_negatives,), jnp.uint32), total[None])
    ids_K = jnp.searchsorted(data.count_ends_V, draws_K, side="right").astype(jnp.int32) + 1
    place_K = ids_K - 1
    before_K = jnp.where(place_K > 0, jnp.take(data.count_ends_V, place_K - 1, mode="clip"), 0)
    count_K = jnp.maximum(data.count_ends_V[place_K] - before_K, 1).astype(jnp.float32)
    return ids_K, jnp.log(count_K / total.astype(jnp.float32))
