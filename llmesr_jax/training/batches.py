"""Batches, built on the device: sequences laid out in rows, targets, negatives, the cloze task's masks.

The host plans which users come in which order, and the lengths of rows (`training.epoch_plan`). Everything else,
including random numbers, is computed inside the jitted step. Random numbers are drawn per (student, position), so they
do not depend on the layout of rows.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from llmesr_jax.models.kernels import split_rows
from llmesr_jax.models.layers.dense import take_rows
from llmesr_jax.models.types import Array, Batch, Tables
from llmesr_jax.ranking import layout
from llmesr_jax.training import dealing
from llmesr_jax.training.epoch_plan import BatchPlan, cut
from llmesr_jax.training.interactions import (
    Interactions,
    below,
    shared_negatives,
    unseen,
)

_EXTRA = 17  # folded into the step's key for what a method adds


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
    lacks = cut(plan, samples_B, num_users)
    length = jnp.where(somebody, jnp.minimum(data.train_U[users] - lacks - behind, max_len), 0)
    by_length = jnp.argsort(-length, stable=True).astype(jnp.int32)
    somebody, users, length, lacks = somebody[by_length], users[by_length], length[by_length], lacks[by_length]
    end = data.start_U[users] + data.train_U[users] - lacks - behind
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
        batch = batch.replace(shared_K=shared_K, log_q=log_q_K[None], shared_targets=config.negatives == "in_batch")
    if plan.teachers is not None:
        batch = _with_teachers(plan, data, tables, batch, somebody & (lacks == 0), by_length)
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
