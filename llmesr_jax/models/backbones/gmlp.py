"""gMLP: spatial gating in place of attention (Liu et al., NeurIPS 2021).

Block: z = LN(x); a, g = gelu(U z) in two halves; x = x + dropout(V (a * (S LN(g) + b))), where S (L, L) and b (L) mix
and shift positions, alike for every channel. S starts near 0 and b at 1, so that a block starts as a feed-forward
network. A last LayerNorm. There are no position embeddings: S encodes positions.

The newest item stands in the last of the L = max_len columns and padding is zeros before S, so a row needs no more
slots than it has items. By default S is lower triangular: causal, and every position has a loss. With `causal=False`
it is free, as in the paper; then every position sees later ones, and only the last one has a loss.

Cost per position and block: 3/2 m D^2 multiply-adds (m = `expansion`) and n m D / 2 for S in a row of n items. If only
newest positions are needed, the last block computes a, S and V for these alone.

Deviations. The paper encodes images and masked text: causal S, columns from the newest item, the stem's LayerNorm and
dropout are ours. (Without that LayerNorm an item's small embedding drowns in what the first block adds to it.)
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from llmesr_jax.core.knobs import knob
from llmesr_jax.models.kernels.dropout import Dropout
from llmesr_jax.models.layers import settings
from llmesr_jax.models.layers.dense import LayerNorm, aligned, at_newest, newest
from llmesr_jax.models.types import Array, Sequences, Sizes, wide


@dataclasses.dataclass(frozen=True)
class Config:
    blocks: int = settings.blocks("blocks")
    expansion: int = knob(6, "m, channels inside a block (both halves), as a multiple of the width", least=2)
    causal: bool = knob(
        True,
        "S is lower triangular and every position has a loss; False: S is free, and only the last position has a loss",
    )
    dropout: float = settings.dropout(0.4, "embeddings, end of a block")


def supervision(config: Config) -> str:
    """The positions that a loss may use."""
    return "every" if config.causal else "last"


def needs_padding(config: Config) -> bool:
    """Whether results depend on padding that only a padded layout has: no, it is zeros before S."""
    return False


class Backbone(nn.Module):
    config: Config
    sizes: Sizes

    def setup(self):
        c = self.config
        self.norm = None if self.sizes.normed else LayerNorm()
        self.drop = Dropout(c.dropout)
        self.blocks = [Block(c, self.sizes.max_len) for _ in range(c.blocks)]
        self.last_norm = LayerNorm()

    def stem(self, x_TxD: Array, sequences: Sequences, deterministic: bool) -> Array:
        """LayerNorm (unless the method has one), dropout: (..., T, D) -> (..., T, D)."""
        x_TxD = self.norm(x_TxD) if self.norm else x_TxD
        return self.drop(x_TxD, sequences, deterministic)

    def __call__(self, x_TxD: Array, sequences: Sequences, deterministic: bool, last_only: bool = False) -> Array:
        """(..., T, D) -> (..., T, D), or each row's newest position, (..., R, D), with `last_only`.

        With `causal=False` all other positions are zeros, unless `Sizes.all_slots`.
        """
        newest_only = last_only or (not self.config.causal and not self.sizes.all_slots)
        for i, block in enumerate(self.blocks):
            x_TxD = block(x_TxD, sequences, deterministic, newest_only and i == len(self.blocks) - 1)
        x_TxD = self.last_norm(x_TxD)
        return at_newest(x_TxD, sequences) if newest_only and not last_only else x_TxD


class Block(nn.Module):
    """One block; with `last_only` for newest positions: (..., R, D)."""

    config: Config
    length: int

    @nn.compact
    def __call__(self, x_TxD: Array, sequences: Sequences, deterministic: bool, last_only: bool) -> Array:
        width = x_TxD.shape[-1]
        inner = self.config.expansion * width // 2
        init = nn.initializers.xavier_normal()
        z_TxD = LayerNorm(name="norm")(x_TxD)
        x, z = (newest(x_TxD, sequences), newest(z_TxD, sequences)) if last_only else (x_TxD, z_TxD)
        value = jax.nn.gelu(nn.Dense(inner, kernel_init=init, name="value")(z), approximate=False)
        gate_TxE = jax.nn.gelu(nn.Dense(inner, kernel_init=init, name="gate")(z_TxD), approximate=False)
        gate_TxE = LayerNorm(name="gate_norm")(gate_TxE)
        matrix_LxL = self.param("spatial_kernel", nn.initializers.normal(1e-3), (self.length, self.length))
        bias_L = self.param("spatial_bias", nn.initializers.ones, (self.length,))
        matrix_LxL = jnp.tril(matrix_LxL) if self.config.causal else matrix_LxL
        gate = spatial(gate_TxE, matrix_LxL.astype(gate_TxE.dtype), bias_L.astype(gate_TxE.dtype), sequences, last_only)
        out = nn.Dense(width, kernel_init=init, name="out")(value * gate)
        return x + Dropout(self.config.dropout)(out, sequences, deterministic)


def spatial(x_TxE: Array, matrix_LxL: Array, bias_L: Array, sequences: Sequences, last_only: bool) -> Array:
    """S x + b in each row, with its newest item in column L and zeros where there is no item: (..., T, E).

    With `last_only` at newest positions only: (..., R, E).
    """
    x_TxE = jnp.where(aligned(sequences.valid_T[:, None], x_TxE), x_TxE, jnp.zeros_like(x_TxE))
    first_T, to_end_T = _frames(sequences)
    here_T = jnp.arange(len(sequences.items_T), dtype=jnp.int32)
    from_T = here_T - to_end_T  # the slot that moves here when a row is shifted until its newest item is at its end
    moved = jnp.take(x_TxE, jnp.maximum(from_T, 0), axis=-2, mode="clip")
    moved = jnp.where(aligned((from_T >= first_T)[:, None], moved), moved, jnp.zeros_like(moved))
    total, out = len(matrix_LxL), []
    for rows in sequences.split(moved):
        length = rows.shape[-2]
        used = min(length, total)  # a row longer than L has padding in front
        rows = rows[..., length - used :, :]
        if last_only:
            mixed = jnp.einsum("s,...se->...e", matrix_LxL[-1, total - used :], rows, preferred_element_type=wide(rows))
            out.append((mixed + bias_L[-1].astype(mixed.dtype)).astype(rows.dtype))
        else:
            kernel, bias = matrix_LxL[total - used :, total - used :], bias_L[total - used :, None]
            mixed = jnp.einsum("ts,...se->...te", kernel, rows, preferred_element_type=wide(rows))
            mixed = (mixed + aligned(bias.astype(mixed.dtype), mixed)).astype(rows.dtype)
            out.append(jnp.pad(mixed, [(0, 0)] * (mixed.ndim - 2) + [(length - used, 0), (0, 0)]))
    if last_only:
        return sequences.join_rows(out)
    return jnp.take(sequences.join(out), here_T + to_end_T, axis=-2, mode="clip")


def _frames(sequences: Sequences) -> tuple[Array, Array]:
    """int32 (T,) twice: the first slot of each slot's row, and how many slots follow the row's newest item."""
    row_T = sequences.row_T
    width_R = np.array([w for rows, w in sequences.buckets for _ in range(rows)], np.int32)
    end_R = np.cumsum(width_R, dtype=np.int32)
    return jnp.asarray((end_R - width_R)[row_T]), (jnp.asarray(end_R) - 1 - sequences.last_R)[row_T]
