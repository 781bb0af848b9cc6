"""The transformer of SASRec and BERT4Rec, which differ only in their masks; and the transformer of FAERec's SASRec."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from llmesr_jax.models.kernels.attention import SelfAttention
from llmesr_jax.models.kernels.dropout import Dropout
from llmesr_jax.models.layers import postnorm
from llmesr_jax.models.layers.dense import LayerNorm, aligned, dense, newest, take_rows
from llmesr_jax.models.types import Array, Sequences


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
        if x_TxD.ndim == 3:  # view by view: the gradient of one broadcast addition is a slow sum over views
            x_TxD = jnp.stack([view_TxD * width**0.5 + positions_TxD for view_TxD in x_TxD])
        else:
            x_TxD = x_TxD * width**0.5 + aligned(positions_TxD, x_TxD)
        return Dropout(self.dropout)(x_TxD, sequences, deterministic)


class FeedForward(nn.Module):
    """x + W2 relu(W1 x), with dropout before the ReLU and at the end."""

    dropout: float

    @nn.compact
    def __call__(self, x: Array, sequences: Sequences, deterministic: bool) -> Array:
        width = x.shape[-1]
        drop = Dropout(self.dropout)
        hidden = jax.nn.relu(drop(dense(width, width, name="in")(x), sequences, deterministic))
        return x + drop(dense(width, width, name="out")(hidden), sequences, deterministic)


class Block(nn.Module):
    """One block of LLM-ESR's release: Q = LN(x); x = LN(Q + MHA(Q, x, x)); x = x + FFN(x); empty slots to zero.

    If padded keys are masked, nothing reads an empty slot, so empty slots are not set to zero.
    """

    heads: int
    causal: bool
    mask_padding: bool
    dropout: float

    @nn.compact
    def __call__(self, x_TxD: Array, sequences: Sequences, deterministic: bool, last_only: bool) -> Array:
        x = newest(x_TxD, sequences) if last_only else x_TxD
        real = sequences.valid_R if last_only else sequences.valid_T
        query = LayerNorm(name="attention_norm")(x)
        attention = SelfAttention(self.heads, self.causal, self.mask_padding, self.dropout, name="attention")
        x = LayerNorm(name="feedforward_norm")(query + attention(query, x_TxD, sequences, deterministic))
        x = FeedForward(self.dropout, name="feedforward")(x, sequences, deterministic)
        return x if self.mask_padding else _only(real, x)


class Transformer(nn.Module):
    """Blocks and a last LayerNorm. (..., T, D) -> (..., T, D), or (..., R, D) with `last_only`.

    With `last_only` the last block computes one query per row: all that a teacher or a served user needs.
    """

    blocks: int
    heads: int
    causal: bool
    mask_padding: bool
    dropout: float

    @nn.compact
    def __call__(self, x_TxD: Array, sequences: Sequences, deterministic: bool, last_only: bool = False) -> Array:
        x = x_TxD if self.mask_padding else _only(sequences.valid_T, x_TxD)
        for i in range(self.blocks):
            block = Block(self.heads, self.causal, self.mask_padding, self.dropout, name=f"block_{i}")
            x = block(x, sequences, deterministic, last_only and i == self.blocks - 1)
        return LayerNorm(name="last_norm")(x)


def _only(valid_T: Array, x: Array) -> Array:
    """x, with zeros in the empty slots."""
    return x * aligned(valid_T[:, None].astype(x.dtype), x)


class ColumnPositions(nn.Module):
    """x + position embedding, LayerNorm (unless the method has one), dropout: the stem of FAERec's SASRec.

    Positions are the columns 0..max_len - 1 of rows padded on the left, so they count from the newest item.
    """

    max_len: int
    norm: bool
    dropout: float

    @nn.compact
    def __call__(self, x_TxD: Array, sequences: Sequences, deterministic: bool) -> Array:
        table = self.param("table", postnorm.NORMAL, (self.max_len, x_TxD.shape[-1]))
        row_T = sequences.row_T
        to_newest_T = sequences.last_R[row_T] - jnp.arange(len(row_T), dtype=jnp.int32)
        columns_T = jnp.clip(self.max_len - 1 - to_newest_T, 0, self.max_len - 1)  # clips in empty slots only
        positions_TxD = take_rows(table, columns_T).astype(x_TxD.dtype)
        if x_TxD.ndim == 3:
            x_TxD = jnp.stack([view_TxD + positions_TxD for view_TxD in x_TxD])
        else:
            x_TxD = x_TxD + aligned(positions_TxD, x_TxD)
        x_TxD = LayerNorm(postnorm.EPSILON, name="norm")(x_TxD) if self.norm else x_TxD
        return Dropout(self.dropout)(x_TxD, sequences, deterministic)


class PostNormTransformer(nn.Module):
    """FAERec's blocks: x = LN(x + MHA(x)), x = LN(x + W2 gelu(W1 x)). Shapes as in `Transformer`."""

    blocks: int
    heads: int
    causal: bool
    mask_padding: bool
    dropout: float

    @nn.compact
    def __call__(self, x_TxD: Array, sequences: Sequences, deterministic: bool, last_only: bool = False) -> Array:
        x = x_TxD
        kinds = (self.heads, self.causal, self.mask_padding, self.dropout)
        for i in range(self.blocks):
            query = newest(x, sequences) if last_only and i == self.blocks - 1 else x
            attention = SelfAttention(*kinds, additive=True, kernel_init=postnorm.NORMAL, name=f"attention_{i}")
            mixed = attention(query, x, sequences, deterministic)
            x = postnorm.Residual(self.dropout, name=f"attention_residual_{i}")(query, mixed, sequences, deterministic)
            x = postnorm.FeedForward(self.dropout, name=f"feedforward_{i}")(x, sequences, deterministic)
        return x
