"""PCGrad (Yu et al., NeurIPS 2020, algorithm 1): if two gradients conflict, each loses its component against the other.

For each term i, with the other terms j in random order: g_i <- g_i - min(0, g_i . g_j) / |g_j|^2 g_j, where g_j is the
original gradient. The optimiser gets the sum over i. Every g_i is a combination of the gradients, so only their inner
products are needed.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from llmesr_jax.models.types import Array
from llmesr_jax.training.surgeries import Terms
from llmesr_jax.training.surgeries._trees import gram, weighted_sum


@dataclasses.dataclass(frozen=True)
class Config:
    pass


def init(config: Config, count: int) -> Any:
    """No state."""
    return ()


def combine(config: Config, terms: Terms, state: Any) -> tuple[Any, Any]:
    """The sum of the gradients, each without its components against others; and no state."""
    return weighted_sum(terms.gradients, weights(gram(terms.gradients), terms.key)), state


def weights(gram_KxK: Array, key: Array) -> Array:
    """(K,): the weights of the original gradients in the sum, from their inner products (K, K)."""
    count = len(gram_KxK)

    def of_term(i, order):
        def against(own_K, j):
            inner = own_K @ gram_KxK[:, j]
            away = jnp.where(j == i, 0.0, jnp.minimum(inner, 0.0) / jnp.maximum(gram_KxK[j, j], 1e-30))
            return own_K.at[j].add(-away), None

        return jax.lax.scan(against, jnp.zeros(count, gram_KxK.dtype).at[i].set(1.0), order)[0]

    orders = jax.vmap(lambda k: jax.random.permutation(k, count))(jax.random.split(key, count))
    return jnp.sum(jax.vmap(of_term)(jnp.arange(count), orders), axis=0)
