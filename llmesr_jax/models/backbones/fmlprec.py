"""FMLP-Rec: learnable filters in the frequency domain (Zhou et al., WWW 2022), in the form of FAERec's release.

Block: x = LN(x + dropout(irfft(W * rfft(x)))); x = LN(x + dropout(W2 gelu(W1 x))). The transforms run over the L =
max_len positions; W is complex, one number per frequency and channel. So the filter is a circular convolution of period
L: y[t] = sum over s of w[(t - s) mod L] x[s]. It looks ahead, hence the loss is taken at the last position only.
Padding is set to zero before every filter. The filter then depends only on differences of positions, so a row needs no
more slots than it has items, with the same numbers as at full length. Positions count from the newest item, which has
the last one.

Cost per position and block: 8 D^2 multiply-adds for the feed-forward, and of the order of L log L D / n for the filter
of a row with n items. The last block's feed-forward runs on newest positions only.

Deviations. FAERec's release takes the loss at every position, so each sees its own target (`supervision=every`), and
padding has vectors like items, which the filter mixes in (`through_padding=True`): preset `release`. Its stem has no
LayerNorm, because FAERec has one behind its gate.
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from llmesr_jax.core.knobs import knob
from llmesr_jax.models.kernels.dropout import Dropout
from llmesr_jax.models.layers import settings
from llmesr_jax.models.layers.dense import (
    LayerNorm,
    aligned,
    at_newest,
    newest,
    take_rows,
)
from llmesr_jax.models.layers.postnorm import EPSILON, NORMAL, FeedForward, Residual
from llmesr_jax.models.types import Array, Sequences, Sizes, wide


@dataclasses.dataclass(frozen=True)
class Config:
    blocks: int = settings.blocks("blocks of filter and feed-forward")
    dropout: float = settings.dropout(0.4, "embeddings, filter, feed-forward")
    supervision: str = knob(
        "last", "positions with a loss: last, or every (which leaks targets; preset release)", choices=("last", "every")
    )
    through_padding: bool = knob(False, "padding has vectors, which the filter mixes in (preset release)")


def supervision(config: Config) -> str:
    """The positions that a loss may use: the filter looks ahead, so `every` is a leak."""
    return config.supervision


def needs_padding(config: Config) -> bool:
    """Whether results depend on padding that only a padded layout has."""
    return config.through_padding


class Backbone(nn.Module):
    config: Config
    sizes: Sizes

    def setup(self):
        c, length = self.config, self.sizes.max_len
        self.embedding = Stem(length, not self.sizes.normed, c.dropout)
        self.blocks = [Block(length, c.through_padding, c.dropout) for _ in range(c.blocks)]

    def stem(self, x_TxD: Array, sequences: Sequences, deterministic: bool) -> Array:
        """Positions, LayerNorm, dropout: (..., T, D) -> (..., T, D)."""
        return self.embedding(x_TxD, sequences, deterministic)

    def __call__(self, x_TxD: Array, sequences: Sequences, deterministic: bool, last_only: bool = False) -> Array:
        """(..., T, D) -> (..., T, D), or each row's newest position, (..., R, D), with `last_only`.

        With `supervision=last` all other positions are zeros, unless `Sizes.all_slots`.
        """
        newest_only = last_only or (self.config.supervision == "last" and not self.sizes.all_slots)
        for i, block in enumerate(self.blocks):
            x_TxD = block(x_TxD, sequences, deterministic, newest_only and i == len(self.blocks) - 1)
        return at_newest(x_TxD, sequences) if newest_only and not last_only else x_TxD


class Stem(nn.Module):
    """x + position embedding, LayerNorm (unless the method has one), dropout."""

    length: int
    norm: bool
    dropout: float

    @nn.compact
    def __call__(self, x_TxD: Array, sequences: Sequences, deterministic: bool) -> Array:
        table = self.param("positions", NORMAL, (self.length, x_TxD.shape[-1]))
        rows_TxD = take_rows(table, columns(sequences, self.length)).astype(x_TxD.dtype)
        if x_TxD.ndim == 3:  # view by view: the gradient of one broadcast addition is a slow sum over views
            x_TxD = jnp.stack([view_TxD + rows_TxD for view_TxD in x_TxD])
        else:
            x_TxD = x_TxD + aligned(rows_TxD, x_TxD)
        x_TxD = LayerNorm(EPSILON, name="norm")(x_TxD) if self.norm else x_TxD
        return Dropout(self.dropout)(x_TxD, sequences, deterministic)


def columns(sequences: Sequences, length: int) -> Array:
    """int32 (T,): the column of each slot's item in a row of `length` slots whose last column is the newest item.

    In rows padded on the left this is the slot's own column, also of empty slots. In other rows the number of an empty
    slot has no meaning.
    """
    behind_T = sequences.last_R[sequences.row_T] - jnp.arange(len(sequences.items_T), dtype=jnp.int32)
    return length - 1 - behind_T


class Block(nn.Module):
    """Filter and feed-forward; with `last_only` the latter for newest positions: (..., R, D)."""

    length: int
    through_padding: bool
    dropout: float

    @nn.compact
    def __call__(self, x_TxD: Array, sequences: Sequences, deterministic: bool, last_only: bool) -> Array:
        heard_TxD = x_TxD
        if not self.through_padding:
            heard_TxD = jnp.where(aligned(sequences.valid_T[:, None], x_TxD), x_TxD, jnp.zeros_like(x_TxD))
        kernel = self.param("filter", NORMAL, (self.length // 2 + 1, x_TxD.shape[-1], 2))
        kernel = kernel.astype(wide(kernel))
        response = jax.lax.complex(kernel[..., 0], kernel[..., 1])
        change = sequences.join([circular(rows, response, self.length) for rows in sequences.split(heard_TxD)])
        if last_only:
            x_TxD, change = newest(x_TxD, sequences), newest(change, sequences)
        x_TxD = Residual(self.dropout, name="filter_residual")(x_TxD, change, sequences, deterministic)
        return FeedForward(self.dropout, name="feedforward")(x_TxD, sequences, deterministic)


def circular(x_RxLxD: Array, response_FxD: Array, period: int) -> Array:
    """irfft(response * rfft(x)): the circular convolution along the rows; returns x's shape and dtype.

    A row shorter than the period is treated as if zeros followed. In a longer row, slot t is slot t mod period of the
    signal, and no two items may share one.

    Args:
      x_RxLxD: (..., R, L, D).
      response_FxD: complex, period // 2 + 1 frequencies.
      period: in slots.
    """
    length, width = x_RxLxD.shape[-2:]
    turns = -(-length // period)
    padding = [(0, 0)] * (x_RxLxD.ndim - 2) + [(0, turns * period - length), (0, 0)]
    x = jnp.pad(x_RxLxD.astype(wide(x_RxLxD)), padding)
    x = x.reshape(*x.shape[:-2], turns, period, width).sum(axis=-3)
    spectrum = jnp.fft.rfft(x, axis=-2)
    y = jnp.fft.irfft(spectrum * aligned(response_FxD, spectrum), n=period, axis=-2)
    return jnp.concatenate([y] * turns, axis=-2)[..., :length, :].astype(x_RxLxD.dtype)
