"""Predicted influence of users against training without them: rank correlations over groups of users of the demo.

    python tests/influence_retrained.py --influence=tracin --epochs=3
    python tests/influence_retrained.py --influence=gauss_newton --before=10 --epochs=10 --items

For each of `--seeds`, LLM-ESR is trained for `--before` epochs and, from there, for `--epochs` more: once with all users, and
once without each of `--groups` groups of `--size` users, with the same random numbers. A group's prediction is the sum over
its users and the loss's terms of what `launch.gradients --influence` writes: for `tracin`, of the states at the start of
each of the `--epochs`; for `gauss_newton`, of the state after `--before`. The effect is the rise of each target's mean ranking
loss, without dropout. Both are means over the seeds. With `--items`, the groups are left out a second time while only the
rows of item tables are trained, which is the case that `gauss_newton` estimates.

Only users with an odd number are ever left out. A third of the groups are those of highest prediction (mean over the
targets, each in units of its deviation), a third those of lowest, a third are drawn. Each target is taken twice, over the
positions of all users, and over those of users with an even number ("others"), which are nobody's own.

A line has Spearman's rank correlation of prediction and effect with its p-value; that within the groups drawn alone; that of
the effect and the group's number of training positions, which is what a count alone would say; and as `repeated` that
of the effects of two seeds (mean over pairs of seeds): where this is near 0, effects are noise.
"""

from __future__ import annotations

import argparse
import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats
from tqdm import tqdm

import llmesr_jax
from llmesr_jax.experiments.gradients import (
    epoch_batches,
    gauss_newton,
    influence,
    probe,
    teachers,
)
from llmesr_jax.training import epoch_plan, parts, state, steps
from llmesr_jax.training.experiment import Experiment

NAMES = [f"{target}, {whose}" for whose in ("all users", "others") for target in teachers.TARGETS]


def items_only(p: parts.LoopParts, axes: Any) -> parts.LoopParts:
    """The parts of a loop that updates the rows of item tables alone."""

    def update(gradients, opt_state, params=None, **rest):
        updates, opt_state = p.optimizer.update(gradients, opt_state, params, **rest)
        return influence.item_rows(updates, axes), opt_state

    return p._replace(optimizer=optax.GradientTransformationExtraArgs(p.optimizer.init, update))


def trained(p: parts.LoopParts, start: state.State, epochs: range, left_out: Sequence[Sequence[int]] = ((),)) -> Any:
    """States after more epochs of the steps of `launch.train`, stacked over lanes: one for each set of users left out."""
    count = len(left_out)
    lanes = state.stack([start] * count)
    numbers = {name: jnp.broadcast_to(value, count) for name, value in p.numbers.items()}
    for epoch in epochs:
        order = np.stack([p.order(epoch, without) for without in left_out])
        more = p.tables, p.data, order, np.int32(order.shape[1]), np.float32(epoch)
        sums = steps.zero_sums((), count)
        lanes, _ = steps.run_window(p.model, p.optimizer, p.plan, lanes, sums, *more, numbers_S=numbers)
    return lanes


class Losses:
    """The targets' mean ranking losses, over the positions whose gradients `teachers.measure` takes."""

    def __init__(self, experiment: Experiment, params: Any, among: Sequence[np.ndarray | None]):
        bag = epoch_batches.Batches(experiment, params, 0)
        batches = [bag[step] for step in range(len(bag.order))]
        slots = [
            [slot_T for among_U in among for slot_T in teachers.target_slots(bag, step, batch, among_U)]
            for step, batch in enumerate(batches)
        ]
        stacked = jax.tree.map(lambda *x: jnp.stack(x), *batches)
        self._of = functools.partial(_losses, bag.model, tables=bag.tables, batches=stacked, slots=np.asarray(slots))

    def __call__(self, params_S: Any) -> np.ndarray:
        """(lanes, targets)."""
        return np.asarray(self._of(params_S=params_S))


@functools.partial(jax.jit, static_argnums=0)
def _losses(model, *, params_S, tables, batches, slots):
    def one(params, batch, slots_QxT):
        scores = gauss_newton.ranking(model, params, tables, batch).outputs(params)  # once for all targets

        def target(where_T):
            some = batch.replace(targets_T=jnp.where(where_T, batch.targets_T, 0))
            count = jnp.sum(some.targets_T > 0)
            return count * gauss_newton.ranking(model, params, tables, some).loss(scores), count

        return jax.vmap(target)(slots_QxT)

    def of(params):
        sums, counts = jax.lax.map(lambda x: one(params, *x), (batches, slots))
        return jnp.sum(sums, axis=0) / jnp.maximum(jnp.sum(counts, axis=0), 1)

    return jax.lax.map(of, params_S)


def predicted(
    experiment: Experiment,
    states: Sequence[tuple[int, Any]],
    options: probe.Options,
    among: Sequence[np.ndarray | None],
) -> np.ndarray:
    """(U, targets): the influence of each user, all terms together, summed over states: (epochs trained, parameters)."""
    rate = experiment.config.train.learning_rate
    found = np.zeros((experiment.corpus.num_users, len(among) * len(teachers.TARGETS)))
    for epoch, params in states:
        for half, among_U in enumerate(among):
            _, rows = teachers.measure(experiment, params, epoch, options, rate, among_U)
            for row in rows:
                by_term = np.reshape(row[teachers.ABOUT :], (-1, len(teachers.TARGETS)))
                found[row[0] - 1, half * len(teachers.TARGETS) :][: len(teachers.TARGETS)] += by_term.sum(axis=0)
    return found


def chosen(predicted_UxQ: np.ndarray, candidates: np.ndarray, groups: int, size: int) -> list[np.ndarray]:
    """Groups of rows of users: of highest prediction, of lowest, and drawn from the others."""
    deviation_Q = predicted_UxQ[candidates].std(axis=0)
    ranked = candidates[np.argsort(-(predicted_UxQ[candidates] / deviation_Q).mean(axis=1))]
    third = groups // 3
    drawn = np.random.default_rng(0).permutation(ranked[third * size : -third * size])[: (groups - 2 * third) * size]
    rows = np.concatenate([ranked[: third * size], ranked[-third * size :], drawn])
    return list(rows.reshape(groups, size))


def compare(given: argparse.Namespace) -> None:
    """Predicts, trains again, and prints a table for each set of parameters that is trained."""
    seeds = tuple(map(int, given.seeds.split(",")))
    experiment = llmesr_jax.prepare(llmesr_jax.settings(dataset="demo", method="llmesr", seeds=given.seeds))
    options = probe.Options(
        users=experiment.corpus.num_users,
        influence=given.influence,
        damping=given.damping,
        hessian_batches=given.hessian_batches,
    )
    odd_U = np.arange(experiment.corpus.num_users) % 2 == 0  # user 1 has row 0
    among = (None, ~odd_U)
    last = given.before + given.epochs
    starts, predictions = [], []
    for seed in tqdm(seeds, desc="predictions", unit="seed"):
        p = parts.loop_parts(experiment, seed)
        now = state.take(trained(p, p.state, range(1, given.before + 1)), 0)
        starts.append((p, now))
        states = [(given.before, now.params)]
        if given.influence == "tracin":
            for epoch in range(given.before + 1, last):
                now = state.take(trained(p, now, range(epoch, epoch + 1)), 0)
                states.append((epoch, now.params))
        predictions.append(predicted(experiment._replace(seeds=(seed,)), states, options, among))
    students = np.unique(experiment.epochs.samples_N % experiment.corpus.num_users)
    groups = chosen(np.mean(predictions, axis=0), students[odd_U[students]], given.groups, given.size)
    effects: dict[str, list[np.ndarray]] = {}
    for seed, (p, now) in zip(seeds, starts):
        alone = experiment._replace(seeds=(seed,))
        losses = Losses(alone, now.params, among)
        loops = {"all parameters": p}
        if given.items:
            loops["rows of item tables"] = items_only(p, epoch_batches.Batches(alone, now.params, 0).axes)
        sets = [(), *groups]
        for name, loop in loops.items():
            ends: list[np.ndarray] = []
            for first in tqdm(range(0, len(sets), given.lanes), desc=f"seed {seed}, {name}", unit="training"):
                lanes = trained(loop, now, range(given.before + 1, last + 1), sets[first : first + given.lanes])
                ends.extend(losses(lanes.params))
            effects.setdefault(name, []).append(np.asarray(ends[1:]) - ends[0])
    summed_GxQ = np.asarray([np.mean(predictions, axis=0)[group].sum(axis=0) for group in groups])
    length_U = epoch_plan.student_lengths(
        experiment.corpus, p.plan, np.arange(experiment.corpus.num_users, dtype=np.int32)
    )
    positions_G = np.asarray([length_U[group].sum() for group in groups])
    for name, found in effects.items():
        print(f"\n{given.influence}, trained: {name}")
        report(summed_GxQ, np.asarray(found), positions_G, given.groups // 3)
    if given.out:
        np.savez(
            given.out, predicted=predictions, groups=groups, **{name: np.asarray(x) for name, x in effects.items()}
        )


def report(predicted_GxQ: np.ndarray, effects_SxGxQ: np.ndarray, positions_G: np.ndarray, third: int) -> None:
    """The table of the targets."""
    effect_GxQ = effects_SxGxQ.mean(axis=0)
    rank = lambda a, b: scipy.stats.spearmanr(a, b).statistic  # noqa: E731
    print(f"{'target':24}  correlation  p        drawn groups  positions  repeated  mean |effect|")
    for q, name in enumerate(NAMES):
        found, effect_G = scipy.stats.spearmanr(predicted_GxQ[:, q], effect_GxQ[:, q]), effect_GxQ[:, q]
        drawn = rank(predicted_GxQ[2 * third :, q], effect_G[2 * third :])
        pairs = [rank(a[:, q], b[:, q]) for a, b in itertools.combinations(effects_SxGxQ, 2)]
        again = f"{np.mean(pairs):+.2f}" if pairs else "-"
        told = f"{found.statistic:+.2f}        {found.pvalue:<7.1g}  {drawn:+.2f}         {rank(positions_G, effect_G):+.2f}"
        print(f"{name:24}  {told}      {again:8}  {np.abs(effect_G).mean():.2g}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--influence", choices=("tracin", "gauss_newton"), default="tracin")
    parser.add_argument("--before", type=int, default=0, help="epochs of training before users are left out")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of training without them")
    parser.add_argument("--groups", type=int, default=30)
    parser.add_argument("--size", type=int, default=8, help="users in a group")
    parser.add_argument("--seeds", default="42,43,44")
    parser.add_argument("--items", action="store_true", help="also with the rows of item tables trained alone")
    parser.add_argument("--damping", type=float, default=0.01)
    parser.add_argument("--hessian_batches", type=int, default=2)
    parser.add_argument("--lanes", type=int, default=1, help="groups trained under one vmap; on an accelerator 30, say")
    parser.add_argument("--out", default="", help="a file.npz for predictions and effects")
    compare(parser.parse_args())
