"""Adam with an L2 penalty in the gradient, which PyTorch's Adam calls weight decay: g + penalty * w goes into both means.

Unlike AdamW's decay, what the penalty takes off a parameter is measured by the size of its gradients: where these are
small, as for rare items, it takes as much as a step can. It moves every row at each step, so it does not go with
`train.table_updates=touched`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import optax

from llmesr_jax.core.knobs import knob
from llmesr_jax.training.optimizers import adam


@dataclasses.dataclass(frozen=True)
class Config(adam.Config):
    penalty: float = knob(1e-4, "times the parameter is added to its gradient", least=0)


def optimizer(config: Config, learning_rate: Any) -> optax.GradientTransformation:
    """`optax.adam` of the penalised gradient."""
    return optax.chain(optax.add_decayed_weights(config.penalty), adam.optimizer(config, learning_rate))
