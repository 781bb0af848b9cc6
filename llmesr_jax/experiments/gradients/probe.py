"""All measurements of the other files, at one state of one model on batches of its own data."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from llmesr_jax.experiments.gradients import (
    items,
    landscape_study,
    terms,
    users,
)
from llmesr_jax.experiments.gradients.epoch_batches import (
    DIRECTIONS,
    DROPOUT,
    Batches,
)
from llmesr_jax.experiments.gradients.settings import Options
from llmesr_jax.models.recommender import Params
from llmesr_jax.training import config as config_lib
from llmesr_jax.training.experiment import Experiment

TARGETS = ("tail items", "head items")


class Measured(NamedTuple):
    """Inner products and squares of K terms' gradients, on the host; `summary` makes norms, cosines and shares of them.

    Attributes:
      terms: names of the K terms.
      gram: {group of parameters: (steps, K, K)} of the terms' gradients.
      mean_gram: {group: (K, K)} of their means over the steps.
      targets: names of the rows of target_gram: `TARGETS`, then the terms other than ranking.
      target_gram: {group: (steps, M, M)}.
      tail_positions: share of the steps' positions whose target is a tail item.
      squares: {item table: (K, V)} squared row norms, summed over the steps.
      roles: {item table: (3, V)} squared row norms of the ranking's gradient by `items.ROLES`, summed over the steps;
        empty if the loss has no such roles.
      row_gram: {item table: (V, K, K)} of the mean gradients.
      user_terms: names of the K' terms that split into users' parts.
      rows_n: int (n,), rows of the n measured users, from 0.
      positions_n: int (n,), their positions with a target.
      user_gram: {group: (n, K', K')} of each user's part, times the number of users in the batch.
      user_with_mean: {group: (n, K', K')} of that part with the mean over the n users.
      user_mean: {group: (K', K')} of that mean.
      landscape: what `landscape_study.measure` returns.
    """

    terms: list[str]
    gram: dict[str, np.ndarray]
    mean_gram: dict[str, np.ndarray]
    targets: list[str]
    target_gram: dict[str, np.ndarray]
    tail_positions: float
    squares: dict[str, np.ndarray]
    roles: dict[str, np.ndarray]
    row_gram: dict[str, np.ndarray]
    user_terms: list[str]
    rows_n: np.ndarray
    positions_n: np.ndarray
    user_gram: dict[str, np.ndarray]
    user_with_mean: dict[str, np.ndarray]
    user_mean: dict[str, np.ndarray]
    landscape: dict[str, Any]


def measure(
    experiment: Experiment, params: Params, epoch: int, options: Options, other: Params | None = None
) -> Measured:
    """Measures one seed's parameters on batches of the epoch after `epoch`, the next ones in training.

    Args:
      experiment: of one seed.
      params: of that seed, after `epoch` epochs.
      epoch: from 0.
      options: of the study.
      other: another model of the same structure, at the other end of the line; None for no line.
    """
    bag = Batches(experiment, params, epoch)
    steps = max(1, min(options.steps, experiment.epochs.steps))
    by_term = _measure_terms(bag, steps)
    by_user = _measure_users(bag, options.users)
    landscape = landscape_study.measure(bag, options, by_term["terms"], bag.draw(DIRECTIONS), other)
    return Measured(**by_term, **by_user, landscape=landscape)


def ranking_first(names: Iterable[str]) -> list[str]:
    """The order in which terms are reported: ranking, then the others by name, as jit sorts them."""
    return sorted(names, key=lambda name: (name != "ranking", name))


def _ordered(gradients: dict[str, Any]) -> dict[str, Any]:
    return {name: gradients[name] for name in ranking_first(gradients)}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _terms(model, axes, params, tables, batch, key, epoch):
    gradients = terms.gradients(model, params, tables, batch, key, epoch)
    ordered = _ordered(gradients)
    squares = {name: jax.vmap(jnp.diagonal)(gram).T for name, gram in items.row_gram(ordered, axes).items()}
    return gradients, terms.gram(ordered), squares


_some_targets = jax.jit(terms.some_targets)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _roles(model, axes, params, tables, batch, key, epoch):
    found = items.by_role(model, params, tables, batch, key, epoch, axes=axes)
    return {name: jax.vmap(items.row_squares)(x) for name, x in found.items()}


_row_gram = jax.jit(lambda axes, gradients: items.row_gram(_ordered(gradients), axes), static_argnums=0)
_gram = jax.jit(lambda gradients: terms.gram(_ordered(gradients)))
_listed_gram = jax.jit(lambda trees: terms.gram(dict(enumerate(trees))))
_add = jax.jit(lambda a, b: jax.tree.map(jnp.add, a, b))
_scale = jax.jit(lambda tree, factor: jax.tree.map(lambda x: x * factor.astype(x.dtype), tree))


def _measure_terms(bag: Batches, steps: int) -> dict[str, Any]:
    total = squares = roles = None
    grams, target_grams, in_tail = [], [], []
    for step in tqdm(range(steps), desc="terms", unit="batch", leave=False, disable=None):
        batch, key = bag[step], bag.draw(DROPOUT, step)
        gradients, gram, square = _terms(bag.model, bag.axes, bag.params, bag.tables, batch, key, bag.epoch)
        parts = {}
        for name, where_V in zip(TARGETS, (bag.tail_V, ~bag.tail_V)):
            some, share = _some_targets(batch, where_V)
            found = _terms(bag.model, bag.axes, bag.params, bag.tables, some, key, bag.epoch)[0]["ranking"]
            parts[name] = _scale(found, share)
            in_tail += [float(share)] if name == TARGETS[0] else []
        parts |= {name: gradient for name, gradient in _ordered(gradients).items() if name != "ranking"}
        target_grams.append(jax.device_get(_listed_gram(list(parts.values()))))
        grams.append(jax.device_get(gram))
        total = gradients if total is None else _add(total, gradients)
        squares = square if squares is None else _add(squares, square)
        if items.has_roles(bag.model, batch) and not config_lib.section(bag.experiment.config, "loss").all_items:
            role = _roles(bag.model, bag.axes, bag.params, bag.tables, batch, key, bag.epoch)
            roles = role if roles is None else _add(roles, role)
    mean = _scale(total, np.float32(1 / steps))
    names = ranking_first(mean)
    stack = lambda found: {group: np.stack([one[group] for one in found]) for group in bag.groups}  # noqa: E731
    return {
        "terms": names,
        "gram": stack(grams),
        "mean_gram": jax.device_get(_gram(mean)),
        "targets": [*TARGETS, *(name for name in names if name != "ranking")],
        "target_gram": stack(target_grams),
        "tail_positions": float(np.mean(in_tail)),
        "squares": jax.device_get(squares),
        "roles": jax.device_get(roles or {}),
        "row_gram": jax.device_get(_row_gram(bag.axes, mean)),
    }


@functools.partial(jax.jit, static_argnums=(0, 5, 6))
def _users(model, params, tables, batch, mean, means, block, epoch):
    """Inner products of each user's parts of the terms: with each other, and with the means over users."""

    def summarise(parts):
        return terms.gram(_ordered(parts)), terms.gram(_ordered(parts), _ordered(mean))

    return users.map_gradients(model, params, tables, batch, summarise, dict(means), epoch=epoch, block=block)


def _measure_users(bag: Batches, wanted: int) -> dict[str, Any]:
    size = bag.plan.config.batch_size
    count = max(1, min(-(-wanted // size), len(bag.order)))
    exact = bag.experiment.config.precision == "float32"
    means = users.splits(bag.model, bag.params, bag.tables, bag[0], bag.epoch, 1e-4 if exact else 1e-2)
    kept = ranking_first(name for name, mean in means.items() if mean)
    numbers = (bag.order[:count] >= 0).sum(axis=1)
    total = None
    for step, number in enumerate(numbers):
        gradients = _terms(bag.model, bag.axes, bag.params, bag.tables, bag[step], None, bag.epoch)[0]
        gradients = _scale({name: gradients[name] for name in kept}, np.float32(number / numbers.sum()))
        total = gradients if total is None else _add(total, gradients)
    block = users.block_size(bag.params, len(kept))
    static = tuple(means.items())
    grams, with_mean, positions = [], [], []
    for step in tqdm(range(count), desc="users", unit="batch", leave=False, disable=None):
        batch = bag[step]
        gram, cross = jax.device_get(_users(bag.model, bag.params, bag.tables, batch, total, static, block, bag.epoch))
        there, number = (
            bag.order[step] >= 0,
            numbers[step],
        )  # a user's part is that of the batch's mean, so times the users it is a mean of
        grams.append({group: x[there] * number**2 for group, x in gram.items()})
        with_mean.append({group: x[there] * number for group, x in cross.items()})
        share = np.asarray(users.shares(batch)["positions"]) * int(np.sum(np.asarray(batch.targets_T) > 0))
        positions.append(np.rint(share[there]).astype(np.int32))
    join = lambda found: {group: np.concatenate([one[group] for one in found]) for group in bag.groups}  # noqa: E731
    order = bag.order[:count]
    return {
        "user_terms": kept,
        "rows_n": order[order >= 0] % bag.corpus.num_users,
        "positions_n": np.concatenate(positions),
        "user_gram": join(grams),
        "user_with_mean": join(with_mean),
        "user_mean": jax.device_get(_gram(total)),
    }
