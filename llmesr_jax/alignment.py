"""FAERec's two alignment losses, over the different items of a batch, each with the number of its occurrences.

What they say is the loss over all occurrences, one row each; what they cost is that of the different items.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from llmesr_jax.contracts import Array, wide

_BLOCK = 256  # rows whose logits `info_nce` holds at a time


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
