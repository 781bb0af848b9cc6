"""Softmax attention inside each row: self-attention of a backbone, cross-attention between two views.

All functions take flat slots: x is (..., T, D), or (..., R, D) for newest positions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from llmesr_jax.core.errors import InputError
from llmesr_jax.models.kernels.dropout import drop_left_out, drop_weights, of_queries
from llmesr_jax.models.layers.dense import aligned, uniform_bias
from llmesr_jax.models.types import Array, Sequences, wide

_HIDDEN = -1e9  # the score of a masked key; finite, so a row with all keys masked stays finite (uniform)
_LOWERED = 10_000.0  # what FAERec's release takes off a masked key's score


def attend(
    query: Array,
    key_TxD: Array,
    value_TxD: Array,
    sequences: Sequences,
    *,
    heads: int,
    causal: bool,
    mask_padding: bool,
    additive: bool = False,
    padding: tuple[Array, Array] | None = None,
    dropout: tuple[Array, float] | None = None,
) -> tuple[Array, Array | None]:
    """Softmax attention inside each row: softmax(q k^T / sqrt(D / heads)) v (LLM-ESR eq. 4).

    Args:
      query: (..., T, D), or (..., R, D): one query per row, its newest position.
      key_TxD, value_TxD: (..., T, D).
      heads: number of heads; D is a multiple of it.
      causal: a query sees its own and earlier slots only.
      mask_padding: keys in empty slots are masked.
      additive: a masked key's score is lowered by 10,000, not replaced. The result is the same for a query that may see
        some key; a query that may see none (in an empty slot) gets the softmax over all keys.
      padding: the key and value, both (D,), of every padded position. With `mask_padding=False` padding gets attention.
        Rows that leave padding out (`left_out_R`) get one key in its place, weighted by the number of positions left
        out, which gives the same softmax.
      dropout: random key and rate of the dropout of attention weights.

    Returns: an array like `query`; and the sum of each query's weights, (..., T or R, heads), which dropout moves away
      from 1, or None without `dropout`.
    Raises:
      InputError: the width is not a multiple of the heads.
    """
    if query.shape[-1] % heads:
        raise InputError(
            f"{heads} attention heads do not divide a width of {query.shape[-1]}; expected a multiple of the heads; "
            "change one of the two"
        )
    last_only = query.shape[-2] != key_TxD.shape[-2]

    def split_heads(x):  # (..., L, D) -> (..., heads, L, D / heads); one head has no axis, which spares copies
        return jnp.moveaxis(x.reshape(*x.shape[:-1], heads, -1), -2, -3) if heads > 1 else x

    def merge_heads(x):
        return jnp.moveaxis(x, -3, -2).reshape(*x.shape[:-3], x.shape[-2], -1) if heads > 1 else x

    query = query * (query.shape[-1] // heads) ** -0.5
    queries = sequences.split_by_bin(query) if last_only else sequences.split(query)
    keys, values, real = sequences.split(key_TxD), sequences.split(value_TxD), sequences.split(sequences.valid_T, -1)
    apart = _of_one_row(sequences, last_only) if sequences.places.packed else [None] * len(queries)
    in_closed_form = not mask_padding and sequences.left_out_R is not None
    left_out = of_queries(sequences, sequences.left_out_R, last_only) if in_closed_form else [None] * len(queries)
    # The division by the sum of weights follows the product with the values, where it takes fewer operations.
    weights, extras, sums = [], [], []
    for q, k, valid_RxL, apart_RxQxL, left_out_RxQ in zip(queries, keys, real, apart, left_out):
        length = k.shape[-2]
        scores = jnp.einsum("...qd,...kd->...qk", split_heads(q), split_heads(k), preferred_element_type=wide(q))
        mask = valid_RxL[:, None, :] if mask_padding or in_closed_form else jnp.ones((1, 1, length), bool)
        if causal and not last_only:
            place_LxL = functools.partial(jax.lax.broadcasted_iota, jnp.int32, (1, length, length))
            mask = mask & (place_LxL(1) >= place_LxL(2))
        mask = mask if apart_RxQxL is None else mask & apart_RxQxL
        mask = mask[:, None] if heads > 1 else mask
        mask = jnp.expand_dims(mask, tuple(range(scores.ndim - mask.ndim)))
        lowered = scores - _LOWERED if additive else jnp.asarray(_HIDDEN, scores.dtype)
        scores = jnp.where(mask, scores, lowered)
        highest = jax.lax.stop_gradient(scores).max(axis=-1, keepdims=True)  # the maximum needs no gradient
        if in_closed_form:
            padded_key = split_heads(padding[0].astype(scores.dtype)[None])  # (1, D) or (heads, 1, D / heads)
            score = jnp.sum(split_heads(q).astype(scores.dtype) * aligned(padded_key, scores), axis=-1, keepdims=True)
            count = left_out_RxQ.astype(scores.dtype)[..., None]
            count = count[:, None] if heads > 1 else count
            count = jnp.broadcast_to(jnp.expand_dims(count, tuple(range(score.ndim - count.ndim))), score.shape)
            score = score + jnp.log(count)
            highest = jnp.maximum(highest, jax.lax.stop_gradient(score))
            extras.append(jnp.exp(score - highest))
        weights.append(jnp.exp(scores - highest))
        sums.append(weights[-1].sum(axis=-1, keepdims=True) + (extras[-1] if in_closed_form else 0))
    if dropout:
        weights = drop_weights(weights, *dropout, sequences, heads)
        extras = drop_left_out(extras, *dropout, sequences, heads) if in_closed_form else extras
    outputs, totals = [], []
    for i, (w, v) in enumerate(zip(weights, values)):
        out = jnp.einsum("...qk,...kd->...qd", w.astype(v.dtype), split_heads(v), preferred_element_type=wide(v))
        total = w.sum(axis=-1, keepdims=True) if dropout else None
        if in_closed_form:
            padded_value = split_heads(padding[1].astype(out.dtype)[None])
            out = out + extras[i] * aligned(padded_value, out)
            total = total + extras[i] if dropout else None
        outputs.append(merge_heads(out / sums[i]).astype(v.dtype))
        totals.append(merge_heads(total / sums[i]).astype(v.dtype) if dropout else None)
    merge = sequences.join_bins if last_only else sequences.join
    return merge(outputs), merge(totals) if dropout else None


def _of_one_row(sequences: Sequences, last_only: bool) -> list[Array]:
    """bool (bins, Q, L) per group: whether a bin's query and key are of one row."""
    rows = sequences.split(jnp.asarray(sequences.row_T), -1)
    queries = [jnp.asarray(table) for table in sequences.places.rows] if last_only else rows
    return [query[:, :, None] == key[:, None, :] for query, key in zip(queries, rows)]


class SelfAttention(nn.Module):
    """Multi-head self-attention whose query and key inputs may differ; q, k, v stacked in one (D, 3D) matrix.

    With one head, keys and values are never formed: q k^T = (q W_k^T) x^T + a number that all keys share, which the
    softmax ignores, and W_v is folded into the output matrix. This is the same function with two matrix products per
    slot, not four.

    Returns (..., Tq, D) for a query input of (..., Tq, D); Tq is T, or R for newest positions.
    """

    heads: int
    causal: bool
    mask_padding: bool
    dropout: float
    additive: bool = False
    kernel_init: Callable[..., Array] = nn.initializers.xavier_normal()

    @nn.compact
    def __call__(self, query: Array, x_TxD: Array, sequences: Sequences, deterministic: bool) -> Array:
        width = x_TxD.shape[-1]
        zeros = nn.initializers.zeros
        kernel = self.param("in_kernel", self.kernel_init, (width, 3 * width)).astype(x_TxD.dtype)
        bias = self.param("in_bias", zeros, (3 * width,)).astype(x_TxD.dtype)
        out_kernel, out_bias = _Affine(width, kernel_init=self.kernel_init, name="out")(x_TxD.dtype)
        (w_q, w_k, w_v), (b_q, b_k, b_v) = jnp.split(kernel, 3, axis=1), jnp.split(bias, 3)
        if self.heads == 1:
            q = query @ (w_q @ w_k.T) + aligned(b_q @ w_k.T, query)
            k, v, padding = x_TxD, x_TxD, (jnp.zeros_like(b_k), jnp.zeros_like(b_v))
        else:
            q = query @ w_q + aligned(b_q, query)
            k, v = (x_TxD @ w + aligned(b, x_TxD) for w, b in ((w_k, b_k), (w_v, b_v)))
            padding = (b_k, b_v)
        drops = not deterministic and self.dropout > 0
        mixed, sums = attend(
            q,
            k,
            v,
            sequences,
            heads=self.heads,
            causal=self.causal,
            mask_padding=self.mask_padding,
            additive=self.additive,
            padding=padding,
            dropout=(self.make_rng("dropout"), self.dropout) if drops else None,
        )
        if self.heads > 1:
            return mixed @ out_kernel + aligned(out_bias, mixed)
        value_bias = b_v @ out_kernel
        mixed = mixed @ (w_v @ out_kernel)
        if sums is None:
            return mixed + aligned(value_bias + out_bias, mixed)
        return mixed + sums @ value_bias[None, :] + aligned(out_bias, mixed)


class CrossAttention(nn.Module):
    """The matrices of attention from one view's sequence to the other's (LLM-ESR eq. 4): Q, K, V without bias.

    `output` adds the release's output projection, with bias. A call returns four matrices (D, D) and the bias (D,), for
    `cross_attend`; without `output` the fourth matrix and the bias are None.
    """

    output: bool

    @nn.compact
    def __call__(self, width: int, dtype: Any) -> tuple[Array | None, ...]:
        matrices = [_Affine(width, None, name=name)(dtype)[0] for name in ("query", "key", "value")]
        output = _Affine(width, uniform_bias(width), name="output")(dtype) if self.output else (None, None)
        return *matrices, *output


def cross_attend(x_2xTxD: Array, sequences: Sequences, modules: Sequence, *, heads: int, causal: bool) -> Array:
    """Replaces each view by attention of the other view's queries to it (LLM-ESR eq. 4): (2, T, D) -> (2, T, D).

    Args:
      modules: a `CrossAttention` for each resulting view.
      heads, causal: as in `attend`; keys in empty slots are masked.
    Raises:
      InputError: D is not a multiple of the heads.
    """
    w_q, w_k, w_v, w_o, b_o = (
        None if parts[0] is None else jnp.stack(parts)
        for parts in zip(*(m(x_2xTxD.shape[-1], x_2xTxD.dtype) for m in modules))
    )
    other = x_2xTxD[::-1]
    if heads == 1:  # as in SelfAttention: W_k is applied to the query, W_v to the result
        query = other @ (w_q @ jnp.swapaxes(w_k, 1, 2))
        mixed = attend(query, x_2xTxD, x_2xTxD, sequences, heads=1, causal=causal, mask_padding=True)[0] @ w_v
    else:
        query, key, value = other @ w_q, x_2xTxD @ w_k, x_2xTxD @ w_v
        mixed = attend(query, key, value, sequences, heads=heads, causal=causal, mask_padding=True)[0]
    return mixed if w_o is None else mixed @ w_o + b_o[:, None]


class _Affine(nn.Module):
    """The kernel (D, D) and the bias (D,) of a dense layer, for callers that fold them into something else."""

    width: int
    bias_init: Callable[..., Array] | None = nn.initializers.zeros
    kernel_init: Callable[..., Array] = nn.initializers.xavier_normal()

    @nn.compact
    def __call__(self, dtype: Any) -> tuple[Array, Array | None]:
        kernel = self.param("kernel", self.kernel_init, (self.width, self.width)).astype(dtype)
        bias = self.param("bias", self.bias_init, (self.width,)).astype(dtype) if self.bias_init else None
        return kernel, bias
