"""Influence of users: the effect of training on a user on the loss of others, without training again.

Two estimates, both inner products of a user's part of the gradient with a direction, and positive if the user helps:

    TracIn        sum over snapshots of rate * <gradient of the target's loss, the user's part>: by how much the steps on this
                  user lowered the target's loss, to first order (Pruthi et al. 2020, "Estimating Training Data Influence by
                  Tracing Gradient Descent", TracInCP). `rate` is what a step multiplies the user's gradient by, times how often
                  it is taken between snapshots. Exact for plain gradient descent with small steps; for Adam, which rescales
                  every number, it ranks users but its size means nothing.
    Gauss-Newton  <(G + damping)^-1 gradient of the target's loss, the user's part>: by how much the target's loss would rise if
                  the user had not been there and training had gone on to the end (Koh and Liang 2017, with the Gauss-Newton
                  matrix for the Hessian; Bae et al. 2022 on what the damping means), here for the rows of item tables.

An inner product needs no user's gradient: it is the derivative of the user's loss along the direction, one pass forward.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.sparse.linalg

from llmesr_jax.experiments.gradients import gauss_newton, parameter_groups, users
from llmesr_jax.experiments.gradients import terms as terms_lib
from llmesr_jax.models.axes import ITEM, Axes
from llmesr_jax.models.recommender import Params, Recommender
from llmesr_jax.models.types import Array, Batch, Tables


def along(
    recommender: Recommender,
    params: Params,
    tables: Tables,
    batch: Batch,
    directions_Q: Params,
    means: Mapping[str, str | None],
    *,
    epoch: Array | float = 0.0,
    block: int = 16,
) -> dict[str, Array]:
    """{term: (B, Q)}: each user's part of the term's gradient, times each direction; without dropout.

    Args:
      directions_Q: a tree like the parameters, with a leading axis Q on every array.
      means: as `users.splits` finds them; coupled terms (None) are left out.
      block: users at a time.
    """
    kept = [name for name, mean in means.items() if mean]
    size = min(block, len(batch.distils_B))

    def values_B(p):
        def one(user):
            single, shares_1 = user

            def values(q):
                found = terms_lib.weighted(recommender, q, tables, single, None, epoch)
                return {name: shares_1[means[name]].astype(found[name].dtype) * found[name] for name in kept}

            return jax.vjp(values, p)[0]  # as reverse mode computes them, as in `gauss_newton.gnvp`

        return jax.lax.map(one, (users.alone(batch), users.shares(batch)), batch_size=size)

    slopes = jax.lax.map(lambda v: jax.jvp(values_B, (params,), (v,))[1], directions_Q)
    return {name: x_QxB.T for name, x_QxB in slopes.items()}


def target_gradient(
    recommender: Recommender,
    params: Params,
    tables: Tables,
    batch: Batch,
    where_T: Array,
    epoch: Array | float = 0.0,
) -> tuple[Params, Array]:
    """The gradient of the sum of the ranking loss over some positions, without dropout, and how many they are, ().

    Args:
      where_T: bool (T,), the slots whose targets are meant; those without a target do not count.
    """
    chosen_T = where_T & (batch.targets_T > 0)
    some = batch.replace(targets_T=jnp.where(chosen_T, batch.targets_T, 0))
    count = jnp.sum(chosen_T)

    def total(p):
        value = terms_lib.weighted(recommender, p, tables, some, None, epoch)["ranking"]
        return count.astype(value.dtype) * value

    return jax.grad(total)(params), count


def item_rows(tree: Params, axes: Axes) -> Params:
    """The tree with zeros in every array that is not over items."""
    at = jax.tree_util.tree_map_with_path
    return at(lambda path, x: x if axes.at(path) == ITEM else jnp.zeros_like(x), tree)


def item_product(
    recommender: Recommender, params: Params, tables: Tables, batches: Batch, axes: Axes
) -> Callable[[Params], Params]:
    """v -> G v, G the ranking's Gauss-Newton matrix in the rows of item tables, zero elsewhere; mean over stacked batches."""

    def product(direction):
        direction = item_rows(direction, axes)

        def one(batch):
            return item_rows(gauss_newton.ranking_gnvp(recommender, params, tables, batch, direction), axes)

        return jax.tree.map(lambda x: jnp.mean(x, axis=0), jax.lax.map(one, batches))

    return product


def solve(
    product: Callable[[Params], Params],
    right: Params,
    damping: Array | float,
    *,
    tolerance: float = 1e-3,
    iterations: int = 100,
) -> tuple[Params, Array]:
    """(x, |(G + damping) x - right| / |right|), x by conjugate gradients: G symmetric and never negative.

    Args:
      product: v -> G v.
      damping: > 0, in the units of G's eigenvalues.
      tolerance: of the second result, at which it ends, if not after `iterations`.
    """

    def damped(v):
        return jax.tree.map(lambda x, y: x + jnp.asarray(damping, y.dtype) * y, product(v), v)

    x, _ = jax.scipy.sparse.linalg.cg(damped, right, tol=tolerance, maxiter=iterations)
    left = jax.tree.map(lambda a, b: a - b, damped(x), right)
    square = lambda tree: parameter_groups.inner(tree, tree)[parameter_groups.ALL]  # noqa: E731
    return x, jnp.sqrt(square(left) / square(right))


def stacked(trees: Mapping[str, Any]) -> Params:
    """Trees as one, with a leading axis: the directions of `along`."""
    return jax.tree.map(lambda *x: jnp.stack(x), *trees.values())
