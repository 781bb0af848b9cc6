"""The optimiser: Adam, as in both papers; and a running average of what it trains."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from llmesr_jax.models.types import Array


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


class Averaged(NamedTuple):
    """State of `averaging`: the inner optimiser's, the average as a tree like the parameters, and steps taken."""

    inner: optax.OptState
    average: Any
    count: Array


@functools.cache
def averaging(inner: optax.GradientTransformation, keep: float) -> optax.GradientTransformationExtraArgs:
    """`inner`, and beside it an exponential average of the parameters that it makes (Polyak and Juditsky 1992).

    In step t, from 1, the average keeps k = min(keep, (1 + t) / (10 + t)) of itself and takes 1 - k of the new
    parameters, so that it forgets the start early on. The training does not see it; `monitored` does.
    """
    inner = optax.with_extra_args_support(inner)

    def init(params):
        return Averaged(inner.init(params), jax.tree.map(jnp.copy, params), jnp.zeros((), jnp.int32))

    def update(gradients, state, params=None, **more):
        updates, inner_state = inner.update(gradients, state.inner, params, **more)
        count = state.count + 1
        steps = count.astype(jnp.float32)
        taken = 1 - jnp.minimum(keep, (1 + steps) / (10 + steps))
        new = optax.apply_updates(params, updates)
        average = jax.tree.map(lambda a, b: a + taken.astype(a.dtype) * (b - a), state.average, new)
        return updates, Averaged(inner_state, average, count)

    return optax.GradientTransformationExtraArgs(init, update)


def monitored(params: Any, opt_state: optax.OptState) -> Any:
    """The parameters that validation and the test see: the average if there is one, else `params`."""
    return opt_state.average if isinstance(opt_state, Averaged) else params


def renewed(opt_state: optax.OptState, old: Any, new: Any) -> optax.OptState:
    """The state after parameters were set from outside: the average, if there is one, takes what differs as it is."""
    if not isinstance(opt_state, Averaged):
        return opt_state
    average = jax.tree.map(lambda a, x, y: jnp.where(x == y, a, y.astype(a.dtype)), opt_state.average, old, new)
    return opt_state._replace(average=average)
