"""Influence of users: inner products, the damped solution against the dense matrix, and both against training again."""

import functools

import jax
import jax.numpy as jnp
import loss_parts
import numpy as np
import pytest
import scipy.stats
import tiny
from jax.flatten_util import ravel_pytree

from llmesr_jax.experiments.gradients import influence, terms, users

pytestmark = pytest.mark.slow
MEANS = {"ranking": "positions"}
RATE, STEPS, DAMPING = 0.3, 30, 0.02


def axes_of(case):
    return case.model.axes(case.tables, case.batch())


def test_inner_products_are_those_with_the_users_gradients():
    with tiny.float64():
        case, params, tables, batch = loss_parts.started("gru4rec", "llmesr")
        means = {"ranking": "positions", "distillation": "users"}
        directions = [loss_parts.direction(params, seed) for seed in (1, 2)]

        @jax.jit
        def both(p, t, b):
            whole = influence.along(case.model, p, t, b, influence.stacked(dict(enumerate(directions))), means, block=3)
            parts = users.map_gradients(case.model, p, t, b, lambda g: g, means, block=3)
            return whole, parts

        whole, parts = both(params, tables, batch)
        for term in means:
            flat = np.stack([np.asarray(ravel_pytree(jax.tree.map(lambda x: x[i], parts[term]))[0]) for i in range(8)])
            wanted = flat @ np.stack([np.asarray(ravel_pytree(v)[0]) for v in directions]).T
            assert np.abs(wanted).max() > 1e-6
            np.testing.assert_allclose(whole[term], wanted, atol=1e-12)


@functools.cache
def toy():
    """Everything of a plain GRU4Rec on one batch of all users, 64-bit: what is trained and left out."""
    _, params, tables, _ = loss_parts.started("gru4rec", "none")
    case = tiny.case("gru4rec", "none", blocks=1, batch_size=24)
    batch = case.batch()
    row_T = batch.students.row_T
    shares_B = users.shares(batch)["positions"]
    target_T = jnp.asarray(np.asarray(batch.targets_T) % 3 == 0)
    return case, params, tables, batch, row_T, shares_B, target_T


def without(toy, params, place):
    """The sum of the others' parts of the ranking loss; `place` -1 leaves nobody out."""
    case, _, tables, batch, row_T, shares_B, _ = toy
    kept = jnp.where(place >= 0, 1 - shares_B[place], 1.0)
    others = batch.replace(targets_T=jnp.where(row_T == place, 0, batch.targets_T))
    return kept * terms.weighted(case.model, params, tables, others, None)["ranking"]


def target_loss(toy, params):
    case, _, tables, batch, _, _, target_T = toy
    some = batch.replace(targets_T=jnp.where(target_T, batch.targets_T, 0))
    return terms.weighted(case.model, params, tables, some, None)["ranking"]


def test_tracin_ranks_users_as_leaving_them_out_does():
    with tiny.float64():
        made = toy()
        case, params, tables, batch, row_T, shares_B, target_T = made

        def step(p, place):
            return jax.tree.map(lambda x, g: x - RATE * g, p, jax.grad(lambda q: without(made, q, place))(p))

        @jax.jit
        def left_out():
            ends = lambda place: target_loss(made, jax.lax.fori_loop(0, STEPS, lambda _, p: step(p, place), params))  # noqa: E731
            return jax.lax.map(ends, jnp.arange(-1, len(shares_B)))

        @jax.jit
        def traced():
            def one(p, _):
                gradient, count = influence.target_gradient(case.model, p, tables, batch, target_T)
                gradient = jax.tree.map(lambda x: x[None] / count, gradient)
                found = influence.along(case.model, p, tables, batch, gradient, MEANS, block=24)["ranking"][:, 0]
                return step(p, -1), RATE * found

            return jnp.sum(jax.lax.scan(one, params, None, length=STEPS)[1], axis=0)

        losses, scores = np.asarray(left_out()), np.asarray(traced())
        truth = losses[1:] - losses[0]
        there = np.asarray(shares_B) > 0
        assert there.sum() >= 12
        rank = scipy.stats.spearmanr(scores[there], truth[there]).statistic
        print(f"rank correlation {rank:.3f}")
        assert rank > 0.8


def test_gauss_newton_of_item_rows_ranks_users_as_leaving_them_out_does():
    """The solution against the dense matrix; then the influence against training the item rows to their end without a user.

    Where the damping lambda stands for, the retraining has lambda / 2 |change|^2 (Bae et al. 2022).
    """
    with tiny.float64():
        made = toy()
        case, params, tables, batch, _, shares_B, target_T = made
        axes = axes_of(case)
        stack = jax.tree.map(lambda x: x[None], batch)

        @jax.jit
        def solved():
            step = lambda _, p: jax.tree.map(  # noqa: E731
                lambda x, g: x - RATE * g, p, influence.item_rows(jax.grad(lambda q: without(made, q, -1))(p), axes)
            )
            start = jax.lax.fori_loop(0, 300, step, params)
            product = influence.item_product(case.model, start, tables, stack, axes)
            gradient, count = influence.target_gradient(case.model, start, tables, batch, target_T)
            right = influence.item_rows(jax.tree.map(lambda x: x / count, gradient), axes)
            x, residual = influence.solve(product, right, DAMPING, tolerance=1e-10, iterations=400)
            flat, unravel = ravel_pytree(params)
            dense = jax.lax.map(lambda v: ravel_pytree(product(unravel(v)))[0], jnp.eye(flat.size))
            scores = influence.along(case.model, start, tables, batch, influence.stacked({"x": x}), MEANS, block=24)
            return start, right, x, residual, dense, scores["ranking"][:, 0]

        start, right, x, residual, dense, scores = solved()
        assert residual < 1e-8
        flat = lambda tree: np.asarray(ravel_pytree(tree)[0])  # noqa: E731
        matrix = np.asarray(dense) + DAMPING * np.eye(len(dense))
        np.testing.assert_allclose(dense, np.asarray(dense).T, atol=1e-10 * np.abs(dense).max())
        np.testing.assert_allclose(np.linalg.solve(matrix, flat(right)), flat(x), atol=1e-6 * np.abs(flat(x)).max())
        outside = jax.tree.map(lambda a, b: a - b, x, influence.item_rows(x, axes))
        assert not flat(outside).any()

        @jax.jit
        def left_out():
            def objective(p, place):
                change = jax.tree.map(lambda a, b: jnp.sum(jnp.square(a - b)), p, start)
                return without(made, p, place) + DAMPING / 2 * sum(jax.tree.leaves(change))

            def ends(place):
                step = lambda _, p: jax.tree.map(  # noqa: E731
                    lambda x, g: x - RATE * g, p, influence.item_rows(jax.grad(objective)(p, place), axes)
                )
                return target_loss(made, jax.lax.fori_loop(0, 400, step, start))

            return jax.lax.map(ends, jnp.arange(-1, len(shares_B)))

        losses = np.asarray(left_out())
        truth, there = losses[1:] - losses[0], np.asarray(shares_B) > 0
        rank = scipy.stats.spearmanr(np.asarray(scores)[there], truth[there]).statistic
        print(f"rank correlation {rank:.3f}")
        assert rank > 0.8
