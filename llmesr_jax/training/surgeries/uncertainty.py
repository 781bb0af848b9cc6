"""Uncertainty weighting (Kendall et al., CVPR 2018, equation 10): the loss is sum_i exp(-s_i) L_i + s_i / 2, s_i learned.

s_i is the logarithm of term i's variance. It starts at 0 and is learned by plain gradient steps: s_i -= rate (1/2 -
exp(-s_i) L_i). A term that stays large gets a small weight. Terms are treated as the paper treats regressions, without
its factor 1/2 of L.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from llmesr_jax.core.knobs import knob
from llmesr_jax.models.types import Array
from llmesr_jax.training.surgeries import Terms
from llmesr_jax.training.surgeries._trees import weighted_sum


@dataclasses.dataclass(frozen=True)
class Config:
    rate: float = knob(0.001, "step size of the logarithms of the variances", least=1e-12)


def init(config: Config, count: int) -> Array:
    """float32 (K,): logarithms of variances, 0."""
    return jnp.zeros(count, jnp.float32)


def combine(config: Config, terms: Terms, state: Array) -> tuple[Any, Array]:
    """The sum of the gradients, each times exp(-s), and the next s."""
    weight_K = jnp.exp(-state)
    value_K = jnp.stack(list(terms.values.values())).astype(jnp.float32)
    return weighted_sum(terms.gradients, weight_K), state - config.rate * (0.5 - weight_K * value_K)
