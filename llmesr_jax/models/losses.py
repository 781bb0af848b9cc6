"""The losses, one function each: pure, differentiable, masked by a keyword-only `where`.

>>> import jax.numpy as jnp
>>> float(bpr(jnp.array([2.0]), jnp.array([[0.0]]), where=jnp.array([True])))  # log(1 + e^-2)
0.12692801654338837
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp

from llmesr_jax.core.knobs import knob
from llmesr_jax.models.types import Array, wide

_NEVER = -1e30  # the score of a negative that does not count; finite, so that no gradient is NaN
_BLOCK_SCORES = 2**24  # scores that `softmax` holds at once


def masked_mean(x: Array, where: Array) -> Array:
    """Mean of x over the true entries of `where` (same shape); 0 if there are none."""
    count = jnp.maximum(jnp.sum(where), 1).astype(x.dtype)
    return jnp.sum(jnp.where(where, x, jnp.zeros((), x.dtype))) / count


def bpr(positive_T: Array, negative_TxK: Array, *, where: Array, drawn: Array | None = None) -> Array:
    """Pairwise ranking: mean of -log sigmoid(s+ - s-) over the pairs of real positions.

    LLM-ESR eq. 6; Rendle et al. 2009.

    Args:
      positive_T: (T,) scores of the targets.
      negative_TxK: (T, K) scores of the sampled negatives.
      where: bool (T,), positions that count.
      drawn: bool (T, K), negatives that count; None for all.
    Returns: ().
    """
    pairs_TxK = jax.nn.softplus(negative_TxK - positive_T[:, None])
    return masked_mean(_mean_drawn(pairs_TxK, drawn), where)


def bce(positive_T: Array, negative_TxK: Array, *, where: Array, drawn: Array | None = None) -> Array:
    """Binary cross-entropy: mean of -log sigmoid(s+) plus mean of -log sigmoid(-s-).

    The ranking loss of both papers' releases: each mean is over its own entries. Shapes as in `bpr`.
    """
    positive = masked_mean(jax.nn.softplus(-positive_T), where)
    return positive + masked_mean(_mean_drawn(jax.nn.softplus(negative_TxK), drawn), where)


def gbce(
    positive_T: Array,
    negative_TxK: Array,
    *,
    where: Array,
    drawn: Array | None = None,
    num_items: int,
    calibration: float,
) -> Array:
    """Generalised BCE: mean of -(beta log sigmoid(s+) + sum_k log sigmoid(-s-_k)) / (K + 1).

    beta = a (t (1 - 1 / a) + 1 / a), where a = K / (V - 1) is the share of negatives that is drawn: beta undoes the
    overconfidence that drawing few of them causes. t = 0 is BCE, t = 1 calibrates fully (gSASRec, Petrov and Macdonald
    2023, eqs. 6 to 9). Other arguments as in `bpr`.

    Args:
      num_items: V.
      calibration: t, in [0, 1].
    """
    count = negative_TxK.shape[1]
    share = min(count / (num_items - 1), 1.0)
    beta = share * (calibration * (1 - 1 / share) + 1 / share)
    total_T = beta * jax.nn.softplus(-positive_T) + count * _mean_drawn(jax.nn.softplus(negative_TxK), drawn)
    return masked_mean(total_T / (count + 1), where)


def sampled_softmax(
    positive_T: Array, negative_TxK: Array, *, where: Array, drawn: Array | None = None, log_draws: Array | None = None
) -> Array:
    """Cross-entropy of the target among itself and the negatives: mean of log(e^s+ + sum_k w_k e^s-_k) - s+.

    w_k = 1, or 1 / (K q_k) with `log_draws`: then the sum estimates the one over all other items without bias, and the
    loss tends to `softmax` as K grows. The target is not corrected, because it is not drawn (Bengio and Senecal 2008).
    Other arguments as in `bpr`.

    Args:
      log_draws: log K q_k, of how many of the K draws give this negative on average; broadcasts to (T, K).
    """
    if log_draws is not None:
        negative_TxK = negative_TxK - log_draws
    if drawn is not None:
        negative_TxK = jnp.where(drawn, negative_TxK, jnp.asarray(_NEVER, negative_TxK.dtype))
    scores_TxC = jnp.concatenate([positive_T[:, None], negative_TxK], axis=1)
    return masked_mean(jax.nn.logsumexp(scores_TxC, axis=1) - positive_T, where)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def softmax(h_TxE: Array, items_VxE: Array, targets_T: Array, scale: Array, block: int = 0) -> Array:
    """Cross-entropy of the target among all items: mean over positions with a target of log sum_v e^s_v - s+.

    Scores are h . item * scale. Computed in blocks of positions, each with its share of the gradients, so memory
    holds (block, V) scores and never (T, V); a position without a target takes part in nothing.

    Args:
      h_TxE: (T, E) user vectors after each slot.
      items_VxE: (V, E) item vectors, row 0 = id 1.
      targets_T: int32 (T,) item ids, 0 where there is none.
      scale: (), 1 / temperature; not differentiated.
      block: positions at a time; 0 for what fits 64 MiB of scores.
    Returns: ().
    """
    return _softmax(h_TxE, items_VxE, targets_T, scale, block, gradients=False)[0]


def _softmax(h_TxE, items_VxE, targets_T, scale, block, gradients):
    """The loss, and its gradients in h and items if wanted (else None)."""
    num_slots, num_items = len(h_TxE), len(items_VxE)
    block = min(block or max(_BLOCK_SCORES // num_items, 1), num_slots)
    blocks = -(-num_slots // block)
    block = -(-num_slots // blocks)  # of equal size, so that little is padded
    padding = blocks * block - num_slots
    dtype = wide(h_TxE)
    count = jnp.maximum(jnp.sum(targets_T > 0), 1).astype(dtype)
    h = jnp.pad(h_TxE, ((0, padding), (0, 0))).reshape(blocks, block, -1)
    targets = jnp.pad(targets_T, (0, padding)).reshape(blocks, block)

    def one(carry, part):
        total, items_gradient = carry
        h_NxE, target_N = part
        scores_NxV = jnp.matmul(h_NxE, items_VxE.T, preferred_element_type=dtype) * scale
        weight_N = (target_N > 0).astype(dtype) / count
        at = jnp.maximum(target_N - 1, 0)
        highest_Nx1 = scores_NxV.max(axis=1, keepdims=True)
        e_NxV = jnp.exp(scores_NxV - highest_Nx1)
        sum_Nx1 = e_NxV.sum(axis=1, keepdims=True)
        target_score_N = jnp.take_along_axis(scores_NxV, at[:, None], axis=1)[:, 0]
        total = total + jnp.sum(weight_N * (jnp.log(sum_Nx1[:, 0]) + highest_Nx1[:, 0] - target_score_N))
        if not gradients:
            return (total, None), None
        p_NxV = (e_NxV * (weight_N[:, None] / sum_Nx1 * scale)).astype(h_NxE.dtype)
        weight_Nx1 = (weight_N * scale)[:, None]
        h_gradient = jnp.matmul(p_NxV, items_VxE, preferred_element_type=dtype)
        h_gradient = h_gradient - weight_Nx1 * jnp.take(items_VxE, at, axis=0, mode="clip").astype(dtype)
        items_gradient = items_gradient + jnp.matmul(p_NxV.T, h_NxE, preferred_element_type=dtype)
        items_gradient = items_gradient.at[at].add(-weight_Nx1 * h_NxE.astype(dtype))
        return (total, items_gradient), h_gradient.astype(h_NxE.dtype)

    start = jnp.zeros((), dtype), jnp.zeros(items_VxE.shape, dtype) if gradients else None
    (total, items_gradient), h_gradient = jax.lax.scan(one, start, (h, targets))
    if gradients:
        h_gradient = h_gradient.reshape(blocks * block, -1)[:num_slots]
    return total, h_gradient, items_gradient


def _softmax_forward(h_TxE, items_VxE, targets_T, scale, block):
    total, h_gradient, items_gradient = _softmax(h_TxE, items_VxE, targets_T, scale, block, gradients=True)
    return total, (h_gradient, items_gradient.astype(items_VxE.dtype))


def _softmax_backward(block, gradients, upstream):
    h_gradient, items_gradient = gradients
    return (
        upstream.astype(h_gradient.dtype) * h_gradient,
        upstream.astype(items_gradient.dtype) * items_gradient,
        None,
        None,
    )


softmax.defvjp(_softmax_forward, _softmax_backward)


def _mean_drawn(x_TxK: Array, drawn: Array | None) -> Array:
    """(T,) mean over the negatives that count; 0 where there are none."""
    if drawn is None:
        return jnp.mean(x_TxK, axis=1)
    count_T = jnp.maximum(jnp.sum(drawn, axis=1), 1).astype(x_TxK.dtype)
    return jnp.sum(jnp.where(drawn, x_TxK, jnp.zeros((), x_TxK.dtype)), axis=1) / count_T


RANKING = ("bpr", "bce", "gbce", "sampled_softmax", "softmax")
SCORES = ("dot", "cosine")


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The ranking loss, one setting for every method and backbone. What is drawn for it: `data.negatives`."""

    ranking: str = knob(
        "bpr",
        "bpr (preset paper) | bce (preset release) | gbce | sampled_softmax | softmax (over all items, none drawn)",
        choices=RANKING,
    )
    log_q: bool = knob(False, "sampled_softmax: weigh a negative by 1 / (K its probability), which tends to softmax")
    calibration: float = knob(0.75, "gbce: t, from 0 (bce) to 1 (calibrated)", least=0, most=1, traced=True)
    score: str = knob("dot", "dot | cosine (of user and item vector), in training and in ranking", choices=SCORES)
    temperature: float = knob(1.0, "scores are divided by it in the loss", least=1e-6, traced=True)


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
