"""BERT4Rec: bidirectional self-attention trained on the cloze task (Sun et al., CIKM 2019), as in LLM-ESR's release.

The block is SASRec's (see there), without the causal mask. Input: the whole training part with `mask_share` of its
positions hidden: 80 % of those show the mask token, 10 % a random item, 10 % themselves. Every sequence is seen a
second time with only its last item hidden. To predict, a mask token is appended.

Deviations. LLM-ESR's release does not mask padded keys: `mask_padding=False`, preset `release`.
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn

from llmesr_jax.core.knobs import knob
from llmesr_jax.models.layers import settings
from llmesr_jax.models.layers.transformer import Positions, Transformer
from llmesr_jax.models.types import Array, Sequences, Sizes


@dataclasses.dataclass(frozen=True)
class Config:
    blocks: int = settings.blocks()
    heads: int = settings.heads()
    dropout: float = settings.dropout(0.6, "embeddings, attention weights, feed-forward (0.5 in preset release)")
    mask_padding: bool = settings.mask_padding()
    mask_share: float = knob(0.6, "share of the positions that the cloze task hides", least=0.01, most=1)


def supervision(config: Config) -> str:
    """The positions that a loss may use."""
    return "masked"


def needs_padding(config: Config) -> bool:
    """Whether results depend on padding that only a padded layout has: no, attention to padding has a closed form."""
    return False


def packs(config: Config) -> bool:
    """Whether several sequences may stand in one row: yes, attention keeps them apart."""
    return True


class Backbone(nn.Module):
    config: Config
    sizes: Sizes

    def setup(self):
        c = self.config
        self.positions = Positions(self.sizes.max_len, c.dropout)
        self.transformer = Transformer(c.blocks, c.heads, False, c.mask_padding, c.dropout)

    def stem(self, x_TxD: Array, sequences: Sequences, deterministic: bool) -> Array:
        """Scale, positions, dropout: (..., T, D) -> (..., T, D)."""
        return self.positions(x_TxD, sequences, deterministic)

    def __call__(self, x_TxD: Array, sequences: Sequences, deterministic: bool, last_only: bool = False) -> Array:
        """(..., T, D) -> (..., T, D), or each row's newest position, (..., R, D), with `last_only`."""
        return self.transformer(x_TxD, sequences, deterministic, last_only)
