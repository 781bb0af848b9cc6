"""Batches, built on the device: sequences laid out in rows, targets, negatives, the cloze task's masks.

The host plans which users come in which order, and the lengths of rows (`ranking.layout`). Everything else, including
random numbers, is computed inside the jitted step. Random numbers are drawn per (student, position), so they do not
depend on the layout of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.checks import check_size
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.data.settings import DataConfig
from llmesr_jax.models.kernels import search, split_rows
from llmesr_jax.models.layers.dense import take_rows
from llmesr_jax.models.types import Array, Batch, Needs, Tables, on_device
from llmesr_jax.ranking import layout
from llmesr_jax.training import dealing, seen

_EXTRA = 17  # folded into the step's key for what a method adds
_MOST_SAMPLES = 2**31 - 1  # their numbers are int32


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


class BatchPlan(NamedTuple):
    """All static facts about a training batch; hashable, for a static argument of jit.

    Attributes:
      config: the section `data` of the settings.
      supervision: the positions with a loss: every, last or masked.
      mask_share: share of positions that the cloze task hides; 0 without it.
      students, teachers: the rows of both bags; teachers is None without distillation.
      similar: N.
      extra: computes what the method adds, `Recommender.extra`; None if it adds nothing.
      whole: as in `Sizes`.
      shards: number of devices that the batch is distributed over.
    """

    config: DataConfig
    supervision: str
    mask_share: float
    students: layout.RowPlan
    teachers: layout.RowPlan | None
    similar: int
    extra: Callable[..., Any] | None = None
    whole: bool = False
    shards: int = 1

    def dealt(self, shards: int) -> BatchPlan:
        """The plan for so many devices; on several, rows are not packed."""
        alone = lambda rows: rows and rows._replace(bin_widths=())  # noqa: E731
        packs = {} if shards == 1 else {"students": alone(self.students), "teachers": alone(self.teachers)}
        return self._replace(shards=shards, **packs)


class Epochs(NamedTuple):
    """What the host needs to plan an epoch.

    Attributes:
      samples_N: int32 user + U * k. Under masked supervision each student has two samples: k = 0, and k = 1, in which
        only the last item is hidden. Under `data.prefixes` k is the number of newest training items that a prefix
        lacks. Else k = 0.
      counts_NxG, most_G: limits on the sequences of a batch that an order must respect, see `layout.draw_order`.
      plan: the static facts.
    """

    samples_N: np.ndarray
    counts_NxG: np.ndarray
    most_G: np.ndarray
    plan: BatchPlan

    @property
    def steps(self) -> int:
        """Steps per epoch."""
        return -(-len(self.samples_N) // self.plan.config.batch_size)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """int32 (steps, B): samples in the epoch's order, -1 for an empty place. A function of (seed, epoch) alone."""
        order = layout.draw_order(seed, epoch, self.plan.config.batch_size, self.counts_NxG, self.most_G)
        return np.where(order >= 0, self.samples_N[np.maximum(order, 0)], -1).astype(np.int32)


def _students(corpus: Corpus, config: DataConfig) -> np.ndarray:
    """bool (U,): which users are students."""
    return corpus.train_lengths_U >= (1 if config.single_item_students else 2)


def _cut(plan: BatchPlan, samples: np.ndarray | Array, num_users: int) -> np.ndarray | Array:
    """int32: how many of a user's newest training items each sample lacks; meaningless for -1, an empty place."""
    return samples // num_users * int(plan.config.prefixes)


def student_lengths(corpus: Corpus, plan: BatchPlan, samples: np.ndarray) -> np.ndarray:
    """int, of the shape of `samples`: the number of items in each sample's input; 0 for -1, an empty place."""
    train = corpus.train_lengths_U[samples % corpus.num_users] - _cut(plan, samples, corpus.num_users)
    lengths = np.minimum(train - (plan.supervision != "masked"), plan.config.max_len)
    return np.where(samples >= 0, lengths, 0)


def _samples(corpus: Corpus, config: DataConfig, supervision: str) -> np.ndarray:
    """`Epochs.samples_N`."""
    users = np.flatnonzero(_students(corpus, config))
    if not len(users):
        raise InputError(
            f"{corpus.name}: no user has 2 or more training items; expected at least one such user; use more data"
        )
    if config.prefixes and supervision == "masked":
        raise InputError(
            "config: data.prefixes=True is for backbones that can learn from the last position alone, but this one "
            "learns from hidden positions; set data.prefixes=False"
        )
    turns = np.full(len(users), 2 if supervision == "masked" else 1, np.int64)
    if config.prefixes:
        turns = np.maximum(corpus.train_lengths_U[users] - 1, 1)
    if corpus.num_users * int(turns.max()) > _MOST_SAMPLES:
        raise InputError(
            f"{corpus.name}: {corpus.num_users} users with up to {turns.max()} prefixes each exceed 32-bit "
            "numbers; set data.prefixes=False"
        )
    number = np.arange(turns.sum()) - np.repeat(np.cumsum(turns) - turns, turns)
    order = np.argsort(number, kind="stable")  # the whole sequence of every user first
    return (np.repeat(users, turns) + corpus.num_users * number)[order].astype(np.int32)


def target_counts(corpus: Corpus, plan: BatchPlan) -> np.ndarray:
    """float64 (V,): how often each item is a target in an epoch; under the cloze task the expected number.

    Targets of a student are: with `every`, its newest training items, one for each position of its input; with `last`,
    the newest one, and with `data.prefixes` all but the first; with `masked`, a share `mask_share` of its input, and in
    its second sample the newest item.
    """
    train_U = corpus.train_lengths_U
    slots_U = np.minimum(train_U - (plan.supervision != "masked"), plan.config.max_len)
    user_n = np.repeat(np.arange(corpus.num_users), corpus.lengths_U)
    from_end_n = (corpus.offsets[:-1] + train_U)[user_n] - np.arange(len(corpus.items))  # 1: the newest to train on
    newest_n, within_n = from_end_n == 1, (from_end_n >= 1) & (from_end_n <= slots_U[user_n])
    if plan.config.prefixes:
        follows_n = np.arange(len(corpus.items)) > corpus.offsets[user_n]
        newest_n |= follows_n & (from_end_n >= 1)
    share_n = {"every": within_n, "last": newest_n, "masked": plan.mask_share * within_n + newest_n}[plan.supervision]
    weight_n = share_n * _students(corpus, plan.config)[user_n]
    return np.bincount(corpus.items - 1, weight_n, minlength=corpus.num_items)


def interactions(corpus: Corpus, plan: BatchPlan) -> Interactions:
    """Puts the corpus on the device.

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


def plan_epochs(
    corpus: Corpus,
    config: DataConfig,
    supervision: str,
    mask_share: float,
    needs: Needs,
    similar_UxN: np.ndarray | None,
    extra: Callable[..., Any] | None = None,
    whole: bool = False,
) -> Epochs:
    """Chooses the students and plans the rows.

    Args:
      corpus: the data.
      config: the section `data` of the settings, with `layout` decided (not auto).
      supervision: of the backbone: every, last or masked.
      mask_share: share of positions that the cloze task hides.
      needs: of the method.
      similar_UxN: int32 (U, N) rows of similar users, -1 for none; None if the method has no teachers. A user with a -1
        is a student like the others, but is not distilled; nor is a prefix.
      extra, whole: see `BatchPlan`.
    Raises:
      InputError: no user has enough training items; `data.prefixes` with a backbone that learns from hidden positions;
        or more samples than 32-bit numbers can count.
    """
    samples = _samples(corpus, config, supervision)
    supervision = "last" if config.prefixes else supervision  # every other position is the last of another prefix
    plan = BatchPlan(config, supervision, mask_share, layout.padded(1, 1), None, needs.similar, extra, whole)
    student_Nx1 = student_lengths(corpus, plan, samples)[:, None]
    teacher_U = np.clip(corpus.train_lengths_U - (config.teacher_input == "input"), 0, config.max_len)
    teacher_NxM = None
    if similar_UxN is not None:
        similar_NxM = similar_UxN[samples % corpus.num_users]
        whole_N = _cut(plan, samples, corpus.num_users) == 0
        taught_Nx1 = ((similar_NxM >= 0).all(axis=1) & whole_N)[:, None]
        teacher_NxM = np.where(taught_Nx1, teacher_U[similar_NxM], 0)
    bags = [student_Nx1] if teacher_NxM is None else [student_Nx1, teacher_NxM]
    if config.layout == "padded":
        stairs = [layout.padded(config.batch_size * bag.shape[1], config.max_len) for bag in bags]
    else:
        stairs = layout.plan(bags, config.batch_size, config.buckets)
        stairs = [rows.packed() for rows in stairs] if config.layout == "packed" else stairs
    counts_NxG = np.concatenate([layout.exceedances(bag, s.lengths) for bag, s in zip(bags, stairs)], axis=1)
    most_G = np.concatenate([np.array(s.at_least[1:], np.int64) for s in stairs])
    teachers = stairs[1] if len(stairs) > 1 else None
    return Epochs(samples, counts_NxG, most_G, plan._replace(students=stairs[0], teachers=teachers))


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


def make_batch(plan: BatchPlan, data: Interactions, tables: Tables, samples_B: Array, key: Array) -> Batch:
    """One training batch, computed on the device.

    Args:
      plan: static facts.
      data: the interactions.
      tables: the frozen tables; `similar_users` is read if there are teachers, others by the method's `extra`.
      samples_B: int32 (B,), entries of `Epochs.samples_N`, -1 for an empty place.
      key: random key of this step, the first of `step_keys`.
    """
    config, batch_size, max_len = plan.config, samples_B.shape[0], plan.config.max_len
    left_padded, masked = config.layout == "padded", plan.supervision == "masked"
    num_users, behind = data.start_U.shape[0], int(not masked)  # the newest item is a target only
    somebody = samples_B >= 0
    users = jnp.where(somebody, samples_B, 0) % num_users
    cut = _cut(plan, samples_B, num_users)
    length = jnp.where(somebody, jnp.minimum(data.train_U[users] - cut - behind, max_len), 0)
    by_length = jnp.argsort(-length, stable=True).astype(jnp.int32)
    somebody, users, length, cut = somebody[by_length], users[by_length], length[by_length], cut[by_length]
    end = data.start_U[users] + data.train_U[users] - cut - behind
    rows, user_B = plan.students, jnp.where(somebody, users, -1)
    sequences, index_T = layout.lay_out(
        data.items_n, end, length, rows.buckets, left_padded, max_len, by_length, user_B, rows.bin_widths
    )
    row_T = sequences.row_T
    # Random numbers depend on (place in the batch, position), in every layout.
    place_T = jnp.maximum(sequences.positions_T - 1, 0)
    at_slot = lambda draws: draws[by_length[row_T], place_T]  # noqa: E731
    negative_key, hide_key, kind_key, random_key = jax.random.split(key, 4)

    last_T = jnp.zeros(len(row_T), bool).at[sequences.last_R].set(somebody)
    if masked:
        last_only_T = (samples_B[by_length] >= num_users)[row_T]
        drawn_T = at_slot(jax.random.uniform(hide_key, (batch_size, max_len))) < plan.mask_share
        hidden_T = sequences.valid_T & jnp.where(last_only_T, last_T, drawn_T)
        targets_T = jnp.where(hidden_T, sequences.items_T, 0)
        kind_T = at_slot(jax.random.uniform(kind_key, (batch_size, max_len)))
        words_T = at_slot(jax.random.bits(random_key, (batch_size, max_len), jnp.uint32))
        other_T = below(words_T, jnp.full(1, data.num_items, jnp.int32)) + 1
        shown_T = jnp.where(kind_T < 0.8, data.num_items + 1, jnp.where(kind_T < 0.9, other_T, sequences.items_T))
        shown_T = jnp.where(last_only_T, data.num_items + 1, shown_T)
        sequences = sequences.replace(items_T=jnp.where(hidden_T, shown_T, sequences.items_T).astype(jnp.int32))
    else:
        next_T = jnp.where(last_T, end[row_T], index_T + 1)  # the only target of an empty row follows its empty input
        at_T = last_T if plan.supervision == "last" else sequences.valid_T
        targets_T = jnp.where(at_T, jnp.take(data.items_n, next_T, mode="clip"), 0)

    batch = Batch(
        sequences,
        targets_T,
        jnp.zeros((len(row_T), 0), jnp.int32),
        distils_B=somebody,
        users_B=users,
        newest_only=plan.supervision == "last",
    )
    if config.negatives == "own":
        unseen_T = jnp.maximum(data.last_negative - data.gap_count_U[users], 1)[row_T]
        words = jax.random.bits(negative_key, (batch_size, max_len, config.num_negatives), jnp.uint32)
        draws_TxK = below(at_slot(words), unseen_T[:, None])
        users_TxK = jnp.broadcast_to(users[row_T][:, None], draws_TxK.shape)
        negatives_TxK = jnp.where(targets_T[:, None] > 0, unseen(data, draws_TxK, users_TxK), 0)
        batch = batch.replace(negatives_TxK=negatives_TxK, log_q=-jnp.log(unseen_T.astype(jnp.float32))[:, None])
    else:
        shared_K, log_q_K = shared_negatives(config, data, targets_T, negative_key)
        batch = batch.replace(shared_K=shared_K, log_q=log_q_K[None])
    if plan.teachers is not None:
        batch = _with_teachers(plan, data, tables, batch, somebody & (cut == 0), by_length)
    if plan.extra is not None:
        batch = batch.replace(extra=plan.extra(data, tables, batch, jax.random.fold_in(key, _EXTRA)))
    return dealing.deal(batch, plan.shards) if plan.shards > 1 else batch


def _with_teachers(
    plan: BatchPlan, data: Interactions, tables: Tables, batch: Batch, somebody: Array, by_length: Array
) -> Batch:
    """The batch with the similar users' sequences."""
    config, batch_size, max_len, users = plan.config, len(somebody), plan.config.max_len, batch.users_B
    take = split_rows.take if plan.shards > 1 else take_rows
    similar_BxN = take(tables["similar_users"], users)
    taught_B = somebody & jnp.all(similar_BxN >= 0, axis=1)
    similar_M = jnp.maximum(similar_BxN, 0).reshape(-1)
    less = int(config.teacher_input == "input")
    length_M = jnp.clip(data.train_U[similar_M] - less, 0, max_len)
    length_M = jnp.where(jnp.repeat(taught_B, plan.similar), length_M, 0)
    student_M = jnp.repeat(by_length, plan.similar)
    place_M = student_M * plan.similar + jnp.tile(jnp.arange(plan.similar, dtype=jnp.int32), batch_size)
    order_M = jnp.argsort(-length_M, stable=True)
    end_M = (data.start_U + data.train_U)[similar_M] - less
    teachers, _ = layout.lay_out(
        data.items_n,
        end_M[order_M],
        length_M[order_M],
        plan.teachers.buckets,
        config.layout == "padded",
        max_len,
        place_M[order_M],
        jnp.where(jnp.repeat(taught_B, plan.similar), similar_M, -1)[order_M],
        plan.teachers.bin_widths,
    )
    rows_M = jnp.zeros_like(order_M).at[order_M].set(jnp.arange(len(order_M), dtype=order_M.dtype))
    rows_BxN = rows_M.reshape(batch_size, plan.similar)
    return batch.replace(teachers=teachers, teacher_rows_BxN=rows_BxN, distils_B=taught_B)
