"""AlphaFuse and ACE: what becomes of the spectrum of the LLM embeddings, and which numbers steps train."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from llmesr_jax.core.errors import InputError
from llmesr_jax.models import recommender
from llmesr_jax.models.methods import ace, alphafuse
from llmesr_jax.semantic.pca import pca_start

# Three items, two directions with s^2 = 18 and 2, and one in which they do not differ; rows of padding and mask token.
PCA = np.array([[0, 0, 0], [3, 0, 0], [0, 1, 0], [-3, -1, 0], [0, 0, 0]], np.float32)


def test_standard_directions_have_the_deviation_1_by_hand():
    found = np.asarray(alphafuse.standardized(jnp.asarray(PCA)))
    np.testing.assert_allclose(found[:, 0], PCA[:, 0] / np.sqrt(6), rtol=1e-6)  # the root of 18 / 3
    np.testing.assert_allclose(found[:, 1], PCA[:, 1] / np.sqrt(2 / 3), rtol=1e-6)
    assert not found[:, 2].any() and not found[[0, 4]].any()


def test_the_reshaped_spectrum_by_hand():
    """s^2 = 18, 2 and lambda = 1 times their mean, 10: sqrt(18 / 28) and sqrt(2 / 12), scaled to the sum of squares 20."""
    found = np.asarray(ace.reshaped(jnp.asarray(PCA), 1.0))
    share = np.array([18 / 28, 2 / 12])
    np.testing.assert_allclose((found**2).sum(axis=0), [*(20 * share / share.sum()), 0], rtol=1e-5)
    np.testing.assert_allclose(found, PCA * (found[3] / np.where(PCA[3], PCA[3], 1))[None], atol=1e-6)


def test_no_ridge_makes_all_directions_alike_and_a_large_one_changes_nothing():
    rng = np.random.default_rng(0)
    pca = np.pad(pca_start(rng.normal(size=(30, 6)) * 3.0 ** np.arange(6), 5, 0), ((1, 1), (0, 0)))
    white = np.asarray(ace.reshaped(jnp.asarray(pca), 0.0))
    size = (pca**2).sum() / 5
    np.testing.assert_allclose(white.T @ white, size * np.eye(5), atol=1e-4 * size)
    np.testing.assert_allclose(ace.reshaped(jnp.asarray(pca), 1e9), pca, rtol=1e-5, atol=1e-6)
    between = [np.asarray((ace.reshaped(jnp.asarray(pca), r) ** 2).sum(axis=0)) for r in (0.0, 0.1, 1.0, 10.0)]
    spread = [s.max() / s.min() for s in between]
    assert spread == sorted(spread) and np.allclose([s.sum() for s in between], 5 * size, rtol=1e-4)


@pytest.mark.parametrize("keeps", [True, False])
def test_ids_are_learnt_in_the_null_space_and_semantics_stay(keeps):
    case = tiny.case("gru4rec", "alphafuse", null_semantics=keeps, id_std=0.5)
    params, batch, model = case.params(), case.batch(), case.model
    items = np.asarray(model.item_vectors(params, {}, with_mask=True))
    wanted = np.asarray(alphafuse.standardized(case.tables["item_pca"]))[1:]
    ids = np.asarray(params["ids"])[1:]
    np.testing.assert_allclose(items[:, :2], wanted[:, :2])
    np.testing.assert_allclose(items[:, 2:], wanted[:, 2:] * keeps + ids, rtol=1e-5)
    assert 0.3 < ids.std() < 0.7
    gradients = jax.jit(jax.grad(lambda p: recommender.loss_fn(model, p, {}, batch, None)[0]))(params)
    met = {*np.asarray(batch.students.items_T), *np.asarray(batch.targets_T), *np.asarray(batch.negatives_TxK).ravel()}
    assert set(np.flatnonzero(np.any(gradients["ids"], axis=1))) <= met and np.any(gradients["ids"])
    assert not np.any(gradients["semantic"]) and not model.trains("semantic") and model.trains("ids")


def test_where_the_null_space_is_everything_it_is_the_plain_model():
    case = tiny.case("gru4rec", "alphafuse", null_width=4, null_semantics=False)
    plain, batch, params = tiny.case("gru4rec", "none"), case.batch(), case.params()
    same = {"table": {"items": params["ids"]}, "backbone": params["backbone"]}
    loss = lambda model, p: recommender.loss_fn(model, p, {}, batch, None)[0]  # noqa: E731
    assert float(loss(case.model, params)) == pytest.approx(float(loss(plain.model, same)), rel=1e-6)


def test_ace_starts_its_table_there_and_trains_all_of_it():
    case = tiny.case("gru4rec", "ace", ridge=0.3)
    params = case.params()
    np.testing.assert_allclose(params["table"]["items"], ace.reshaped(case.tables["item_pca"], 0.3), rtol=1e-5)
    assert case.model.trains("table/items") and set(params) == {"table", "backbone"}


def test_ids_have_room_in_the_table():
    with pytest.raises(InputError, match="null_width is 9 and alphafuse.width 8; expected at most the width"):
        alphafuse.needs(alphafuse.Config(width=8, null_width=9))
