"""Products with the Gauss-Newton matrix against the dense one, and what is made linear in it."""

import jax
import jax.numpy as jnp
import loss_parts
import numpy as np
import pytest
import tiny
from jax.flatten_util import ravel_pytree

from llmesr_jax.experiments.gradients import gauss_newton, terms

STEP = 1e-6
SYSTEMS = {  # directions: 0 for all axes, so that the matrix is the whole one
    "shared negatives": ("none", {"negatives": "in_batch"}, 0),
    "all items": ("none", {"ranking": "softmax", "num_negatives": 0}, 3),
    "own negatives, adapter and two views": ("llmesr", {}, 3),
}


def found(model, params, tables, batch, directions_NxP):
    """(J D by finite differences, H of the loss in the outputs, G D), and the gradients of the loss and the ranking."""
    split = gauss_newton.ranking(model, params, tables, batch)
    flat, unravel = ravel_pytree(params)
    z = split.outputs(params)
    moved = flat[None] + STEP * jnp.concatenate([directions_NxP, -directions_NxP])
    up, down = jnp.split(jax.lax.map(lambda x: split.outputs(unravel(x)).ravel(), moved), 2)
    hessian = jax.hessian(lambda x: split.loss(x.reshape(z.shape)))(z.ravel())

    def product(v):
        return ravel_pytree(gauss_newton.ranking_gnvp(model, params, tables, batch, unravel(v)))[0]

    gradient = jax.grad(lambda p: split.loss(split.outputs(p)))(params)
    ranking = terms.gradients(model, params, tables, batch, None)["ranking"]
    return ((up - down) / (2 * STEP)).T, hessian, jax.lax.map(product, directions_NxP).T, gradient, ranking


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_products_are_those_with_the_dense_matrix(name):
    method, changes, count = SYSTEMS[name]
    with tiny.float64():
        case, params, tables, batch = loss_parts.started("gru4rec", method, **changes)
        size = sum(x.size for x in jax.tree.leaves(params))
        along_NxP = jax.random.normal(jax.random.key(1), (count, size)) if count else jnp.eye(size)
        run = jax.jit(found, static_argnums=0)
        jacobian, hessian, products, gradient, ranking = run(case.model, params, tables, batch, along_NxP)
        wanted = np.asarray(jacobian.T @ (hessian @ jacobian))
        values = np.linalg.eigvalsh(wanted)
        assert values[-1] > 1e-4 and values[0] > -1e-6 * values[-1]  # convex in the scores, so never negative
        np.testing.assert_allclose(along_NxP @ products, wanted, atol=1e-6 * values[-1])
        tiny.assert_close(gradient, ranking, 1e-10)  # the loss of the outputs is the method's ranking


@pytest.mark.slow
def test_a_ranking_that_is_no_function_of_these_scores_is_found(monkeypatch):
    case = tiny.case("gru4rec", "none", **SYSTEMS["shared negatives"][1])
    here = case.model, case.drawn_params(), case.tables, case.batch()
    assert gauss_newton.is_ranking(*here)
    weighted = terms.weighted
    monkeypatch.setattr(terms, "weighted", lambda *args: {"ranking": 1.01 * weighted(*args)["ranking"]})
    assert not gauss_newton.is_ranking(*here)


def test_of_outputs_of_ones_own_by_hand():
    """f = (a b)^2 at a = 3, b = 2 with the output a b: J = (2, 3), H = 2, so J^T H J (1, 0) = (8, 12)."""
    split = gauss_newton.Split(lambda p: p["a"] * p["b"], jnp.square)
    params, along = {"a": jnp.float32(3), "b": jnp.float32(2)}, {"a": jnp.float32(1), "b": jnp.float32(0)}
    assert gauss_newton.gnvp(split, params, along) == {"a": 8, "b": 12}
