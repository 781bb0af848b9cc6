"""Adam (Kingma and Ba, ICLR 2015), with optax's and PyTorch's defaults: the optimiser of both papers."""

from __future__ import annotations

import dataclasses
from typing import Any

import optax

from llmesr_jax.core.knobs import knob


@dataclasses.dataclass(frozen=True)
class Config:
    b1: float = knob(0.9, "decay of the mean of gradients", least=0, most=0.99999)
    b2: float = knob(0.999, "decay of the mean of squared gradients", least=0, most=0.999999)
    eps: float = knob(1e-8, "epsilon, added to the root of the mean of squared gradients", least=0)


def optimizer(config: Config, learning_rate: Any) -> optax.GradientTransformation:
    """`optax.adam`."""
    return optax.adam(learning_rate, b1=config.b1, b2=config.b2, eps=config.eps)
