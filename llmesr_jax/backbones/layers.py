"""Layers that backbones and methods share. All take flat slots: x is (..., T, D), or (..., R, D) for last positions."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from llmesr_jax.contracts import Array, Sequences, join
from llmesr_jax.errors import InputError

EPSILON = 1e-8  # of every LayerNorm in LLM-ESR's release
_HIDDEN = -1e9  # the score of a masked key; finite, so a row with all keys masked stays finite (uniform)


def uniform_bias(fan_in: int) -> Callable[..., Array]:
    """PyTorch's default bias: uniform in +-1/sqrt(fan_in)."""

    def init(key, shape, dtype=jnp.float32):
        bound = fan_in**-0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


def dense(features: int, fan_in: int, name: str | None = None, use_bias: bool = True) -> nn.Dense:
    """A dense layer that starts as the release does: Xavier-normal matrix, PyTorch's bias."""
    return nn.Dense(
        features,
        use_bias=use_bias,
        kernel_init=nn.initializers.xavier_normal(),
        bias_init=uniform_bias(fan_in),
        name=name,
    )


def layer_norm(name: str | None = None) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=EPSILON, use_fast_variance=False, name=name)


def take_rows(table: Array, ids: Array) -> Array:
    """table[ids] for ids known to be in range; clipping spares the bounds check's select."""
    return jnp.take(table, ids, axis=0, mode="clip")


def newest(x_TxD: Array, sequences: Sequences) -> Array:
    """(..., T, D) -> (..., R, D): each row's newest slot."""
    return jnp.take(x_TxD, sequences.last_R, axis=-2, mode="clip")


def attend(
    query: Array,
    key_TxD: Array,
    value_TxD: Array,
    sequences: Sequences,
    *,
    heads: int,
    causal: bool,
    mask_padding: bool,
    padding: tuple[Array, Array] | None = None,
    drop: Callable[[Array], Array] = lambda weights: weights,
    drop_padding: Callable[[Array, Array], Array] = lambda weights, count: weights,
) -> Array:
    """Softmax attention inside each row: softmax(q k^T / sqrt(D / heads)) v (LLM-ESR eq. 4).

    Args:
      query: (..., T, D), or (..., R, D): one query a row, its newest position.
      key_TxD, value_TxD: (..., T, D).
      heads: number of heads; D is a multiple of it.
      causal: a query sees its own and earlier slots only.
      mask_padding: keys in empty slots are masked.
      padding: the key and value, both (D,), of every padded position. With `mask_padding=False` padding attracts
        attention; rows that leave it out (`left_out_R`) get one more key in its place, counted as often as it would
        stand there: the same softmax.
      drop, drop_padding: dropout of attention weights, and of the weight of `count` padded keys together.
    Returns: an array like `query`.
    """
    if query.shape[-1] % heads:
        raise InputError(f"{heads} attention heads do not divide a width of {query.shape[-1]}; change one of the two")
    last_only = query.shape[-2] != key_TxD.shape[-2]
    scale = (query.shape[-1] // heads) ** -0.5

    def split_heads(x):
        return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)

    if last_only:
        queries = [q[..., None, :] for q in sequences.split_rows(query)]
    else:
        queries = sequences.split(query)
    keys, values, real = sequences.split(key_TxD), sequences.split(value_TxD), sequences.split(sequences.real_T, -1)
    in_closed_form = not mask_padding and sequences.left_out_R is not None
    left_out = sequences.split_rows(sequences.left_out_R, -1) if in_closed_form else [None] * len(queries)
    outputs = []
    for q, k, v, real_RxL, left_out_R in zip(queries, keys, values, real, left_out):
        length = k.shape[-2]
        scores = jnp.einsum("...qhd,...khd->...hqk", split_heads(q), split_heads(k))
        mask = jnp.ones((1, 1, 1, length), bool)
        if mask_padding or in_closed_form:
            mask = mask & real_RxL[:, None, None, :]
        if causal and not last_only:
            mask = mask & jnp.tri(length, dtype=bool)[None, None]
        mask = jnp.expand_dims(mask, tuple(range(scores.ndim - 4)))
        scores = jnp.where(mask, scores, jnp.asarray(_HIDDEN, scores.dtype)) * scale
        if in_closed_form:
            key_HxD, value_HxD = (split_heads(x.astype(scores.dtype)) for x in padding)
            count = left_out_R.astype(scores.dtype)[:, None, None, None]
            score = jnp.einsum("...qhd,hd->...hq", split_heads(q), key_HxD)[..., None] * scale
            score = score + jnp.expand_dims(jnp.log(count), tuple(range(scores.ndim - 4)))
            weights = jax.nn.softmax(jnp.concatenate([scores, score], axis=-1), axis=-1)
            weights, extra = drop(weights[..., :-1]), drop_padding(weights[..., -1:], count)
            out = jnp.einsum("...hqk,...khd->...qhd", weights, split_heads(v))
            out = out + jnp.einsum("...hqk,hd->...qhd", extra, value_HxD)
        else:
            out = jnp.einsum("...hqk,...khd->...qhd", drop(jax.nn.softmax(scores, axis=-1)), split_heads(v))
        outputs.append(out.reshape(q.shape))
    if last_only:
        return jnp.concatenate([o[..., 0, :] for o in outputs], axis=-2)
    return join(outputs)


class SelfAttention(nn.Module):
    """Multi-head self-attention whose query and key inputs may differ; q, k, v stacked in one (D, 3D) matrix.

    Returns (..., Tq, D) for a query input of (..., Tq, D); Tq is T, or R for last positions.
    """

    heads: int
    causal: bool
    mask_padding: bool
    dropout: float

    @nn.compact
    def __call__(self, query: Array, x_TxD: Array, sequences: Sequences, deterministic: bool) -> Array:
        width = x_TxD.shape[-1]
        kernel = self.param("in_kernel", nn.initializers.xavier_normal(), (width, 3 * width))
        bias = self.param("in_bias", nn.initializers.zeros, (3 * width,))
        # Cutting the weights is free; cutting a stacked (T, 3D) result would copy it.
        parts = zip(jnp.split(kernel, 3, axis=1), jnp.split(bias, 3), (query, x_TxD, x_TxD))
        q, k, v = (x @ w.astype(x.dtype) + _like(b.astype(x.dtype), x) for w, b, x in parts)
        drop = nn.Dropout(self.dropout, deterministic=deterministic)

        def drop_padding(weights, count):
            """Dropout of `count` equal weights, added up: how many of them stay is binomial."""
            if deterministic or self.dropout == 0:
                return weights
            count = jnp.broadcast_to(count.reshape((1,) * (weights.ndim - count.ndim) + count.shape), weights.shape)
            kept = jax.random.binomial(self.make_rng("dropout"), count, 1 - self.dropout, dtype=count.dtype)
            return weights * kept / jnp.where(count > 0, count * (1 - self.dropout), 1)

        mixed = attend(
            q,
            k,
            v,
            sequences,
            heads=self.heads,
            causal=self.causal,
            mask_padding=self.mask_padding,
            padding=(bias[width : 2 * width], bias[2 * width :]),
            drop=drop,
            drop_padding=drop_padding,
        )
        out = nn.Dense(width, kernel_init=nn.initializers.xavier_normal(), name="out")
        return out(mixed)


def _like(bias: Array, x: Array) -> Array:
    """bias with leading axes of length 1, so that adding it to x promotes no rank."""
    return bias.reshape((1,) * (x.ndim - 1) + bias.shape)


class CrossAttention(nn.Module):
    """Attention from one view's sequence to the other's (LLM-ESR eq. 4): Q, K, V without bias.

    `output` adds the release's output projection, with bias. Shapes: (..., T, D) both, returns (..., T, D).
    """

    heads: int
    causal: bool
    output: bool

    @nn.compact
    def __call__(self, query_TxD: Array, x_TxD: Array, sequences: Sequences) -> Array:
        width = x_TxD.shape[-1]
        q, k, v = (
            dense(width, width, name=name, use_bias=False)(x)
            for name, x in (("query", query_TxD), ("key", x_TxD), ("value", x_TxD))
        )
        mixed = attend(q, k, v, sequences, heads=self.heads, causal=self.causal, mask_padding=True)
        return dense(width, width, name="output")(mixed) if self.output else mixed


class FeedForward(nn.Module):
    """x + W2 relu(W1 x), with dropout before the ReLU and at the end."""

    dropout: float

    @nn.compact
    def __call__(self, x: Array, deterministic: bool) -> Array:
        width = x.shape[-1]
        drop = nn.Dropout(self.dropout, deterministic=deterministic)
        hidden = jax.nn.relu(drop(dense(width, width, name="in")(x)))
        return x + drop(dense(width, width, name="out")(hidden))


class Positions(nn.Module):
    """x * sqrt(D) + position embedding, then dropout: the stem of SASRec and BERT4Rec.

    Positions are 1..n for real items and 0 for padding; the table has max_len + 2 rows, because BERT4Rec's mask
    token may stand at max_len + 1.
    """

    max_len: int
    dropout: float

    @nn.compact
    def __call__(self, x_TxD: Array, sequences: Sequences, deterministic: bool) -> Array:
        width = x_TxD.shape[-1]
        table = self.param("table", nn.initializers.xavier_normal(), (self.max_len + 2, width))
        positions_TxD = take_rows(table, sequences.positions_T).astype(x_TxD.dtype)
        x_TxD = x_TxD * width**0.5 + _like_slots(positions_TxD, x_TxD)
        return nn.Dropout(self.dropout, deterministic=deterministic)(x_TxD)


def _like_slots(x_TxD: Array, like: Array) -> Array:
    """(T, D) with leading axes of length 1, to be added to a (..., T, D) array."""
    return x_TxD.reshape((1,) * (like.ndim - 2) + x_TxD.shape)


class Block(nn.Module):
    """One block of the release: Q = LN(x); x = LN(Q + MHA(Q, x, x)); x = x + FFN(x); empty slots to zero."""

    heads: int
    causal: bool
    mask_padding: bool
    dropout: float

    @nn.compact
    def __call__(self, x_TxD: Array, sequences: Sequences, deterministic: bool, last_only: bool) -> Array:
        x = newest(x_TxD, sequences) if last_only else x_TxD
        real = sequences.real_R if last_only else sequences.real_T
        query = layer_norm("attention_norm")(x)
        attention = SelfAttention(self.heads, self.causal, self.mask_padding, self.dropout, name="attention")
        x = layer_norm("feedforward_norm")(query + attention(query, x_TxD, sequences, deterministic))
        x = FeedForward(self.dropout, name="feedforward")(x, deterministic)
        return x * _like_slots(real[:, None].astype(x.dtype), x)


class Transformer(nn.Module):
    """Blocks and a last LayerNorm. (..., T, D) -> (..., T, D), or (..., R, D) with `last_only`.

    With `last_only` the last block computes one query a row: what a teacher or a served user needs.
    """

    blocks: int
    heads: int
    causal: bool
    mask_padding: bool
    dropout: float

    @nn.compact
    def __call__(self, x_TxD: Array, sequences: Sequences, deterministic: bool, last_only: bool = False) -> Array:
        x = x_TxD * _like_slots(sequences.real_T[:, None].astype(x_TxD.dtype), x_TxD)
        for i in range(self.blocks):
            block = Block(self.heads, self.causal, self.mask_padding, self.dropout, name=f"block_{i}")
            x = block(x, sequences, deterministic, last_only and i == self.blocks - 1)
        return layer_norm("last_norm")(x)
