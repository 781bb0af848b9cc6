"""Curvature: products with the Hessian against finite differences, Lanczos against a dense eigen-decomposition."""

import functools

import jax
import jax.numpy as jnp
import loss_parts
import numpy as np
import pytest
import tiny
from jax.flatten_util import ravel_pytree

from llmesr_jax.experiments.gradients import curvature, landscape, terms
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_spectrum_has_the_moments_of_its_probes_and_in_full_the_eigenvalues():
    with tiny.float64():
        loss, params, arguments, dense = tiny_model()
        few = landscape.spectrum(loss, params, *arguments, probes=2, order=6, seed=3)
        np.testing.assert_allclose(few.weights_MxN.sum(axis=1), 1)
        rng = np.random.default_rng(3)
        for values, weights in zip(few.values_MxN, few.weights_MxN):
            probe = rng.normal(size=len(dense))
            probe, power = probe / np.linalg.norm(probe), np.eye(len(dense))
            for moment in range(1, 12):  # exact below twice the order
                power = power @ dense
                wanted, size = probe @ power @ probe, np.linalg.norm(dense, 2) ** moment
                assert weights @ values**moment == pytest.approx(wanted, abs=1e-9 * size)
        eigenvalues = np.linalg.eigvalsh(dense)
        assert few.values_MxN.max() <= eigenvalues[-1] * (1 + 1e-9) and few.values_MxN.min() >= eigenvalues[0] * (
            1 + 1e-9
        )
        many = landscape.spectrum(loss, params, *arguments, probes=8, order=6)
        deviation = np.sqrt(2 / 8) * np.linalg.norm(dense) / len(dense)  # of the mean over eight Gaussian probes
        assert abs(many.mean(lambda x: x) - np.trace(dense) / len(dense)) < 4 * deviation


def test_the_line_and_its_barrier_by_hand():
    """x^2 (x - 1)^2 between its two minima has a barrier of 1/16; a convex loss has none."""
    ends, steps = ({"x": jnp.float32(0)}, {"x": jnp.float32(1)}), jnp.linspace(0, 1, 5)
    losses = landscape.line(lambda p: jnp.square(p["x"] * (p["x"] - 1)), *ends, steps)
    np.testing.assert_allclose(losses, [0, 9 / 256, 1 / 16, 9 / 256, 0], rtol=1e-6)
    assert landscape.barrier(losses, steps) == pytest.approx(1 / 16)
    assert landscape.barrier(landscape.line(lambda p: jnp.square(p["x"]), *ends, steps), steps) == 0


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


@pytest.mark.slow
def test_random_directions_have_the_filters_lengths():
    case = tiny.case("sasrec", "llmesr")
    params = case.drawn_params()
    drawn = curvature.random_direction(params, jax.random.key(0), case.model.axes(case.tables, case.batch()))
    length = lambda x, axis: np.linalg.norm(np.asarray(x), axis=axis)  # noqa: E731
    np.testing.assert_allclose(length(drawn["table"]["items"], 1), length(params["table"]["items"], 1), rtol=1e-5)
    kernel, ours = params["adapter"]["kernel_0"], drawn["adapter"]["kernel_0"]
    np.testing.assert_allclose(length(ours, 0), length(kernel, 0), rtol=1e-5)
    assert not np.asarray(drawn["adapter"]["bias_0"]).any() and np.abs(ours - kernel).max() > 1e-3
