"""Layers of encoders that normalise after each residual (FMLP-Rec, LRURec, LightSANs, BSARec), as in FAERec's release.

Matrices start at N(0, 0.02) unless a layer is given `init`, biases at 0; LayerNorm's epsilon is 1e-12; GELU is exact
(erf).
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax

from llmesr_jax.models.kernels.dropout import Dropout
from llmesr_jax.models.layers.dense import LayerNorm
from llmesr_jax.models.types import Array, Sequences

EPSILON = 1e-12
NORMAL = nn.initializers.normal(0.02)


def dense(features: int, name: str, init: Callable[..., Array] = NORMAL) -> nn.Dense:
    """A dense layer with a bias that starts at 0."""
    return nn.Dense(features, kernel_init=init, name=name)


class Residual(nn.Module):
    """LN(x + dropout(change)), the end of each half of a block."""

    dropout: float

    @nn.compact
    def __call__(self, x: Array, change: Array, sequences: Sequences, deterministic: bool) -> Array:
        return LayerNorm(EPSILON, name="norm")(x + Dropout(self.dropout)(change, sequences, deterministic))


class FeedForward(nn.Module):
    """LN(x + dropout(W2 gelu(W1 x + b1) + b2)), four times as wide inside."""

    dropout: float
    init: Callable[..., Array] = NORMAL

    @nn.compact
    def __call__(self, x: Array, sequences: Sequences, deterministic: bool) -> Array:
        width = x.shape[-1]
        hidden = jax.nn.gelu(dense(4 * width, "in", self.init)(x), approximate=False)
        change = dense(width, "out", self.init)(hidden)
        return Residual(self.dropout, name="out_residual")(x, change, sequences, deterministic)
