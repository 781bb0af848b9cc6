"""Gradients of an item table by row: the share of tail items, by role, and the conflicts of terms item by item."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from llmesr_jax.experiments.gradients import terms as terms_lib
from llmesr_jax.models.axes import ITEM, Axes, path_of
from llmesr_jax.models.recommender import Params, Recommender
from llmesr_jax.models.types import Array, Batch, Tables, wide

ROLES = ("input", "target", "negative")


def tables_of(params: Params, axes: Axes) -> dict[str, Array]:
    """{path: (V + 2, D)}: the parameters over items, or gradients of that structure; a vector over items has D = 1."""
    found = jax.tree_util.tree_flatten_with_path(params)[0]
    return {path_of(path): x.reshape(len(x), -1) for path, x in found if axes.at(path) == ITEM}


def row_squares(table: Array) -> Array:
    """(V + 2, D) -> (V,) squared norms of the items' rows."""
    return jnp.sum(jnp.square(table[1:-1].astype(wide(table))), axis=1)


def share(squares_V: Array, chosen_V: Array) -> Array:
    """(): the chosen rows' part of the sum of all; 0 if the sum is 0.

    Args:
      squares_V: (V,) squared norms.
      chosen_V: bool (V,).
    """
    kept = jnp.sum(jnp.where(chosen_V, squares_V, jnp.zeros((), squares_V.dtype)))
    return kept / jnp.maximum(jnp.sum(squares_V), jnp.finfo(squares_V.dtype).tiny)


def row_gram(gradients: Mapping[str, Params], axes: Axes) -> dict[str, Array]:
    """{table: (V, K, K)}: inner products of the gradients of K terms, item by item, in the order of `gradients`."""
    trees = [tables_of(gradient, axes) for gradient in gradients.values()]
    return {
        name: jnp.stack([jnp.stack([_row_inner(a[name], b[name]) for b in trees], -1) for a in trees], -2)
        for name in trees[0]
    }


def has_roles(recommender: Recommender, batch: Batch) -> bool:
    """Whether `by_role` can separate roles, which needs each position to have its own negatives."""
    return batch.shared_K is None and batch.negatives_TxK.shape[1] > 0


def by_role(
    recommender: Recommender,
    params: Params,
    tables: Tables,
    batch: Batch,
    key: Array | None,
    epoch: Array | float = 0.0,
    term: str = "ranking",
    *,
    axes: Axes,
) -> dict[str, Array]:
    """{table: (3, V + 2, D)}: the term's gradient by the items' roles, in the order of `ROLES`; they sum to the whole.

    The batch is renumbered over a catalogue that has every item three times, once for each role, in rows with the same
    values, so methods and backbones need no code for it. Exact for a loss that depends on items through their vectors
    alone, as the ranking losses do if each position has its own negatives.

    Args:
      key: for dropout; None switches it off.
      epoch: from 1, for methods whose weights depend on it.
      term: name of the term.
      axes: the model's, `Recommender.axes`.
    Raises:
      ValueError: the batch has shared negatives, which may be a position's target (`has_roles`).
    """
    if not has_roles(recommender, batch):
        raise ValueError(
            "by_role: the batch has shared negatives; expected own negatives of each position (data.negatives=own)"
        )
    rows = recommender.sizes.num_items + 2
    as_role = lambda ids, role: jnp.where(ids > 0, ids + role * rows, 0)  # noqa: E731
    tripled = batch.replace(
        targets_T=as_role(batch.targets_T, 1),
        negatives_TxK=as_role(batch.negatives_TxK, 2),
    )
    thrice = lambda x: jnp.tile(x, (3,) + (1,) * (x.ndim - 1))  # noqa: E731
    large = jax.tree_util.tree_map_with_path(lambda path, x: thrice(x) if axes.at(path) == ITEM else x, params)
    frozen = {name: thrice(table) if axes.of_table(name) == ITEM else table for name, table in tables.items()}

    def loss(p):
        return terms_lib.weighted(recommender, p, frozen, tripled, key, epoch)[term]

    return {name: x.reshape(3, rows, -1) for name, x in tables_of(jax.grad(loss)(large), axes).items()}


def _row_inner(a: Array, b: Array) -> Array:
    return jnp.sum(a[1:-1].astype(wide(a)) * b[1:-1].astype(wide(b)), axis=1)
