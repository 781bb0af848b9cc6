"""SASRec: causal self-attention (Kang and McAuley, ICDM 2018), in the forms of LLM-ESR's and of FAERec's release.

`form=llmesr`: x sqrt(D) + position of the item, counted from the oldest; block Q = LN(x); x = LN(Q + MHA(Q, x, x));
x = x + W2 relu(W1 x), width D. A last LayerNorm; every epsilon 1e-8.
`form=faerec`: LN(x + position by column, counted from the newest); block x = LN(x + MHA(x)); x = LN(x + W2 gelu(W1 x)),
width 4 D; every epsilon 1e-12. FAERec's release runs it with 2 heads and dropout 0.4, the plain backbone with 0.5.
Under the method `faerec` the first LayerNorm is the one behind its gate.

Deviations. LLM-ESR's release runs it with the causal mask left out and without masking padded keys, although it
trains at every position, so a position sees its own target: `causal=False, mask_padding=False`, preset `release`.
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn

from llmesr_jax.core.knobs import knob
from llmesr_jax.models.layers import settings
from llmesr_jax.models.layers.transformer import (
    ColumnPositions,
    Positions,
    PostNormTransformer,
    Transformer,
)
from llmesr_jax.models.types import Array, Sequences, Sizes


@dataclasses.dataclass(frozen=True)
class Config:
    blocks: int = settings.blocks()
    heads: int = settings.heads()
    dropout: float = settings.dropout(0.5)
    causal: bool = knob(True, "a position sees only itself and earlier positions (False in preset release)")
    mask_padding: bool = settings.mask_padding()
    form: str = knob(
        "llmesr", "release whose block and positions are used: llmesr or faerec", choices=("llmesr", "faerec")
    )


def supervision(config: Config) -> str:
    """The positions that a loss may use."""
    return "every"


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
        kinds = (c.blocks, c.heads, c.causal, c.mask_padding, c.dropout)
        if c.form == "faerec":
            self.positions = ColumnPositions(self.sizes.max_len, not self.sizes.normed, c.dropout)
            self.transformer = PostNormTransformer(*kinds)
        else:
            self.positions = Positions(self.sizes.max_len, c.dropout)
            self.transformer = Transformer(*kinds)

    def stem(self, x_TxD: Array, sequences: Sequences, deterministic: bool) -> Array:
        """Scale or LayerNorm, by the form, positions, dropout: (..., T, D) -> (..., T, D)."""
        return self.positions(x_TxD, sequences, deterministic)

    def __call__(self, x_TxD: Array, sequences: Sequences, deterministic: bool, last_only: bool = False) -> Array:
        """(..., T, D) -> (..., T, D), or each row's newest position, (..., R, D), with `last_only`."""
        return self.transformer(x_TxD, sequences, deterministic, last_only)
