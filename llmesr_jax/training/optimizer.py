"""The optimiser of a run: a plug-in or the method's own, with parameters that stay fixed and a running average."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from llmesr_jax.core.errors import InputError
from llmesr_jax.models.axes import path_of
from llmesr_jax.models.recommender import Recommender
from llmesr_jax.models.types import Array
from llmesr_jax.training import config as config_lib
from llmesr_jax.training import optimizers, surgeries
from llmesr_jax.training.schema import AUTO, DEFAULT

_RATE = 1e-3  # for an `update` without a learning rate; training always passes one


@functools.cache
def injected(
    make: Callable[[Any], optax.GradientTransformation], learning_rate: float = _RATE
) -> optax.GradientTransformationExtraArgs:
    """The optimiser `make(learning_rate)`, with a learning rate that each update may replace.

    `update(..., learning_rate=x)` uses x instead, which may be an array, so it can differ between the lanes of a
    `vmap`. The state of `make(x)` must not depend on x. The numbers are those of `make(x)` (as with
    `optax.inject_hyperparams`, but without a state of its own).
    """

    def update(updates, state, params=None, *, learning_rate=learning_rate, **more):
        return optax.with_extra_args_support(make(learning_rate)).update(updates, state, params, **more)

    return optax.GradientTransformationExtraArgs(lambda params: make(learning_rate).init(params), update)


@functools.cache
def _of_plugin(name: str, settings: Any) -> Callable[[Any], optax.GradientTransformation]:
    return functools.partial(optimizers.PLUGINS.load(name).optimizer, settings)


def adam(learning_rate: float = _RATE) -> optax.GradientTransformationExtraArgs:
    """Adam with optax's (and PyTorch's) defaults: betas 0.9 and 0.999, epsilon 1e-8; state and numbers of `optax.adam`.

    See `injected`. The same learning rate gives the same object, so compiled code is reused.
    """
    return injected(_of_plugin("adam", optimizers.PLUGINS.load("adam").Config()), learning_rate)


@functools.cache
def holding(inner: optax.GradientTransformation, paths: tuple[str, ...]) -> optax.GradientTransformationExtraArgs:
    """`inner` for all parameters except those at `paths`, such as table/items, which do not change."""

    def labels(params):
        label = lambda path, _: "held" if path_of(path) in paths else "trained"  # noqa: E731
        return jax.tree_util.tree_map_with_path(label, params)

    return optax.partition({"trained": inner, "held": optax.set_to_zero()}, labels)


class ByTerm(optax.GradientTransformationExtraArgs):
    """An optimiser whose `update` takes `surgeries.Terms` instead of a gradient."""


class Operated(NamedTuple):
    """State of `operating`: the inner optimiser's, and the surgery's."""

    inner: optax.OptState
    surgery: Any


@functools.cache
def operating(inner: optax.GradientTransformation, name: str, settings: Any, count: int) -> ByTerm:
    """`inner`, applied to the gradient that a surgery makes of the gradients of the loss's terms.

    Args:
      inner: the optimiser.
      name, settings: of the surgery, see `surgeries`.
      count: the number of terms of the loss.
    """
    inner, surgery = optax.with_extra_args_support(inner), surgeries.PLUGINS.load(name)

    def init(params):
        return Operated(inner.init(params), surgery.init(settings, count))

    def update(terms, state, params=None, **more):
        gradient, operated = surgery.combine(settings, terms, state.surgery)
        updates, inner_state = inner.update(gradient, state.inner, params, **more)
        return updates, Operated(inner_state, operated)

    return ByTerm(init, update)


def of_run(
    config: ConfigDict, model: Recommender, paths: Sequence[str], terms: int = 1
) -> optax.GradientTransformationExtraArgs:
    """The optimiser of a run: `train.optimizer`, or the method's own, for the parameters that the method trains.

    It is the same object for the same settings and model, because it is a static argument of compiled functions. With
    `train.surgery`, and more than one term, it is a `ByTerm`.

    Args:
      config: of the run.
      model: of the run.
      paths: of the model's parameters.
      terms: the number of terms of the loss; with one, there is no surgery.
    Raises:
      InputError: there is no optimiser of this name, or the method trains no parameter.
    """
    name = config.train.optimizer
    if name == AUTO and model.optimizer is not None:
        made = injected(model.optimizer, _RATE)
    else:
        name = DEFAULT if name == AUTO else name
        made = injected(_of_plugin(name, config_lib.section(config, name)), _RATE)
    held = tuple(path for path in paths if not model.trains(path))
    if paths and len(held) == len(paths):
        raise InputError(
            f"method {config.method!r} trains none of its {len(paths)} parameters; expected at least one; check "
            "`trains` in its file"
        )
    made = holding(made, held) if held else made
    if config.train.surgery != surgeries.NONE and terms > 1:
        made = operating(made, config.train.surgery, config_lib.section(config, config.train.surgery), terms)
    return averaging(made, config.train.average) if config.train.average else made


class Averaged(NamedTuple):
    """State of `averaging`: the inner optimiser's, the average as a tree like the parameters, and steps taken."""

    inner: optax.OptState
    average: Any
    count: Array


@functools.cache
def averaging(inner: optax.GradientTransformation, keep: float) -> optax.GradientTransformationExtraArgs:
    """`inner`, with an exponential moving average of the parameters in its state (Polyak and Juditsky 1992).

    In step t, from 1, average = k average + (1 - k) parameters with k = min(keep, (1 + t) / (10 + t)), so that the
    start is forgotten soon. Training does not use the average; `monitored` does.
    """
    update_inner = optax.with_extra_args_support(inner).update

    def init(params):
        return Averaged(inner.init(params), jax.tree.map(jnp.copy, params), jnp.zeros((), jnp.int32))

    def update(gradients, state, params=None, **more):
        updates, inner_state = update_inner(gradients, state.inner, params, **more)
        count = state.count + 1
        steps = count.astype(jnp.float32)
        taken = 1 - jnp.minimum(keep, (1 + steps) / (10 + steps))
        new = optax.apply_updates(params, updates)
        average = jax.tree.map(lambda a, b: a + taken.astype(a.dtype) * (b - a), state.average, new)
        return updates, Averaged(inner_state, average, count)

    kind = ByTerm if isinstance(inner, ByTerm) else optax.GradientTransformationExtraArgs
    return kind(init, update)


def monitored(params: Any, opt_state: optax.OptState) -> Any:
    """The parameters that validation and test use: the average if there is one, else `params`."""
    return opt_state.average if isinstance(opt_state, Averaged) else params


def renewed(opt_state: optax.OptState, old: Any, new: Any) -> optax.OptState:
    """The state after parameters changed outside of a step: entries that changed are copied to the average, if any."""
    if not isinstance(opt_state, Averaged):
        return opt_state
    average = jax.tree.map(lambda a, x, y: jnp.where(x == y, a, y.astype(a.dtype)), opt_state.average, old, new)
    return opt_state._replace(average=average)
