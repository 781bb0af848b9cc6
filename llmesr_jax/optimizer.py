"""The optimiser: Adam, as in both papers."""

from __future__ import annotations

import functools

import jax
import optax


@functools.cache  # equal ones are one object, so compiled code is found again
def adam(learning_rate: float = 1e-3) -> optax.GradientTransformationExtraArgs:
    """Adam with optax's (and PyTorch's) defaults: betas 0.9 and 0.999, epsilon 1e-8; state and numbers of `optax.adam`.

    `update(..., learning_rate=x)` takes another step size, which may be an array, so that it can differ under `vmap`.
    """

    def scale(updates, state, params=None, *, learning_rate=learning_rate, **_):
        del params
        return jax.tree.map(lambda x: -learning_rate * x, updates), state

    last = optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), scale)
    return optax.chain(optax.scale_by_adam(), last)
