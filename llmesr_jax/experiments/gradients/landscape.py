"""The loss beyond its leading curvature: the Hessian's spectrum by stochastic Lanczos; the line between two models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from llmesr_jax.experiments.gradients import curvature
from llmesr_jax.models.recommender import Params
from llmesr_jax.models.types import Array


class Spectrum(NamedTuple):
    """The density of eigenvalues as weighted points, one set per probe; the mean over probes estimates it.

    Attributes:
      values_MxN: (probes, order) points, in the units of the eigenvalues, smallest first.
      weights_MxN: (probes, order), >= 0, of sum 1 in each probe.
    """

    values_MxN: np.ndarray
    weights_MxN: np.ndarray

    def mean(self, function: Callable[[np.ndarray], np.ndarray]) -> float:
        """The mean of a function over all eigenvalues: `lambda x: x` gives trace / parameters."""
        return float(np.mean(np.sum(self.weights_MxN * function(self.values_MxN), axis=1)))


def spectrum(
    loss: Callable[..., Array], params: Params, *arguments: Any, probes: int = 4, order: int = 32, seed: int = 0
) -> Spectrum:
    """The spectrum of the Hessian by stochastic Lanczos quadrature (Ghorbani et al. 2019, algorithm 1).

    A probe is a random vector v, Gaussian and scaled to norm 1. Its points and weights have the moments v^T H^k v for
    k < 2 order. Each new Lanczos vector is made orthogonal to all earlier ones, so `order` vectors of the parameters'
    size are kept on the host.

    Args:
      loss: as in `curvature.eigenpairs`.
      probes: number of probes.
      order: products with the Hessian for each probe; at most the number of parameters.
      seed: of the probes.
    """
    flat, _ = ravel_pytree(params)
    order, rng = min(order, flat.size), np.random.default_rng(seed)
    product = lambda v: np.asarray(curvature._product(loss, params, jnp.asarray(v, flat.dtype), *arguments), np.float64)  # noqa: E731
    found = [_lanczos(product, rng.normal(size=flat.size), order) for _ in range(probes)]
    return Spectrum(*(np.stack(part) for part in zip(*found)))


def _lanczos(product: Callable[[np.ndarray], np.ndarray], start: np.ndarray, order: int):
    """((order,) points, (order,) weights) of one probe; points of weight 0 fill up if the Krylov space is smaller."""
    basis = [start / np.linalg.norm(start)]
    diagonal, beside = [], []
    while True:
        moved = product(basis[-1])
        diagonal.append(basis[-1] @ moved)
        if len(diagonal) == order:
            break
        for _ in range(2):  # after one pass, rounding errors leave the vectors not quite orthogonal
            for one in basis:
                moved = moved - (one @ moved) * one
        norm = np.linalg.norm(moved)
        if norm <= 1e-10 * max(np.abs(diagonal)):
            break
        beside.append(norm)
        basis.append(moved / norm)
    tridiagonal = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
    values, vectors = np.linalg.eigh(tridiagonal)
    missing = order - len(values)
    return np.pad(values, (0, missing), mode="edge"), np.pad(vectors[0] ** 2, (0, missing))


def line(loss: Callable[..., Array], first: Params, second: Params, steps_A: Array, *arguments: Any) -> Array:
    """(A,): the loss on the line between two models, at (1 - t) first + t second for each t of `steps_A`."""

    def at(t):
        mixed = jax.tree.map(lambda a, b: (1 - t.astype(a.dtype)) * a + t.astype(a.dtype) * b, first, second)
        return loss(mixed, *arguments)

    return jax.lax.map(at, steps_A)


def barrier(losses_A: np.ndarray, steps_A: np.ndarray) -> float:
    """The greatest height of the loss above the straight line between its values at the ends (Frankle et al. 2020).

    Args:
      losses_A: of `line`.
      steps_A: from 0 to 1.
    """
    straight = losses_A[0] + (losses_A[-1] - losses_A[0]) * np.asarray(steps_A)
    return float(np.max(np.asarray(losses_A) - straight))
