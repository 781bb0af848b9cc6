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


_BLOCK = 512  # rows whose logits `info_nce` holds at a time


def info_nce(x_NxD: Array, y_NxD: Array, counts_N: Array, *, temperature: float) -> Array:
    """Contrastive loss in one direction between paired rows that stand for several occurrences each (FAERec eq. 5).

    s_ij = cos(x_i, y_j) / temperature; loss = mean over occurrences of
    log(exp(s_ii) + sum over j != i of counts_j exp(s_ij)) - s_ii. That is the plain loss over all occurrences, in which
    other occurrences of the same row are no negatives, at the cost of the different rows alone.

    Works in blocks of rows, forth and back: never an (N, N) array.

    Args:
      x_NxD, y_NxD: paired rows, row i is item i.
      counts_N: how often each occurs; 0: neither a row nor a negative.
      temperature: of the softmax.
    Returns: (); 0 if nothing occurs.
    """
    dtype = wide(x_NxD)
    return _info_nce(_unit(x_NxD.astype(dtype)) / temperature, _unit(y_NxD.astype(dtype)), counts_N.astype(dtype))


def _unit(x_NxD: Array) -> Array:
    return x_NxD * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x_NxD), axis=1, keepdims=True), 1e-24))


def _info_nce_blocks(x_NxD: Array, y_NxD: Array, counts_N: Array, with_gradient: bool):
    """The loss; and its gradients in x and y, or None: once a block's logits are there, they cost two products more."""
    n, width = x_NxD.shape
    size = min(_BLOCK, n)
    blocks = lambda z: jnp.pad(z, ((0, -n % size),) + ((0, 0),) * (z.ndim - 1)).reshape(-1, size, *z.shape[1:])  # noqa: E731
    log_counts_N = jnp.log(counts_N)
    scale = 1 / jnp.maximum(jnp.sum(counts_N), 1)
    column_1xN = jnp.arange(n)[None, :]
    none = jnp.zeros((size if with_gradient else 0, width), x_NxD.dtype)

    def one(dy_NxD, block):
        x_bxD, counts_b, row_b = block
        own = row_b[:, None] == column_1xN
        logits = x_bxD @ y_NxD.T
        own_b = jnp.sum(jnp.where(own, logits, 0), axis=1)
        logits = jnp.where(own, logits, logits + log_counts_N[None, :])
        highest = jnp.max(logits, axis=1, keepdims=True)
        weights = jnp.exp(logits - highest)
        sums = jnp.sum(weights, axis=1, keepdims=True)
        loss = jnp.sum(counts_b * (jnp.log(sums[:, 0]) + highest[:, 0] - own_b)) * scale
        if not with_gradient:
            return dy_NxD, (loss, none)
        by_logit = (weights / sums - own.astype(weights.dtype)) * (counts_b * scale)[:, None]
        return dy_NxD + by_logit.T @ x_bxD, (loss, by_logit @ y_NxD)

    def one_if_any(dy_NxD, block):
        nothing = lambda dy, _: (dy, (jnp.zeros((), dy.dtype), none))  # noqa: E731
        return jax.lax.cond(jnp.any(block[1] > 0), one, nothing, dy_NxD, block)

    start = jnp.zeros_like(y_NxD if with_gradient else y_NxD[:0])
    rows = blocks(jnp.arange(n, dtype=jnp.int32))
    dy_NxD, (losses, dx) = jax.lax.scan(one_if_any, start, (blocks(x_NxD), blocks(counts_N), rows))
    return jnp.sum(losses), dx.reshape(-1, width)[:n] if with_gradient else None, dy_NxD


@jax.custom_vjp
def _info_nce(x_NxD: Array, y_NxD: Array, counts_N: Array) -> Array:
    return _info_nce_blocks(x_NxD, y_NxD, counts_N, False)[0]


def _info_nce_forward(x_NxD, y_NxD, counts_N):
    value, *gradients = _info_nce_blocks(x_NxD, y_NxD, counts_N, True)
    return value, gradients


def _info_nce_backward(gradients, by_value):
    return *(g * by_value for g in gradients), None


_info_nce.defvjp(_info_nce_forward, _info_nce_backward)


def barlow_twins(x_NxD: Array, y_NxD: Array, counts_N: Array, *, redundancy: float) -> Array:
    """Correlates each dimension of x with the same one of y, and with no other (FAERec eqs. 7 to 9; Barlow Twins).

    z = (x - mean) / (std + 1e-5) with the unbiased standard deviation, C = Z_x^T Z_y / n,
    loss = sum_i (1 - C_ii)^2 + redundancy * sum over i != j of C_ij^2.

    Args:
      x_NxD, y_NxD: paired rows.
      counts_N: how often each row counts; n is their sum.
      redundancy: lambda.
    Returns: (); 0 for fewer than 2 rows.
    """
    dtype = wide(x_NxD)
    counts_Nx1 = counts_N.astype(dtype)[:, None]
    n = jnp.sum(counts_Nx1)

    def standard(x_NxD):
        x_NxD = x_NxD.astype(dtype)
        x_NxD = x_NxD - jnp.sum(counts_Nx1 * x_NxD, axis=0, keepdims=True) / jnp.maximum(n, 1)
        variance = jnp.sum(counts_Nx1 * jnp.square(x_NxD), axis=0, keepdims=True) / jnp.maximum(n - 1, 1)
        varies = variance > 0
        return x_NxD / (jnp.where(varies, jnp.sqrt(jnp.where(varies, variance, 1)), 0) + 1e-5)

    correlation = standard(x_NxD).T @ (counts_Nx1 * standard(y_NxD)) / jnp.maximum(n, 1)
    diagonal = jnp.diagonal(correlation)
    off = jnp.sum(jnp.square(correlation)) - jnp.sum(jnp.square(diagonal))
    return jnp.where(n > 1, jnp.sum(jnp.square(1 - diagonal)) + redundancy * off, 0)


def lower_median(values_N: Array, counts_N: Array) -> Array:
    """The lower median of values of which each occurs so often; anything if none occurs. Returns: ()."""
    order = jnp.argsort(values_N)
    before = jnp.cumsum(counts_N[order])
    half = (jnp.sum(counts_N) + 1) // 2
    return values_N[order][jnp.argmax(before >= half)]


def feature_alignment(
    x_NxD: Array, y_NxD: Array, counts_N: Array, popularity_N: Array, *, redundancy: float, groups: bool = True
) -> Array:
    """`barlow_twins` among popular items plus the same among the others (FAERec eqs. 6 to 10).

    Popular: at or above the lower median of the popularity of all occurrences.

    Args:
      counts_N: int32, how often each row counts.
      popularity_N: int32 popularity of each row's item.
      groups: False: all rows together (w/o PG).
    """
    twins = functools.partial(barlow_twins, x_NxD, y_NxD, redundancy=redundancy)
    if not groups:
        return twins(counts_N)
    popular_N = popularity_N >= lower_median(popularity_N, counts_N)
    return twins(jnp.where(popular_N, counts_N, 0)) + twins(jnp.where(popular_N, 0, counts_N))
