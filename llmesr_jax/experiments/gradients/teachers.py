"""The influence of each user on the ranking loss of tail and head, at one state of one run."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import groups
from llmesr_jax.experiments.gradients import (
    epoch_batches,
    gauss_newton,
    influence,
    probe,
    users,
)
from llmesr_jax.experiments.gradients.settings import Options
from llmesr_jax.models.recommender import Params
from llmesr_jax.models.types import Batch
from llmesr_jax.training.experiment import Experiment

TARGETS = ("tail items", "head items", "tail users", "head users")
ABOUT = 3  # columns before the numbers: user, head, positions


def measure(
    experiment: Experiment,
    params: Params,
    epoch: int,
    options: Options,
    rate: float,
    among_U: np.ndarray | None = None,
) -> tuple[list[str], list[list[Any]]]:
    """A header and a row for each user: of each term, the influence on the mean ranking loss of each of `TARGETS`.

    Users and positions are those of the first batches of epoch 1, whatever the epoch, so that snapshots can be added up.

    Args:
      experiment: of one seed.
      params: of that seed, after so many epochs.
      rate: for TracIn, the learning rate.
      among_U: bool, users whose positions the targets are; None for all.
    Raises:
      InputError: for `gauss_newton`, if the method's ranking is not a function of the scores.
    """
    bag = epoch_batches.Batches(experiment, params, 0)
    bag.epoch = np.float32(epoch + 1)
    count = max(1, min(-(-options.users // bag.plan.config.batch_size), len(bag.order)))
    exact = experiment.config.precision == "float32"
    means = users.splits(bag.model, params, bag.tables, bag[0], bag.epoch, 1e-4 if exact else 1e-2)
    directions = _directions(bag, count, among_U)
    if options.influence == "gauss_newton":
        directions, rate = _solved(bag, directions, options), 1.0
    terms = probe.ranking_first(name for name, mean in means.items() if mean)
    head_U, rows = groups.head_users(bag.corpus), []
    static = tuple(means.items())
    for step in tqdm(range(count), desc="influence", unit="batch", leave=False, disable=None):
        batch = bag[step]
        found = jax.device_get(_along(bag.model, params, bag.tables, batch, directions, static, bag.epoch))
        positions_B = np.asarray(users.shares(batch)["positions"]) * int(np.sum(np.asarray(batch.targets_T) > 0))
        for place, sample in enumerate(bag.order[step]):
            if sample >= 0:
                row = int(sample % bag.corpus.num_users)
                values = [rate * float(found[term][place, q]) for term in terms for q in range(len(TARGETS))]
                rows.append([row + 1, int(head_U[row]), int(round(float(positions_B[place]))), *values])
    return ["user", "head", "positions", *(f"{term} on {target}" for term in terms for target in TARGETS)], rows


def added(parts: Sequence[list[list[Any]]], times: Sequence[int]) -> list[list[Any]]:
    """The rows of several states as one list, with the influences summed, each state so many times."""
    return [[*same[0][:ABOUT], *np.dot(times, [row[ABOUT:] for row in same]).tolist()] for same in zip(*parts)]


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Means over tail and head users, and the share of users with a positive influence, in a short table."""
    values = np.asarray([row[ABOUT:] for row in rows])
    head_n = np.asarray([row[1] for row in rows], bool)
    width = max(map(len, header[ABOUT:]))
    lines = [f"{'influence of a user (mean, helpful)':{width}}  tail users          head users"]
    for i, name in enumerate(header[ABOUT:]):
        of = [values[where, i] for where in (~head_n, head_n)]
        told = [f"{x.mean():+.3g}  {100 * (x > 0).mean():.0f} %" if len(x) else "-" for x in of]
        lines.append(f"{name:{max(width, 35)}}  {told[0]:18}  {told[1]}")
    return "\n".join(lines)


def target_slots(bag: epoch_batches.Batches, step: int, batch: Batch, among_U: np.ndarray | None) -> list[np.ndarray]:
    """bool (T,) for each of `TARGETS`: its slots in a batch, and slots without a target.

    Args:
      among_U: see `measure`.
    """
    order_B, row_T = bag.order[step], np.asarray(batch.students.row_T)
    tail_U = ~groups.head_users(bag.corpus)
    user_T = (order_B % len(tail_U))[row_T]
    item_T = np.asarray(bag.tail_V)[np.maximum(np.asarray(batch.targets_T) - 1, 0)]
    meant_T = (order_B >= 0)[row_T] & (True if among_U is None else among_U[user_T])
    return [meant_T & where_T for where_T in (item_T, ~item_T, tail_U[user_T], ~tail_U[user_T])]


def _directions(bag: epoch_batches.Batches, count: int, among_U: np.ndarray | None) -> Params:
    """The gradients of the mean ranking losses of `TARGETS` over the batches, stacked."""
    total: Any = None
    for step in range(count):
        batch = bag[step]
        where = target_slots(bag, step, batch, among_U)
        found = [_target(bag.model, bag.params, bag.tables, batch, jnp.asarray(one), bag.epoch) for one in where]
        total = found if total is None else [jax.tree.map(jnp.add, a, b) for a, b in zip(total, found)]
    means = [jax.tree.map(lambda x, n=n: x / jnp.maximum(n, 1).astype(x.dtype), tree) for tree, n in total]
    return influence.stacked(dict(zip(TARGETS, means)))


def _solved(bag: epoch_batches.Batches, directions: Params, options: Options) -> Params:
    if not gauss_newton.is_ranking(bag.model, bag.params, bag.tables, bag[0], bag.epoch, 1e-3):
        raise InputError(
            f"--influence=gauss_newton: the ranking of method {bag.experiment.config.method!r} is not a function of "
            "the served scores; choose another method, or --influence=tracin"
        )
    count = max(1, min(options.hessian_batches, len(bag.order)))
    stack = jax.tree.map(lambda *x: jnp.stack(x), *[bag[step] for step in range(count)])
    x, residuals = _solve(bag.model, bag.axes, bag.params, bag.tables, stack, directions, np.float32(options.damping))
    print(f"Gauss-Newton: residuals of {len(TARGETS)} solutions at most {float(jnp.max(residuals)):.1g}", flush=True)
    return x


_target = jax.jit(influence.target_gradient, static_argnums=0)


@functools.partial(jax.jit, static_argnums=(0, 5))
def _along(model, params, tables, batch, directions, means, epoch):
    return influence.along(model, params, tables, batch, directions, dict(means), epoch=epoch)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _solve(model, axes, params, tables, stack, directions, damping):
    product = influence.item_product(model, params, tables, stack, axes)
    solved = lambda right: influence.solve(product, influence.item_rows(right, axes), damping)  # noqa: E731
    return jax.lax.map(solved, directions)
