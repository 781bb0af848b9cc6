"""Curvature: products with the Hessian against finite differences, Lanczos against a dense eigen-decomposition."""

import functools

import jax
import jax.numpy as jnp
import loss_parts
import numpy as np
import pytest
import tiny
from jax.flatten_util import ravel_pytree

from llmesr_jax.experiments.gradients import curvature, terms
from llmesr_jax.models import losses
from llmesr_jax.models.layers.dense import take_rows

STEP = 1e-5


def _distillation(model, params, held, tables, batch):
    """LLM-ESR's second term, its teachers made with parameters of their own."""
    students = model.user_vectors(params, tables, batch.students)
    teachers = take_rows(model.user_vectors(held, tables, batch.teachers), batch.teacher_rows_BxN)
    return 0.1 * losses.squared_error(students, jnp.mean(teachers, axis=1), where=batch.distils_B)


@pytest.mark.slow
def test_the_hessian_times_a_direction_agrees_with_finite_differences():
    """Of the whole loss, the teachers held still."""
    with tiny.float64():
        case, params, tables, batch = loss_parts.started("gru4rec", "llmesr")
        model = case.model

        @jax.jit
        def run(params, tables, batch, along):
            stack = jax.tree.map(lambda x: x[None], batch)
            loss = functools.partial(curvature.mean_loss, model)

            def gradient(p):
                def whole(q):
                    ranking = terms.weighted(model, q, tables, batch, None)["ranking"]
                    return ranking + _distillation(model, q, params, tables, batch)

                return jax.grad(whole)(p)

            moved = [loss_parts.move(params, step, along) for step in (STEP, -STEP)]
            both = jax.lax.map(gradient, jax.tree.map(lambda *x: jnp.stack(x), *moved))
            ours = curvature.hvp(loss, params, along, tables, stack)
            return ours, jax.tree.map(lambda x: (x[0] - x[1]) / (2 * STEP), both)

        ours, wanted = run(params, tables, batch, loss_parts.direction(params))
        size = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(wanted))
        assert size > 1e-3
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6 * size), ours, wanted)


@functools.cache
def tiny_model():
    """(loss, params, arguments, dense Hessian) of GRU4Rec on two batches, 64-bit."""
    case, params, tables, batch = loss_parts.started("gru4rec", "none")
    other = case.batch(step=0)
    batches = jax.tree.map(lambda *x: jnp.stack(x), batch, other)
    loss = functools.partial(curvature.mean_loss, case.model)
    flat, unravel = ravel_pytree(params)
    column = lambda v: ravel_pytree(curvature.hvp(loss, params, unravel(v), tables, batches))[0]  # noqa: E731
    dense = np.asarray(jax.jit(lambda eye: jax.lax.map(column, eye))(jnp.eye(flat.size)))
    return loss, params, (tables, batches), dense


def test_lanczos_agrees_with_a_dense_decomposition():
    with tiny.float64():
        loss, params, arguments, dense = tiny_model()
        np.testing.assert_allclose(dense, dense.T, atol=1e-10 * np.abs(dense).max())
        values, vectors = np.linalg.eigh(dense)
        top = curvature.eigenpairs(loss, params, *arguments, count=3)
        np.testing.assert_allclose(top.values, values[::-1][:3], rtol=1e-2)
        assert values[-1] > 1.05 * values[-2]  # so its vector is one direction
        first = np.asarray(ravel_pytree(top.vectors[0])[0])
        assert abs(first @ vectors[:, -1]) > 0.999 and np.linalg.norm(first) == pytest.approx(1, rel=1e-6)
        low = curvature.eigenpairs(loss, params, *arguments, count=1, smallest=True)
        np.testing.assert_allclose(low.values, values[:1], rtol=2e-2)


def test_the_surface_is_the_loss_on_the_plane():
    with tiny.float64():
        loss, params, arguments, _ = tiny_model()
        a, b = loss_parts.direction(params, 1), loss_parts.direction(params, 2)
        steps = jnp.array([-1.0, 0.0, 0.5])
        surface = jax.jit(functools.partial(curvature.surface, loss))(params, a, b, steps, steps[:2], *arguments)
        assert surface.shape == (3, 2)
        for i, j in ((0, 0), (1, 1), (2, 0)):
            at = loss_parts.move(loss_parts.move(params, steps[i], a), steps[j], b)
            assert float(surface[i, j]) == pytest.approx(float(jax.jit(loss)(at, *arguments)), rel=1e-12)
        assert np.ptp(surface) > 1e-3


def test_random_directions_have_the_filters_lengths():
    case = tiny.case("sasrec", "llmesr")
    params = case.params()
    drawn = curvature.random_direction(params, jax.random.key(0), case.model.axes(case.tables, case.batch()))
    length = lambda x, axis: np.linalg.norm(np.asarray(x), axis=axis)  # noqa: E731
    np.testing.assert_allclose(length(drawn["table"]["items"], 1), length(params["table"]["items"], 1), rtol=1e-5)
    kernel, ours = params["adapter"]["kernel_0"], drawn["adapter"]["kernel_0"]
    np.testing.assert_allclose(length(ours, 0), length(kernel, 0), rtol=1e-5)
    assert not np.asarray(drawn["adapter"]["bias_0"]).any() and np.abs(ours - kernel).max() > 1e-3
