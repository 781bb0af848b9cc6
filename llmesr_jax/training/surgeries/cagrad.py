"""CAGrad (Liu et al., NeurIPS 2021, algorithm 1): near the mean gradient, the direction best for the worst term.

With g0 the mean of the terms' gradients, phi = c^2 |g0|^2 and w on the simplex, w* minimises g_w . g0 + sqrt(phi) |g_w|
where g_w = sum_i w_i g_i; the direction is d = g0 + sqrt(phi) / |g_w*| g_w*. The optimiser gets K d, so c = 0 is the
sum. The minimum over the K weights is found by mirror descent with decreasing steps; it needs only inner products.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from llmesr_jax.core.knobs import knob
from llmesr_jax.models.types import Array
from llmesr_jax.training.surgeries import Terms
from llmesr_jax.training.surgeries._trees import gram, weighted_sum


@dataclasses.dataclass(frozen=True)
class Config:
    c: float = knob(
        0.5, "how far from the mean gradient, as a share of its length; 0: the sum of the gradients", least=0
    )
    iterations: int = knob(100, "iterations that minimise over the weights of terms, in each step", least=1)


def init(config: Config, count: int) -> Any:
    """No state."""
    return ()


def combine(config: Config, terms: Terms, state: Any) -> tuple[Any, Any]:
    """K times the direction d, and no state."""
    return weighted_sum(terms.gradients, weights(config, gram(terms.gradients))), state


def weights(config: Config, gram_KxK: Array) -> Array:
    """(K,): the weights of the gradients in K d, from their inner products (K, K)."""
    count = len(gram_KxK)
    scale = jnp.maximum(jnp.mean(jnp.diagonal(gram_KxK)), 1e-30)  # so that the loss's scale does not change the steps
    gram_KxK = gram_KxK / scale
    mean_K = jnp.full(count, 1 / count, gram_KxK.dtype)
    radius = config.c * _length(gram_KxK, mean_K)

    def objective(w_K):
        return w_K @ gram_KxK @ mean_K + radius * _length(gram_KxK, w_K)

    def step(i, log_K):
        w_K = jax.nn.softmax(log_K)
        return log_K - 4.0 / jnp.sqrt(1.0 + i) * jax.grad(objective)(w_K)

    w_K = jax.nn.softmax(jax.lax.fori_loop(0, config.iterations, step, jnp.zeros(count, gram_KxK.dtype)))
    return count * (mean_K + radius / jnp.maximum(_length(gram_KxK, w_K), 1e-12) * w_K)


def _length(gram_KxK: Array, w_K: Array) -> Array:
    return jnp.sqrt(jnp.maximum(w_K @ gram_KxK @ w_K, 1e-24))
