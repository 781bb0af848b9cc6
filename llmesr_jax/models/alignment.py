"""FAERec's two alignment losses, computed over the distinct items of a batch, each weighted by its occurrences.

Their values are those over all occurrences, one row each; their cost is that of the distinct items.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from llmesr_jax.models.kernels import turns
from llmesr_jax.models.types import Array, wide

_ROWS, _COLUMNS = 256, 512  # `info_nce` holds the logits of so many rows, and computes so many columns at a time


def info_nce(
    x_NxD: Array,
    y_MxD: Array,
    counts_M: Array,
    *,
    temperature: float,
    pairs_N: Array | None = None,
    weights_N: Array | None = None,
    whole: bool = False,
) -> Array:
    """InfoNCE in one direction between paired rows, each of which stands for several occurrences (FAERec eq. 5).

    s_ij = cos(x_i, y_j) / temperature, p the pair of i; loss = mean over i, weighted by occurrences, of
    log(exp(s_ip) + sum over j != p of counts_j exp(s_ij)) - s_ip. This equals the loss over all occurrences, in which
    other occurrences of the same y are not negatives, at the cost of the distinct rows.

    Without `whole`, the forward and the backward pass work in blocks of rows and never hold an (N, M) array. The
    gradient in y is computed only if it is needed.

    Args:
      x_NxD, y_MxD: float rows, of any length.
      counts_M: int or float, how often each y occurs; 0: it is not a negative.
      temperature: of the softmax.
      pairs_N: int32, which y each x is paired with; None: row i with row i, and M = N.
      weights_N: how often each x counts, 0: not at all; the pair of one that counts must occur. None, possible only
        without `pairs_N`: as often as its y.
      whole: all rows and columns at once where memory allows, see `kernels.turns`; static.
    Returns: (), of at least float32; 0 if nothing occurs.
    """
    dtype = wide(x_NxD)
    pairs_N = jnp.arange(len(x_NxD), dtype=jnp.int32) if pairs_N is None else pairs_N
    counts_M = counts_M.astype(dtype)
    weights_N = counts_M if weights_N is None else weights_N.astype(dtype)
    x_NxD, y_MxD = _unit(x_NxD.astype(dtype)) / temperature, _unit(y_MxD.astype(dtype))
    return _info_nce(whole, x_NxD, y_MxD, counts_M, weights_N, pairs_N)


def _unit(x_NxD: Array) -> Array:
    return x_NxD * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x_NxD), axis=1, keepdims=True), 1e-24))


def _info_nce_blocks(
    whole: bool, x_NxD: Array, y_MxD: Array, counts_M: Array, weights_N: Array, pairs_N: Array, wants: int
):
    """The loss and a list of its gradients, computed while a block's logits are in memory: one more product for each.

    Loops over blocks of rows and, inside, of columns. Both stop at the last row and column that occurs, which only the
    device knows. With `whole` all columns are one block.

    Args:
      wants: how many gradients: 0; 1, in x; or 2, in x and y.
    """
    n, m, width = *(len(a) for a in (x_NxD, y_MxD)), x_NxD.shape[1]
    rows, columns = turns.size(n, _ROWS, m, whole), turns.size(m, _COLUMNS, 1, whole)
    pad = lambda z, size: jnp.pad(z, ((0, -len(z) % size),) + ((0, 0),) * (z.ndim - 1))  # noqa: E731
    cut = jax.lax.dynamic_slice_in_dim
    scale = 1 / jnp.maximum(jnp.sum(weights_N), 1)
    last = lambda z: jnp.max(jnp.where(z > 0, jnp.arange(1, len(z) + 1), 0))  # noqa: E731
    column_blocks = -(-m // columns) if whole else (last(counts_M) + columns - 1) // columns
    row_blocks = -(-n // rows) if whole else (last(weights_N) + rows - 1) // rows
    x_NxD, weights_N, pairs_N = (pad(z, rows) for z in (x_NxD, weights_N, pairs_N))
    log_counts_Jxc = jnp.log(pad(counts_M, columns)).reshape(-1, columns)
    y_JxcxD = pad(y_MxD, columns).reshape(-1, columns, width)
    y_JxDxc = y_JxcxD.swapaxes(1, 2)  # once, not in every turn of the loop
    gradients = (jnp.zeros_like(x_NxD), jnp.zeros_like(y_JxDxc))[:wants]

    def one(i, carry):
        total, gradients = carry
        x_bxD, weights_b, pairs_b = (cut(z, i * rows, rows) for z in (x_NxD, weights_N, pairs_N))
        own = lambda j: pairs_b[:, None] == (j * columns + jnp.arange(columns))[None, :]  # noqa: E731

        def fill(j, carry):
            logits, own_b, highest_b = carry
            part = x_bxD @ y_JxDxc[j]
            own_b = own_b + jnp.sum(jnp.where(own(j), part, 0), axis=1)
            part = jnp.where(own(j), part, part + log_counts_Jxc[j][None, :])
            logits = jax.lax.dynamic_update_slice_in_dim(logits, part, j * columns, 1)
            return logits, own_b, jnp.maximum(highest_b, jnp.max(part, axis=1))

        zero_b, empty = jnp.zeros(rows, x_NxD.dtype), jnp.zeros((rows, log_counts_Jxc.size), x_NxD.dtype)
        logits, own_b, highest_b = turns.run(column_blocks, fill, (empty, zero_b, zero_b - jnp.inf))
        weigh = lambda j: jnp.exp(cut(logits, j * columns, columns, 1) - highest_b[:, None])  # noqa: E731
        sums_b = turns.run(column_blocks, lambda j, s: s + jnp.sum(weigh(j), axis=1), zero_b)
        each_b = jnp.where(weights_b > 0, weights_b * (jnp.log(sums_b) + highest_b - own_b), 0)
        total = total + jnp.sum(each_b) * scale
        if not wants:
            return total, gradients

        x_Dxb = x_bxD.T

        def back(j, carry):
            by_logit = (weigh(j) / sums_b[:, None] - own(j).astype(x_NxD.dtype)) * (weights_b * scale)[:, None]
            by_x = carry[0] + by_logit @ y_JxcxD[j]
            return (by_x, *(by_y.at[j].add(x_Dxb @ by_logit) for by_y in carry[1:]))

        by_x, *by_y = turns.run(column_blocks, back, (jnp.zeros_like(x_bxD), *gradients[1:]))
        return total, (jax.lax.dynamic_update_slice_in_dim(gradients[0], by_x, i * rows, 0), *by_y)

    total, gradients = turns.run(row_blocks, one, (jnp.zeros((), x_NxD.dtype), gradients))
    by_y = [g.swapaxes(1, 2).reshape(-1, width)[:m] for g in gradients[1:]]
    return total, [*(g[:n] for g in gradients[:1]), *by_y]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _info_nce(whole: bool, x_NxD: Array, y_MxD: Array, counts_M: Array, weights_N: Array, pairs_N: Array) -> Array:
    return _info_nce_blocks(whole, x_NxD, y_MxD, counts_M, weights_N, pairs_N, 0)[0]


def _info_nce_forward(whole, x, y, counts, weights, pairs):
    return _info_nce_blocks(whole, *(a.value for a in (x, y, counts, weights, pairs)), 2 if y.perturbed else 1)


def _info_nce_backward(whole, gradients, by_value):
    by_x, by_y = (*(g * by_value for g in gradients), None)[:2]
    return by_x, by_y, None, None, None


_info_nce.defvjp(_info_nce_forward, _info_nce_backward, symbolic_zeros=True)


def barlow_twins(x_NxD: Array, y_NxD: Array, counts_N: Array, *, redundancy: float) -> Array:
    """Makes each dimension of x correlate with the same one of y, and with no other (FAERec eqs. 7 to 9; Barlow Twins).

    z = (x - mean) / (std + 1e-5) with the unbiased standard deviation, C = Z_x^T Z_y / n,
    loss = sum_i (1 - C_ii)^2 + redundancy * sum over i != j of C_ij^2.

    Args:
      x_NxD, y_NxD: paired float rows.
      counts_N: int or float, how often each row counts; n is their sum.
      redundancy: lambda, weight of the off-diagonal part.
    Returns: (), of at least float32; 0 if n is at most 1.
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
    """(): the lower median of values, each counted as often as it occurs; an arbitrary one if none occurs."""
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
      x_NxD, y_NxD: paired float rows.
      counts_N: int or float, how often each row counts.
      popularity_N: int32 popularity of each row's item.
      redundancy: lambda of `barlow_twins`.
      groups: False: all rows together (w/o PG).
    Returns: (), of at least float32.
    """
    twins = functools.partial(barlow_twins, x_NxD, y_NxD, redundancy=redundancy)
    if not groups:
        return twins(counts_N)
    popular_N = popularity_N >= lower_median(popularity_N, counts_N)
    return twins(jnp.where(popular_N, counts_N, 0)) + twins(jnp.where(popular_N, 0, counts_N))
