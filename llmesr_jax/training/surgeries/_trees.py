"""Sums and inner products of the gradients of a loss's terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from llmesr_jax.models.types import Array


def gram(gradients: Mapping[str, Any]) -> Array:
    """(K, K): inner products of the terms' gradients over all parameters."""
    leaves = [jax.tree.leaves(gradient) for gradient in gradients.values()]
    rows = [[sum(jnp.vdot(x, y) for x, y in zip(a, b)) for b in leaves[: i + 1]] for i, a in enumerate(leaves)]
    return jnp.stack([jnp.stack([rows[max(i, j)][min(i, j)] for j in range(len(rows))]) for i in range(len(rows))])


def weighted_sum(gradients: Mapping[str, Any], weights: Array | Sequence[Any]) -> Any:
    """The sum of weight times gradient over the terms; `weights` has one () number per term, in order."""

    def one(*parts):
        total = parts[0] * weights[0].astype(parts[0].dtype)
        for weight, part in zip(weights[1:], parts[1:]):
            total = total + part * weight.astype(part.dtype)
        return total

    return jax.tree.map(one, *gradients.values())
