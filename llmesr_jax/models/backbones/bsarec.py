"""BSARec: self-attention beside a low- and high-pass filter over positions (Shin et al., AAAI 2024).

Block (section 4 of the paper): low = the c // 2 + 1 lowest frequencies of x along the L = max_len positions, high =
x - low; filtered = LN(x + dropout(low + beta^2 high)), one beta per channel; attended = LN(x + dropout(MHA(x))); x =
alpha filtered + (1 - alpha) attended; x = LN(x + dropout(W2 gelu(W1 x))), W1 to 4 D. The stem is LN(item + position by
column, counted from the newest), dropout. With alpha = 0 it is the SASRec of `sasrec.form=faerec`.

The attention is causal, the filter is not: low[t] = sum over s of k[(t - s) mod L] x[s], k the Dirichlet kernel, over
the whole window. So the loss is taken at the last position only, as in the release, which makes every prefix of a
training sequence a sample (`data.prefixes=True`). Padding is set to zero before every filter. The filter then depends
only on differences of positions, so a row needs no more slots than it has items, with the same numbers as at full
length.

Cost per position and block: 12 D^2 multiply-adds for matrices, n D for the filter and 2 n D for the attention of a row
with n items: k is the same for all channels, so the filter is a product with one small matrix and needs no transform.

Deviations. In the release padding has vectors like an item's, which the filter mixes in (`through_padding=True`). The
release draws beta from N(0, 1), as we do, and tunes alpha, c and the heads for each data set; our defaults are its
values for Beauty.
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from llmesr_jax.core.knobs import knob
from llmesr_jax.models.kernels.attention import SelfAttention
from llmesr_jax.models.layers import settings
from llmesr_jax.models.layers.dense import aligned, at_newest, newest
from llmesr_jax.models.layers.postnorm import NORMAL, FeedForward, Residual
from llmesr_jax.models.layers.transformer import ColumnPositions
from llmesr_jax.models.types import Array, Sequences, Sizes


@dataclasses.dataclass(frozen=True)
class Config:
    blocks: int = settings.blocks("blocks of filter beside attention, and feed-forward")
    heads: int = settings.heads()
    dropout: float = settings.dropout(0.5, "embeddings, attention weights, filter, feed-forward")
    alpha: float = knob(0.7, "share of the filter; the attention has the rest", least=0, most=1)
    cutoff: int = knob(5, "c: the low-pass part keeps the c // 2 + 1 lowest frequencies", least=1)
    through_padding: bool = knob(False, "padding has vectors, which the filter mixes in, as in the release")


def supervision(config: Config) -> str:
    """The positions that a loss may use: the filter looks ahead, so the last one."""
    return "last"


def needs_padding(config: Config) -> bool:
    """Whether results depend on padding that only a padded layout has."""
    return config.through_padding


class Backbone(nn.Module):
    config: Config
    sizes: Sizes

    def setup(self):
        c = self.config
        self.positions = ColumnPositions(self.sizes.max_len, not self.sizes.normed, c.dropout)
        self.blocks = [Block(c, self.sizes.max_len) for _ in range(c.blocks)]

    def stem(self, x_TxD: Array, sequences: Sequences, deterministic: bool) -> Array:
        """Positions, LayerNorm, dropout: (..., T, D) -> (..., T, D)."""
        return self.positions(x_TxD, sequences, deterministic)

    def __call__(self, x_TxD: Array, sequences: Sequences, deterministic: bool, last_only: bool = False) -> Array:
        """(..., T, D) -> (..., T, D), or each row's newest position, (..., R, D), with `last_only`.

        Other positions than the newest are zeros, unless `Sizes.all_slots`.
        """
        newest_only = last_only or not self.sizes.all_slots
        for i, block in enumerate(self.blocks):
            x_TxD = block(x_TxD, sequences, deterministic, newest_only and i == len(self.blocks) - 1)
        return at_newest(x_TxD, sequences) if newest_only and not last_only else x_TxD


class Block(nn.Module):
    """Filter beside attention, and feed-forward: (..., T, D) -> (..., T, D), or (..., R, D) with `last_only`."""

    config: Config
    length: int

    @nn.compact
    def __call__(self, x_TxD: Array, sequences: Sequences, deterministic: bool, last_only: bool) -> Array:
        c = self.config
        heard_TxD = x_TxD
        if not c.through_padding:
            heard_TxD = jnp.where(aligned(sequences.valid_T[:, None], x_TxD), x_TxD, jnp.zeros_like(x_TxD))
        low = low_pass(heard_TxD, sequences, self.length, c.cutoff)
        x = newest(x_TxD, sequences) if last_only else x_TxD
        low = newest(low, sequences) if last_only else low
        beta = self.param("beta", nn.initializers.normal(1.0), x.shape[-1:]).astype(x.dtype)
        scaled = low + aligned(jnp.square(beta), x) * (x - low)
        filtered = Residual(c.dropout, name="filter_residual")(x, scaled, sequences, deterministic)

        kinds = (c.heads, True, True, c.dropout)  # causal, padded keys masked
        attention = SelfAttention(*kinds, additive=True, kernel_init=NORMAL, name="attention")
        mixed = attention(x, x_TxD, sequences, deterministic)
        attended = Residual(c.dropout, name="attention_residual")(x, mixed, sequences, deterministic)
        x = c.alpha * filtered + (1 - c.alpha) * attended
        return FeedForward(c.dropout, name="feedforward")(x, sequences, deterministic)


def low_pass(x_TxD: Array, sequences: Sequences, period: int, cutoff: int) -> Array:
    """The cutoff // 2 + 1 lowest frequencies of each row, as if it had `period` slots: (..., T, D) -> (..., T, D).

    In rows of another length no two items may share a slot mod period.
    """
    kernel_P = dirichlet(period, cutoff // 2 + 1)
    parts = []
    for rows_RxLxD in sequences.split(x_TxD):
        slot_L = np.arange(rows_RxLxD.shape[-2])
        matrix_LxL = jnp.asarray(kernel_P[(slot_L[:, None] - slot_L[None, :]) % period], x_TxD.dtype)
        parts.append(jnp.einsum("ts,...sd->...td", matrix_LxL, rows_RxLxD))
    return sequences.join(parts)


def dirichlet(period: int, kept: int) -> np.ndarray:
    """float64 (period,): the filter in time that keeps the frequencies 0 to kept - 1 of a real signal, and no others.

    k[n] = (1 + 2 sum over f of cos(2 pi f n / period)) / period; the highest frequency of an even period has no
    conjugate, so it counts once.
    """
    frequency_F = np.arange(min(kept, period // 2 + 1))
    twins_F = np.where((frequency_F == 0) | (2 * frequency_F == period), 1, 2)
    return (twins_F * np.cos(2 * np.pi / period * np.outer(np.arange(period), frequency_F))).sum(axis=1) / period
