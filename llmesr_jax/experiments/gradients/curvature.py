"""Curvature of the loss: Hessian-vector products, leading eigenvalues by Lanczos, the loss on a plane.

The Hessian is that of the loss in the parameters, with everything constant whose gradient is stopped, such as LLM-ESR's
teachers. (In the derivative of the gradient that training follows, the teachers would change with the parameters. That
matrix is not symmetric, so it is not the Hessian of any function.)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse.linalg
from jax.flatten_util import ravel_pytree

from llmesr_jax.experiments.gradients import terms as terms_lib
from llmesr_jax.models.axes import Axes
from llmesr_jax.models.recommender import Params, Recommender
from llmesr_jax.models.types import Array, Batch, Tables


def mean_loss(
    recommender: Recommender,
    params: Params,
    tables: Tables,
    batches: Batch,
    epoch: Array | float = 0.0,
    factors: Mapping[str, Array | float] | None = None,
) -> Array:
    """(): the mean loss over batches, without dropout.

    Args:
      batches: stacked, with a leading axis on every array.
      epoch: from 1, for methods whose weights depend on it.
      factors: {term: ()}, multiplied with the term's weight; zeros leave terms out, without another compilation. None
        for ones.
    """

    @jax.checkpoint  # so that a gradient keeps one batch's activations at a time
    def one(batch):
        values = terms_lib.weighted(recommender, params, tables, batch, None, epoch)
        if factors is None:
            return sum(values.values())
        return sum(jnp.asarray(factors[name], value.dtype) * value for name, value in values.items())

    return jnp.mean(jax.lax.map(one, batches))


def hvp(loss: Callable[..., Array], params: Params, direction: Params, *arguments: Any) -> Params:
    """The Hessian of `loss(params, *arguments)` times a direction: forward over reverse, about two gradients' cost."""
    return jax.jvp(lambda p: jax.grad(loss)(p, *arguments), (params,), (direction,))[1]


class Eigenpairs(NamedTuple):
    """Eigenvalues and their eigenvectors.

    Attributes:
      values: float (n,), in the order that was asked for.
      vectors: n trees like the parameters, of norm 1, orthogonal.
    """

    values: np.ndarray
    vectors: list[Params]


def eigenpairs(
    loss: Callable[..., Array], params: Params, *arguments: Any, count: int = 1, smallest: bool = False, seed: int = 0
) -> Eigenpairs:
    """The leading eigenvalues and eigenvectors of the Hessian, by Lanczos (ARPACK, restarted), to 1 %.

    Args:
      loss: (params, *arguments) -> (), pure; hashable, as it is a static argument of a compiled program.
      count: number of eigenvalues; less than the number of parameters.
      smallest: return the smallest eigenvalues, smallest first; else the largest, largest first.
      seed: of the vector that Lanczos starts from.
    """
    flat, unravel = ravel_pytree(params)

    def times(v):
        return np.asarray(_product(loss, params, jnp.asarray(v.reshape(-1), flat.dtype), *arguments))

    operator = scipy.sparse.linalg.LinearOperator((flat.size, flat.size), matvec=times, dtype=flat.dtype)
    start = np.random.default_rng(seed).normal(size=flat.size).astype(flat.dtype)
    values, vectors = scipy.sparse.linalg.eigsh(
        operator,
        k=count,
        which="SA" if smallest else "LA",
        v0=start,
        tol=1e-2,
        ncv=min(flat.size, max(2 * count + 2, 12)),
    )
    order = np.argsort(values if smallest else -values)
    return Eigenpairs(values[order], [unravel(jnp.asarray(vectors[:, i])) for i in order])


@functools.partial(jax.jit, static_argnums=0)
def _product(loss, params, flat, *arguments):
    return ravel_pytree(hvp(loss, params, ravel_pytree(params)[1](flat), *arguments))[0]


def random_direction(params: Params, key: Array, axes: Axes) -> Params:
    """A Gaussian direction with the norm of the parameters in each filter.

    Li et al. 2018, "Visualizing the Loss Landscape of Neural Nets". A filter is a row of an array over items or users;
    of any other matrix, the weights of one output. The direction is 0 in vectors (biases, scales).
    """
    leaves, tree = jax.tree_util.tree_flatten_with_path(params)
    keys = jax.random.split(key, len(leaves))

    def draw(path, x, key):
        if x.ndim < 2:
            return jnp.zeros_like(x)
        drawn = jax.random.normal(key, x.shape, x.dtype)
        summed = tuple(range(1, x.ndim)) if axes.at(path) else tuple(range(x.ndim - 1))
        norm = lambda y: jnp.sqrt(jnp.sum(jnp.square(y), axis=summed, keepdims=True))  # noqa: E731
        return drawn * norm(x) / norm(drawn)

    return tree.unflatten([draw(path, x, key) for (path, x), key in zip(leaves, keys)])


def surface(
    loss: Callable[..., Array],
    params: Params,
    first: Params,
    second: Params,
    steps_A: Array,
    steps_B: Array,
    *arguments: Any,
) -> Array:
    """(A, B): loss(params + a first + b second, *arguments) for all a, b."""

    def at(a, b):
        moved = jax.tree.map(lambda p, x, y: p + a.astype(p.dtype) * x + b.astype(p.dtype) * y, params, first, second)
        return loss(moved, *arguments)

    return jax.lax.map(lambda a: jax.lax.map(lambda b: at(a, b), steps_B), steps_A)
