"""The gradient of each term of the loss, and inner products of the terms' gradients.

The gradients include their terms' weights, so they sum to the gradient of the total loss, which the optimiser gets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from llmesr_jax.experiments.gradients import parameter_groups
from llmesr_jax.models.recommender import Params, Recommender
from llmesr_jax.models.types import Array, Batch, Tables
from llmesr_jax.training import steps


def weighted(
    recommender: Recommender,
    params: Params,
    tables: Tables,
    batch: Batch,
    key: Array | None,
    epoch: Array | float = 0.0,
) -> dict[str, Array]:
    """{term: weight * value}, each (); their sum is the total of `recommender.loss_fn`. Arguments as in `gradients`."""
    terms = recommender.terms(params, tables, batch, key, jnp.asarray(epoch, jnp.float32))
    return {name: jnp.asarray(term.weight * term.value) for name, term in terms.items()}


def gradients(
    recommender: Recommender,
    params: Params,
    tables: Tables,
    batch: Batch,
    key: Array | None,
    epoch: Array | float = 0.0,
) -> dict[str, Params]:
    """{term: gradient of weight * value in the parameters}: one forward pass, and one backward pass for each term.

    Args:
      key: for dropout, the same for all terms; None switches it off.
      epoch: from 1, for methods whose weights depend on it.
    """
    return dict(steps.by_term(recommender, params, tables, batch, key, jnp.asarray(epoch, jnp.float32))[2].gradients)


def total(gradients: Mapping[str, Any]) -> Any:
    """The sum of several trees; for the terms' gradients, the gradient of the loss."""
    return jax.tree.map(lambda *parts: sum(parts[1:], parts[0]), *gradients.values())


def some_targets(batch: Batch, chosen_V: Array) -> tuple[Batch, Array]:
    """The batch with only the chosen targets, and their share of its positions, ().

    If choices partition the targets, the gradient of a mean over positions is the sum over the choices of share times
    the gradient on the choice's batch. Each summand is the part that comes from the chosen targets.

    Args:
      chosen_V: bool (V,), row 0 = id 1.
    """
    valid_T = batch.targets_T > 0
    chosen_T = valid_T & chosen_V[jnp.maximum(batch.targets_T - 1, 0)]
    share = jnp.sum(chosen_T) / jnp.maximum(jnp.sum(valid_T), 1)
    return batch.replace(targets_T=jnp.where(chosen_T, batch.targets_T, 0)), share


def gram(gradients: Mapping[str, Any], others: Mapping[str, Any] | None = None) -> dict[str, Array]:
    """Inner products of gradients by group of parameters: {group: (K, K)}, K terms in the order of `gradients`.

    Args:
      others: trees for the columns; None for `gradients`.
    """
    same = others is None
    rows, columns = list(gradients.values()), list((gradients if same else others).values())
    found = {}
    for i, a in enumerate(rows):
        for j, b in enumerate(columns):
            found[i, j] = found[j, i] if same and j < i else parameter_groups.inner(a, b)
    return {
        group: jnp.stack([jnp.stack([found[i, j][group] for j in range(len(columns))]) for i in range(len(rows))])
        for group in found[0, 0]
    }


def norms(gram_KxK: Array) -> Array:
    """(..., K, K) inner products -> (..., K) norms."""
    return jnp.sqrt(jnp.maximum(jnp.diagonal(gram_KxK, axis1=-2, axis2=-1), 0))


def cosines(gram_KxK: Array) -> Array:
    """(..., K, K) inner products -> (..., K, K) cosines; NaN if a gradient is zero. Below 0, two terms conflict."""
    norms_K = norms(gram_KxK)
    return gram_KxK / (norms_K[..., :, None] * norms_K[..., None, :])
