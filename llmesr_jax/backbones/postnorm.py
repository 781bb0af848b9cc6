"""What FAERec's backbones are built from: positions by column, a GELU feed-forward, and norms behind each sum.

Every LayerNorm has epsilon 1e-12, matrices start normal (deviation 0.02) and biases at 0, as in FAERec's release.
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from llmesr_jax.backbones.attention import SelfAttention
from llmesr_jax.backbones.layers import Dropout, LayerNorm, aligned, newest, take_rows
from llmesr_jax.contracts import Array, Sequences, row_of_slot

EPSILON = 1e-12
normal = nn.initializers.normal(0.02)


def columns(sequences: Sequences, max_len: int) -> Array:
    """int32 (T,): the column of each slot in rows of `max_len` padded on the left, so the newest item's is the last."""
    slot_T = jnp.arange(len(sequences.items_T), dtype=jnp.int32)
    row_T = np.asarray(row_of_slot(sequences.groups), np.int32)
    return jnp.clip(max_len - 1 - sequences.last_R[row_T] + slot_T, 0, max_len - 1)


class ColumnPositions(nn.Module):
    """x + position embedding by column, then dropout: the stem of FAERec's SASRec and FMLP-Rec."""

    max_len: int
    dropout: float

    @nn.compact
    def __call__(self, x_TxD: Array, sequences: Sequences, deterministic: bool) -> Array:
        table = self.param("table", normal, (self.max_len, x_TxD.shape[-1]))
        positions_TxD = take_rows(table, columns(sequences, self.max_len)).astype(x_TxD.dtype)
        if x_TxD.ndim == 3:  # as in `transformer.Positions`
            x_TxD = jnp.stack([view_TxD + positions_TxD for view_TxD in x_TxD])
        else:
            x_TxD = x_TxD + aligned(positions_TxD, x_TxD)
        return Dropout(self.dropout)(x_TxD, deterministic)


class FeedForward(nn.Module):
    """LN(x + W2 gelu(W1 x)), W1 to 4 D, GELU exact, dropout behind W2."""

    dropout: float

    @nn.compact
    def __call__(self, x: Array, deterministic: bool) -> Array:
        width = x.shape[-1]
        dense = partial(nn.Dense, kernel_init=normal)
        hidden = jax.nn.gelu(dense(4 * width, name="in")(x), approximate=False)
        x = x + Dropout(self.dropout)(dense(width, name="out")(hidden), deterministic)
        return LayerNorm(EPSILON, name="norm")(x)


class PostNormTransformer(nn.Module):
    """Blocks x = LN(x + MHA(x)), x = FeedForward(x). (..., T, D) -> (..., T, D), or (..., R, D) with `last_only`."""

    blocks: int
    heads: int
    causal: bool
    mask_padding: bool
    dropout: float

    @nn.compact
    def __call__(self, x_TxD: Array, sequences: Sequences, deterministic: bool, last_only: bool = False) -> Array:
        x = x_TxD
        for i in range(self.blocks):
            query = newest(x, sequences) if last_only and i == self.blocks - 1 else x
            attention = SelfAttention(
                self.heads,
                self.causal,
                self.mask_padding,
                self.dropout,
                additive=True,
                kernel_init=normal,
                name=f"attention_{i}",
            )
            mixed = Dropout(self.dropout)(attention(query, x, sequences, deterministic), deterministic)
            x = LayerNorm(EPSILON, name=f"norm_{i}")(query + mixed)
            x = FeedForward(self.dropout, name=f"feedforward_{i}")(x, deterministic)
        return x
