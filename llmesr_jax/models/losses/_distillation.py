"""Losses between two sets of vectors, self-distillation and contrast, for methods' own terms."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from llmesr_jax.models.losses._means import masked_mean
from llmesr_jax.models.types import Array, wide


def squared_error(
    students_BxE: Array,
    teachers_BxE: Array,
    *,
    where: Array,
    reduction: str = "mean",
    weights_B: Array | None = None,
) -> Array:
    """Self-distillation: mean over users of the squared error, averaged ("mean") or added ("sum") over components.

    LLM-ESR eq. 9 is the sum; its release, and both presets, take the mean over the E components.

    Args:
      students_BxE, teachers_BxE: (B, E); the caller stops the teachers' gradient.
      where: bool (B,), users that count.
      reduction: "mean" or "sum" over components.
      weights_B: (B,) factor of each user's error; None for 1.
    Returns: (), of at least float32; 0 if no user counts.
    """
    dtype = wide(students_BxE)
    square_BxE = jnp.square(students_BxE.astype(dtype) - teachers_BxE.astype(dtype))
    per_user_B = jnp.sum(square_BxE, axis=1) if reduction == "sum" else jnp.mean(square_BxE, axis=1)
    return masked_mean(per_user_B if weights_B is None else per_user_B * weights_B.astype(dtype), where)


def soft_contrastive(x_NxE: Array, y_NxE: Array, *, where: Array, weights_N: Array | None = None) -> Array:
    """Contrastive loss with soft targets, both directions (LLM-ESR's release, `Contrastive_Loss2`, temperature 1).

    logits = X Y^T, targets = softmax over the last axis of (X X^T + Y Y^T) / 2, loss = mean over rows of
    (CE(logits, targets) + CE(logits^T, targets^T)) / 2. Gradient flows through the targets.

    Args:
      x_NxE, y_NxE: (N, E) paired rows.
      where: bool (N,), rows that exist; the others are neither rows nor columns.
      weights_N: (N,) factor of each row's part of the mean; None for 1.
    Returns: (), of at least float32; 0 if no row exists.
    """
    dtype = wide(x_NxE)
    x_NxE, y_NxE, hidden = x_NxE.astype(dtype), y_NxE.astype(dtype), jnp.asarray(-1e9, dtype)
    logits = x_NxE @ y_NxE.T
    similarity = (x_NxE @ x_NxE.T + y_NxE @ y_NxE.T) / 2
    targets = jax.nn.softmax(jnp.where(where[None, :], similarity, hidden), axis=-1)
    pair = where[:, None] & where[None, :]

    def cross_entropy(logits_NxN, targets_NxN):
        log_p = jax.nn.log_softmax(jnp.where(where[None, :], logits_NxN, hidden), axis=-1)
        return jnp.sum(jnp.where(pair, -targets_NxN * log_p, jnp.zeros((), log_p.dtype)), axis=1)

    each_N = (cross_entropy(logits, targets) + cross_entropy(logits.T, targets.T)) / 2
    return masked_mean(each_N if weights_N is None else each_N * weights_N.astype(dtype), where)
