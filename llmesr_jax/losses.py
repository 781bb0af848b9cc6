"""The losses, one function each: pure, differentiable, masked by a keyword-only `where`.

>>> import jax.numpy as jnp
>>> float(bpr(jnp.array([2.0]), jnp.array([[0.0]]), where=jnp.array([True])))  # log(1 + e^-2)
0.12692801654338837
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from llmesr_jax.contracts import Array, knob, wide


def masked_mean(x: Array, where: Array) -> Array:
    """Mean of x over the true entries of `where` (same shape); 0 if there are none."""
    count = jnp.maximum(jnp.sum(where), 1).astype(x.dtype)
    return jnp.sum(jnp.where(where, x, jnp.zeros((), x.dtype))) / count


def bpr(positive_T: Array, negative_TxK: Array, *, where: Array) -> Array:
    """Pairwise ranking: mean of -log sigmoid(s+ - s-) over the pairs of real positions.

    LLM-ESR eq. 6; Rendle et al. 2009.

    Args:
      positive_T: (T,) scores of the targets.
      negative_TxK: (T, K) scores of the sampled negatives.
      where: bool (T,), positions that count.
    Returns: ().
    """
    pairs_TxK = jax.nn.softplus(negative_TxK - positive_T[:, None])
    return masked_mean(jnp.mean(pairs_TxK, axis=1), where)


def bce(positive_T: Array, negative_TxK: Array, *, where: Array) -> Array:
    """Binary cross-entropy: mean of -log sigmoid(s+) plus mean of -log sigmoid(-s-).

    The ranking loss of both papers' releases: each mean is over its own entries. Shapes as in `bpr`.
    """
    positive = masked_mean(jax.nn.softplus(-positive_T), where)
    return positive + masked_mean(jnp.mean(jax.nn.softplus(negative_TxK), axis=1), where)


RANKING = {"bpr": bpr, "bce": bce}


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The ranking loss, one setting for every method and backbone."""

    ranking: str = knob("bpr", "ranking loss: bpr (preset paper) or bce (preset release)", choices=tuple(RANKING))


def squared_error(students_BxE: Array, teachers_BxE: Array, *, where: Array, reduction: str = "mean") -> Array:
    """Self-distillation: mean over users of the squared error, averaged ("mean") or added ("sum") over components.

    LLM-ESR eq. 9 is the sum; its release, and both presets, take the mean over the E components.

    Args:
      students_BxE, teachers_BxE: (B, E); the caller stops the teachers' gradient.
      where: bool (B,), users that count.
    """
    dtype = wide(students_BxE)
    square_BxE = jnp.square(students_BxE.astype(dtype) - teachers_BxE.astype(dtype))
    per_user_B = jnp.sum(square_BxE, axis=1) if reduction == "sum" else jnp.mean(square_BxE, axis=1)
    return masked_mean(per_user_B, where)


def soft_contrastive(x_NxE: Array, y_NxE: Array, *, where: Array) -> Array:
    """Contrastive loss with soft targets, both directions (LLM-ESR's release, `Contrastive_Loss2`, temperature 1).

    logits = X Y^T, targets = softmax over the last axis of (X X^T + Y Y^T) / 2, loss = mean over rows of
    (CE(logits, targets) + CE(logits^T, targets^T)) / 2. Gradient flows through the targets.

    Args:
      x_NxE, y_NxE: (N, E) paired rows.
      where: bool (N,), rows that exist; the others are neither rows nor columns.
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

    return masked_mean((cross_entropy(logits, targets) + cross_entropy(logits.T, targets.T)) / 2, where)
