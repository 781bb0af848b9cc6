"""GradNorm (Chen et al., ICML 2018): weights of the terms, by which a term that falls slowly gets a longer gradient.

With G_i = |w_i g_i|, G their mean, and r_i = (L_i / L_i(0)) / mean_j (L_j / L_j(0)) (how slowly term i falls, relative
to the others), the weights take a gradient step on sum_i |G_i - G r_i^a|, with a constant target, and are then scaled
to sum to K. Gradients are over all parameters; the paper uses one layer that the tasks share.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from llmesr_jax.core.knobs import knob
from llmesr_jax.models.types import Array
from llmesr_jax.training.surgeries import Terms
from llmesr_jax.training.surgeries._trees import gram, weighted_sum


@dataclasses.dataclass(frozen=True)
class Config:
    asymmetry: float = knob(1.5, "a: how much longer gradients of slow terms get; 0: equally long gradients", least=0)
    rate: float = knob(0.025, "step size of the weights", least=1e-12)


def init(config: Config, count: int) -> dict[str, Array]:
    """Equal weights; the first values are not known yet (0)."""
    return {"weights": jnp.ones(count, jnp.float32), "first": jnp.zeros(count, jnp.float32)}


def combine(config: Config, terms: Terms, state: dict[str, Array]) -> tuple[Any, dict[str, Array]]:
    """The sum of the gradients under this step's weights, and the next step's weights."""
    value_K = jnp.stack(list(terms.values.values())).astype(jnp.float32)
    first_K = jnp.where(state["first"] == 0, value_K, state["first"])
    length_K = jnp.sqrt(jnp.diagonal(gram(terms.gradients))).astype(jnp.float32)
    moved_K = moved(config, state["weights"], length_K, value_K / jnp.where(first_K == 0, 1.0, first_K))
    return weighted_sum(terms.gradients, state["weights"]), {"weights": moved_K, "first": first_K}


def moved(config: Config, weights_K: Array, length_K: Array, left_K: Array) -> Array:
    """(K,): the next weights.

    Args:
      weights_K: the current weights.
      length_K: norms of the gradients, without these weights.
      left_K: the ratio of each term's value to its first value.
    """
    slow_K = left_K / jnp.maximum(jnp.mean(left_K), 1e-12)
    now_K = weights_K * length_K
    target_K = jnp.mean(now_K) * jnp.maximum(slow_K, 0.0) ** config.asymmetry
    moved_K = jnp.maximum(weights_K - config.rate * length_K * jnp.sign(now_K - target_K), 1e-4)
    return moved_K * len(moved_K) / jnp.sum(moved_K)
