"""Influence of users: the effect of training on a user on the loss of others, without training again.

There are two estimates. Each is the inner product of a user's part of the gradient with a direction, and is positive if
the user lowers the target's loss:

    TracIn        sum over snapshots of rate * <gradient of the target's loss, the user's part>: by how much the steps
                  on this user lowered the target's loss, to first order (Pruthi et al. 2020, "Estimating Training Data
                  Influence by Tracing Gradient Descent", TracInCP). `rate` is the learning rate times the number of
                  steps on the user between snapshots. Exact for plain gradient descent in the limit of small steps. For
                  Adam, which rescales every parameter's gradient, it ranks users, but its size has no meaning.
    Gauss-Newton  <(G + damping)^-1 gradient of the target's loss, the user's part>: by how much the target's loss would
                  rise if the model were trained to convergence without the user (Koh and Liang 2017, with the
                  Gauss-Newton matrix in place of the Hessian; Bae et al. 2022 on the meaning of the damping), here for
                  the rows of item tables.

No user's gradient is computed: the inner product is the derivative of the user's loss along the direction, which takes
one forward pass.
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
    """{term: (B, Q)}: inner products of each user's part of the term's gradient with each direction; without dropout.

    Args:
      directions_Q: a tree like the parameters, with a leading axis Q on every array.
      means: of `users.splits`; coupled terms (None) are left out.
      epoch: from 1, for methods whose weights depend on it.
      block: number of users that are computed at once.
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
    """The gradient of the sum of the ranking loss over some positions, without dropout, and their number, int ().

    Args:
      where_T: bool (T,), the slots whose targets are included; those without a target do not count.
    """
    chosen_T = where_T & (batch.targets_T > 0)
    some = batch.replace(targets_T=jnp.where(chosen_T, batch.targets_T, 0))
    count = jnp.sum(chosen_T)

    def total(p):
        value = terms_lib.weighted(recommender, p, tables, some, None, epoch)["ranking"]
        return count.astype(value.dtype) * value

    return jax.grad(total)(params), count


def item_rows(tree: Params, axes: Axes) -> Params:
    """The tree with zeros in every array whose first axis is not items."""
    at = jax.tree_util.tree_map_with_path
    return at(lambda path, x: x if axes.at(path) == ITEM else jnp.zeros_like(x), tree)


def item_product(
    recommender: Recommender, params: Params, tables: Tables, batches: Batch, axes: Axes
) -> Callable[[Params], Params]:
    """v -> G v. G is the ranking's Gauss-Newton matrix in the rows of item tables, 0 for other parameters.

    Args:
      batches: stacked, with a leading axis on every array; G is the mean over them.
      axes: the model's, `Recommender.axes`.
    """

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
    """Solves (G + damping) x = right by conjugate gradients.

    Args:
      product: v -> G v, with a symmetric positive semi-definite G.
      right: the right-hand side, a tree like the parameters.
      damping: > 0, in the units of G's eigenvalues.
      tolerance: of the relative residual; the iterations end below it.
      iterations: the most iterations.
    Returns: x, and its relative residual |(G + damping) x - right| / |right|, ().
    """

    def damped(v):
        return jax.tree.map(lambda x, y: x + jnp.asarray(damping, y.dtype) * y, product(v), v)

    x, _ = jax.scipy.sparse.linalg.cg(damped, right, tol=tolerance, maxiter=iterations)
    left = jax.tree.map(lambda a, b: a - b, damped(x), right)
    square = lambda tree: parameter_groups.inner(tree, tree)[parameter_groups.ALL]  # noqa: E731
    return x, jnp.sqrt(square(left) / square(right))


def stacked(trees: Mapping[str, Any]) -> Params:
    """The trees as one, stacked along a new leading axis: the directions of `along`."""
    return jax.tree.map(lambda *x: jnp.stack(x), *trees.values())
