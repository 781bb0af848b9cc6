"""FAERec's two alignment losses, over the different items of a batch, each with the number of its occurrences.

What they say is the loss over all occurrences, one row each; what they cost is that of the different items.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from llmesr_jax.models.types import Array, wide

_ROWS, _COLUMNS = 256, 512  # of the logits: `info_nce` holds a block of rows, and works on so many columns at a time


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
    """The loss; and its gradients in x and y, or None: once a block's logits are there, they cost two products more.

    Blocks of rows and, within, of columns; both stop at the last one that occurs, which only the device knows.
    """
    n, width = x_NxD.shape
    rows, columns = min(_ROWS, n), min(_COLUMNS, n)
    pad = lambda z, size: jnp.pad(z, ((0, -n % size),) + ((0, 0),) * (z.ndim - 1))  # noqa: E731
    cut = jax.lax.dynamic_slice_in_dim
    scale = 1 / jnp.maximum(jnp.sum(counts_N), 1)
    count = jnp.max(jnp.where(counts_N > 0, jnp.arange(1, n + 1), 0))
    column_blocks = (count + columns - 1) // columns
    x_NxD, row_counts_N = pad(x_NxD, rows), pad(counts_N, rows)
    log_counts_Jxc = jnp.log(pad(counts_N, columns)).reshape(-1, columns)
    y_JxcxD = pad(y_NxD, columns).reshape(-1, columns, width)
    y_JxDxc = y_JxcxD.swapaxes(1, 2)  # once, and not in every turn
    gradients = (jnp.zeros_like(x_NxD), jnp.zeros_like(y_JxDxc)) if with_gradient else None

    def one(i, carry):
        total, gradients = carry
        x_bxD, counts_b = cut(x_NxD, i * rows, rows), cut(row_counts_N, i * rows, rows)
        row_bx1 = (i * rows + jnp.arange(rows))[:, None]
        own = lambda j: row_bx1 == (j * columns + jnp.arange(columns))[None, :]  # noqa: E731

        def fill(j, carry):
            logits, own_b, highest_b = carry
            part = x_bxD @ y_JxDxc[j]
            own_b = own_b + jnp.sum(jnp.where(own(j), part, 0), axis=1)
            part = jnp.where(own(j), part, part + log_counts_Jxc[j][None, :])
            logits = jax.lax.dynamic_update_slice_in_dim(logits, part, j * columns, 1)
            return logits, own_b, jnp.maximum(highest_b, jnp.max(part, axis=1))

        zero_b, empty = jnp.zeros(rows, x_NxD.dtype), jnp.zeros((rows, log_counts_Jxc.size), x_NxD.dtype)
        logits, own_b, highest_b = jax.lax.fori_loop(0, column_blocks, fill, (empty, zero_b, zero_b - jnp.inf))
        weigh = lambda j: jnp.exp(cut(logits, j * columns, columns, 1) - highest_b[:, None])  # noqa: E731
        sums_b = jax.lax.fori_loop(0, column_blocks, lambda j, s: s + jnp.sum(weigh(j), axis=1), zero_b)
        each_b = jnp.where(counts_b > 0, counts_b * (jnp.log(sums_b) + highest_b - own_b), 0)
        total = total + jnp.sum(each_b) * scale
        if not with_gradient:
            return total, None

        def back(j, carry):
            dx_bxD, dy_JxDxc = carry
            by_logit = (weigh(j) / sums_b[:, None] - own(j).astype(x_NxD.dtype)) * (counts_b * scale)[:, None]
            return dx_bxD + by_logit @ y_JxcxD[j], dy_JxDxc.at[j].add(x_Dxb @ by_logit)

        dx_NxD, dy_JxDxc = gradients
        x_Dxb = x_bxD.T
        dx_bxD, dy_JxDxc = jax.lax.fori_loop(0, column_blocks, back, (jnp.zeros_like(x_bxD), dy_JxDxc))
        return total, (jax.lax.dynamic_update_slice_in_dim(dx_NxD, dx_bxD, i * rows, 0), dy_JxDxc)

    start = jnp.zeros((), x_NxD.dtype), gradients
    total, gradients = jax.lax.fori_loop(0, (count + rows - 1) // rows, one, start)
    if not with_gradient:
        return (total,)
    dx_NxD, dy_JxDxc = gradients
    return total, dx_NxD[:n], dy_JxDxc.swapaxes(1, 2).reshape(-1, width)[:n]


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
