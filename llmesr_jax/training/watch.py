"""Gradients monitored while a run trains: every `train.watch_gradients` steps, by a separate program before the step.

The step itself is the usual one of `steps.run_window`, so training does not change. The numbers are summed in the run's
`Progress`, which checkpoints store, and their means are written to the epoch's line of metrics.jsonl:

    gradients/norm/<term>              norm of the gradient of weight * value; `sum`: of the sum of all terms
    gradients/cosine/<term>-<term>     cosine of two of these gradients
    gradients/conflicts/<term>-<term>  share of the monitored steps at which the cosine is below 0
    gradients/noise_scale              of the ranking term, in users: see `noise`
    gradients/tail_share/<table>       share of tail items in the squared change of an item table by the step
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from llmesr_jax.models.axes import ITEM, Axes, path_of
from llmesr_jax.models.types import Array, Batch, wide
from llmesr_jax.training import steps
from llmesr_jax.training.batches import make_batch
from llmesr_jax.training.program import Program
from llmesr_jax.training.state import State
from llmesr_jax.training.surgeries._trees import gram

PREFIX = "gradients/"
_RANKING, _TRACE, _SIGNAL = "ranking", "noise/trace", "noise/signal"

Sums = dict[str, list[float]]  # {name: [sum, count]}


def due(every: int, step: int) -> bool:
    """Whether a step, counted from 0 over all epochs, is monitored; `every` is 0 for never."""
    return every > 0 and step % every == 0


def width(every: int, step: int, most: int) -> int:
    """The number of steps of the next window, at most `most`: a monitored step is a window of its own."""
    if not every:
        return most
    return 1 if due(every, step) else min(most, every - step % every)


def before(
    program: Program, states: State, samples_SxB: np.ndarray, epoch: int, numbers: Mapping[str, Any], tail_V: np.ndarray
) -> dict[str, Any]:
    """What is measured before a step, for `after`: numbers of its gradients, and copies of the item tables.

    Args:
      program: of the runs.
      states: stacked over lanes.
      samples_SxB: int32, of the step.
      epoch: from 1.
      numbers: float32 (S,) each, as for `run_window`.
      tail_V: bool, row 0 = id 1.
    """
    static = program.model, program.plan, program.axes
    more = states, program.tables, program.data_of(samples_SxB[:, None]), samples_SxB, np.float32(epoch), dict(numbers)
    values, tables = _look(*static, *more)
    return {"values": values, "tables": tables, "tail": tail_V}


def after(found: dict[str, Any], program: Program, states: State) -> dict[str, np.ndarray]:
    """{name: (S,)} after the step; NaN where a number is undefined.

    Args:
      found: the result of `before`.
      program: of the runs.
      states: after the step, stacked over lanes.
    """
    shares = _moved(program.axes, found["tables"], states.params, found["tail"])
    return jax.device_get({**found["values"], **shares})


def added(sums: Sums, values: Mapping[str, float]) -> Sums:
    """The sums of an epoch with one more step; values that are not finite are left out."""
    kept = {name: float(value) for name, value in values.items() if np.isfinite(value)}
    none = [0.0, 0]
    new = {name: [sums.get(name, none)[0] + value, sums.get(name, none)[1] + 1] for name, value in kept.items()}
    return {**sums, **new}


def means(sums: Sums) -> dict[str, float]:
    """{name: mean over the epoch's monitored steps}, as in metrics.jsonl; empty if there were none.

    The noise scale is the ratio of two means, as in McCandlish et al., and absent if the mean of |G|^2 is not positive.
    """
    found = {name: total / count for name, (total, count) in sums.items()}
    trace, signal = found.pop(_TRACE, 0.0), found.pop(_SIGNAL, 0.0)
    if signal > 0:
        found["noise_scale"] = trace / signal
    return {f"{PREFIX}{name}": value for name, value in sorted(found.items())}


def noise(half: Array, inner: Array, whole: Array, share: Array, users: Array) -> tuple[Array, Array]:
    """(tr(Sigma), |G|^2), () each, of a gradient that is a mean over users, from a batch's and half a batch's gradient.

    The gradients of the halves, a and b, are unbiased and independent, so |G|^2 = a . b, and |a - b|^2 is twice the
    variance of a mean of n / 2 users: tr(Sigma) = n |a - b|^2 / 4. Their ratio is the noise scale of
    McCandlish et al. 2018, "An Empirical Model of Large-Batch Training" (eq. 2.9).

    Args:
      half: |a|^2.
      inner: a . g, g = share a + (1 - share) b the batch's gradient.
      whole: |g|^2.
      share: of the positions that are in the first half.
      users: n.
    """
    other = 1 - share
    of_b = (whole - 2 * share * inner + share**2 * half) / other**2
    both = (inner - share * half) / other
    return users * (half - 2 * both + of_b) / 4, both


def half_of(batch: Batch) -> tuple[Batch, Array]:
    """The batch with the targets of every other user, and their share of the positions, ().

    Users are in order of length, so both halves have about as many positions.
    """
    row_T = batch.students.row_T
    valid_T = batch.targets_T > 0
    chosen_T = valid_T & jnp.asarray(row_T % 2 == 0)
    share = jnp.sum(chosen_T) / jnp.maximum(jnp.sum(valid_T), 1)
    return batch.replace(targets_T=jnp.where(chosen_T, batch.targets_T, 0)), share


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _look(model, plan, axes, state_S, tables, data, samples_SxB, epoch, numbers_S):
    def one(state, samples_B, numbers):
        batch_key, dropout_key = steps.step_keys(state)
        batch = make_batch(plan, data, tables, samples_B, batch_key)
        rest = (dropout_key, epoch, numbers)
        gradients = steps.by_term(model, state.params, tables, batch, *rest)[2].gradients
        found = _numbers(gradients)
        if _RANKING in gradients:
            some, share = half_of(batch)

            def ranking(params):
                term = model.terms(params, tables, some, *rest)[_RANKING]
                return jnp.asarray(term.weight * term.value)

            halves = gram({"half": jax.grad(ranking)(state.params), "whole": gradients[_RANKING]})
            users = jnp.sum(samples_B >= 0).astype(jnp.float32)
            trace, signal = noise(halves[0, 0], halves[0, 1], halves[1, 1], share, users)
            found |= {_TRACE: trace, _SIGNAL: signal}
        return found, {name: jnp.copy(x) for name, x in _item_tables(axes, state.params).items()}

    return jax.vmap(one)(state_S, samples_SxB, numbers_S)


def _numbers(gradients: Mapping[str, Any]) -> dict[str, Array]:
    """Norms, cosines and conflicts of the terms' gradients, () each."""
    names = sorted(gradients)
    gram_KxK = gram({name: gradients[name] for name in names})
    norm_K = jnp.sqrt(jnp.maximum(jnp.diagonal(gram_KxK), 0))
    found = {f"norm/{name}": norm_K[i] for i, name in enumerate(names)}
    found["norm/sum"] = jnp.sqrt(jnp.maximum(jnp.sum(gram_KxK), 0))
    for i, j in itertools.combinations(range(len(names)), 2):
        cosine = gram_KxK[i, j] / (norm_K[i] * norm_K[j])
        found[f"cosine/{names[i]}-{names[j]}"] = cosine
        below = jnp.where(cosine < 0, 1.0, 0.0)
        found[f"conflicts/{names[i]}-{names[j]}"] = jnp.where(jnp.isfinite(cosine), below, jnp.nan)
    return found


def _item_tables(axes: Axes, params: Any) -> dict[str, Array]:
    found = jax.tree_util.tree_flatten_with_path(params)[0]
    return {path_of(path): x for path, x in found if axes.at(path) == ITEM}


@functools.partial(jax.jit, static_argnums=0)
def _moved(axes, before_S, params_S, tail_V):
    def share(old_SxVxD, new_SxVxD):
        moved = (new_SxVxD - old_SxVxD)[:, 1:-1]
        moved = moved.astype(wide(moved)).reshape(*moved.shape[:2], -1)
        squares_SxV = jnp.sum(jnp.square(moved), axis=-1)
        tail_S = jnp.sum(jnp.where(tail_V[None], squares_SxV, jnp.zeros((), squares_SxV.dtype)), axis=1)
        return tail_S / jnp.sum(squares_SxV, axis=1)

    after_S = _item_tables(axes, params_S)
    return {f"tail_share/{name.replace('/', '.')}": share(old, after_S[name]) for name, old in before_S.items()}
