"""Gradients of the loss's terms: finite differences in 64-bit, and their sum."""

import functools

import jax
import jax.numpy as jnp
import loss_parts
import numpy as np
import pytest
import tiny

from llmesr_jax.experiments.gradients import parameter_groups, terms
from llmesr_jax.models import losses
from llmesr_jax.models.layers.dense import take_rows
from llmesr_jax.models.recommender import loss_fn

STEP = 1e-5


@functools.partial(jax.jit, static_argnums=0)
def both(model, params, tables, batch, key):
    """({term: gradient}, the loss's gradient), under dropout."""
    return terms.gradients(model, params, tables, batch, key), jax.grad(
        lambda p: loss_fn(model, p, tables, batch, key)[0]
    )(params)


plain = jax.jit(lambda model, *args: terms.gradients(model, *args, None), static_argnums=0)


@functools.partial(jax.jit, static_argnums=0)
def held(model, params, teachers_params, tables, batch):
    """{term: weight * value} from user and item vectors, the teachers' with parameters of their own."""
    students = model.user_vectors(params, tables, batch.students)
    rows = model.user_vectors(teachers_params, tables, batch.teachers)
    teachers = jnp.mean(take_rows(rows, batch.teacher_rows_BxN), axis=1)
    ranking = terms.weighted(model, params, tables, batch, None)["ranking"]
    return {"ranking": ranking, "distillation": 0.1 * losses.squared_error(students, teachers, where=batch.distils_B)}


@pytest.mark.slow
def test_terms_sum_to_the_gradient_of_the_loss():
    with tiny.float64():
        case, params, tables, batch = loss_parts.started("gru4rec", "llmesr")
        by_term, whole = both(case.model, params, tables, batch, jax.random.key(3))
        assert set(by_term) == {"ranking", "distillation"}
        tiny.assert_close(terms.total(by_term), whole, 1e-12)
        for gradient in by_term.values():
            assert float(parameter_groups.inner(gradient, gradient)["all"]) > 1e-6


@functools.cache
def llmesr_parts():
    case, params, tables, batch = loss_parts.started("gru4rec", "llmesr")
    return plain(case.model, params, tables, batch)


@pytest.mark.slow
def test_each_term_agrees_with_finite_differences():
    """The teachers' parameters stay where they are: no gradient passes through them."""
    with tiny.float64():
        case, params, tables, batch = loss_parts.started("gru4rec", "llmesr")
        along = loss_parts.direction(params)
        up, down = (held(case.model, loss_parts.move(params, s, along), params, tables, batch) for s in (STEP, -STEP))
        for name, gradient in llmesr_parts().items():
            wanted = float(up[name] - down[name]) / (2 * STEP)
            assert abs(wanted) > 1e-5
            assert float(loss_parts.dot(gradient, along)) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.slow
def test_the_ranking_is_the_sum_over_parts_of_the_targets():
    with tiny.float64():
        case, params, tables, batch = loss_parts.started("gru4rec", "llmesr")
        chosen_V = jnp.arange(case.corpus.num_items) % 2 == 0
        whole = {}
        for name, where_V in (("chosen", chosen_V), ("others", ~chosen_V)):
            some, share = terms.some_targets(batch, where_V)
            assert 0 < float(share) < 1
            kept = np.asarray(some.targets_T)
            assert np.asarray(where_V)[kept[kept > 0] - 1].all()
            gradient = plain(case.model, params, tables, some)["ranking"]
            whole[name] = jax.tree.map(lambda x, share=share: share * x, gradient)
        tiny.assert_close(terms.total(whole), llmesr_parts()["ranking"], 1e-12)


def test_gram_norms_and_cosines_by_hand():
    a = {"table": {"items": jnp.array([[3.0, 0.0]])}, "adapter": {"kernel_0": jnp.array([0.0])}}
    b = {"table": {"items": jnp.array([[-4.0, 4.0]])}, "adapter": {"kernel_0": jnp.array([2.0])}}
    gram = terms.gram({"a": a, "b": b})
    np.testing.assert_array_equal(gram["all"], [[9, -12], [-12, 36]])
    np.testing.assert_array_equal(gram["adapter"], [[0, 0], [0, 4]])
    np.testing.assert_array_equal(terms.norms(gram["all"]), [3, 6])
    np.testing.assert_allclose(terms.cosines(gram["all"]), [[1, -2 / 3], [-2 / 3, 1]], rtol=1e-6)
    assert np.isnan(terms.cosines(gram["adapter"])[0]).all()
    rows = terms.gram({"a": a}, {"b": b, "a": a})
    np.testing.assert_array_equal(rows["all"], [[-12, 9]])
