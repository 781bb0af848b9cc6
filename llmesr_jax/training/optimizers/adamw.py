"""AdamW (Loshchilov and Hutter, ICLR 2019): Adam with weight decay that is decoupled from the gradient.

Each step removes the share learning_rate * weight_decay of every parameter, tables included, with or without a
gradient. So `train.table_updates=touched` cannot be used, unless the decay is 0.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import optax

from llmesr_jax.core.knobs import knob
from llmesr_jax.training.optimizers import adam


@dataclasses.dataclass(frozen=True)
class Config(adam.Config):
    weight_decay: float = knob(
        1e-2, "weight decay: share of a parameter that a step removes, times the learning rate", least=0
    )


def optimizer(config: Config, learning_rate: Any) -> optax.GradientTransformation:
    """`optax.adamw`."""
    return optax.adamw(learning_rate, b1=config.b1, b2=config.b2, eps=config.eps, weight_decay=config.weight_decay)
