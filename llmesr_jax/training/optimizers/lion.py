"""Lion (Chen et al., NeurIPS 2023): steps by the sign of a momentum, with half of Adam's state.

Every entry with a gradient moves by the learning rate, which should be 3 to 10 times smaller than Adam's.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import optax

from llmesr_jax.core.knobs import knob


@dataclasses.dataclass(frozen=True)
class Config:
    b1: float = knob(0.9, "share of the momentum in a step's direction", least=0, most=0.99999)
    b2: float = knob(0.99, "decay of the momentum", least=0, most=0.999999)
    weight_decay: float = knob(
        0.0, "weight decay: share of a parameter that a step removes, times the learning rate", least=0
    )


def optimizer(config: Config, learning_rate: Any) -> optax.GradientTransformation:
    """`optax.lion`."""
    return optax.lion(learning_rate, b1=config.b1, b2=config.b2, weight_decay=config.weight_decay)
