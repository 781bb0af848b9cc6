"""Adam with an L2 penalty in the gradient, which PyTorch's Adam calls weight decay: g + penalty * w enters both means.

Unlike AdamW's decay, the penalty's effect on a parameter is divided by the size of its gradients: where these are
small, as for rare items, the penalty alone makes a step of full size. Every row moves at each step, so
`train.table_updates=touched` cannot be used.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import optax

from llmesr_jax.core.knobs import knob
from llmesr_jax.training.optimizers import adam


@dataclasses.dataclass(frozen=True)
class Config(adam.Config):
    penalty: float = knob(1e-4, "L2 penalty: this times the parameter is added to its gradient", least=0)


def optimizer(config: Config, learning_rate: Any) -> optax.GradientTransformation:
    """`optax.adam` of the penalised gradient."""
    return optax.chain(optax.add_decayed_weights(config.penalty), adam.optimizer(config, learning_rate))
