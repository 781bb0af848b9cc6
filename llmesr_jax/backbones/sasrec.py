"""SASRec: causal self-attention (Kang and McAuley, ICDM 2018), in the form of LLM-ESR's release.

Block: Q = LN(x); x = LN(Q + MHA(Q, x, x)); x = x + FFN(x). A last LayerNorm; every epsilon 1e-8.

Deviations. LLM-ESR's release runs it with the causal mask left out and without masking padded keys, although it
trains at every position, so a position sees its own target: `causal=False, mask_padding=False`, preset `release`.
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn

from llmesr_jax.backbones.transformer import Positions, Transformer
from llmesr_jax.contracts import Array, Sequences, Sizes, knob


@dataclasses.dataclass(frozen=True)
class Config:
    blocks: int = knob(2, "transformer blocks", least=1)
    heads: int = knob(1, "attention heads; the width is a multiple of it", least=1)
    dropout: float = knob(0.5, "dropout rate: embeddings, attention weights, feed-forward", least=0, most=0.99)
    causal: bool = knob(True, "a position sees itself and earlier ones only")
    mask_padding: bool = knob(True, "padded keys take no part in the attention")


def supervision(config: Config) -> str:
    """The positions that a loss may use."""
    return "every"


def needs_padding(config: Config) -> bool:
    """Whether results depend on padding that only a padded layout has: no, attention to padding has a closed form."""
    return False


class Backbone(nn.Module):
    config: Config
    sizes: Sizes

    def setup(self):
        c = self.config
        self.positions = Positions(self.sizes.max_len, c.dropout)
        self.transformer = Transformer(c.blocks, c.heads, c.causal, c.mask_padding, c.dropout)

    def stem(self, x_TxD: Array, sequences: Sequences, deterministic: bool) -> Array:
        """Scale, positions, dropout: (..., T, D) -> (..., T, D)."""
        return self.positions(x_TxD, sequences, deterministic)

    def __call__(self, x_TxD: Array, sequences: Sequences, deterministic: bool, last_only: bool = False) -> Array:
        """(..., T, D) -> (..., T, D), or each row's newest position, (..., R, D), with `last_only`."""
        return self.transformer(x_TxD, sequences, deterministic, last_only)
