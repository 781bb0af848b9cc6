"""Exact search equals sorting all scores, whatever is hidden, allowed, equal or not a number."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmesr_jax.serving import index
from llmesr_jax.serving.index import Hidden


def plain(users, items, k, hidden, among):
    """The best k by sorting every score; equal ones in order of row."""
    scores = (users @ items.T).astype(np.float64)
    scores[hidden.rows_P, hidden.columns_P] = -np.inf
    if among is not None:
        scores[:, np.setdiff1d(np.arange(len(items)), among)] = -np.inf
    scores[np.isnan(scores)] = -np.inf
    order = np.stack([np.lexsort((np.arange(len(items)), -row)) for row in scores])[:, :k]
    found = np.take_along_axis(scores, order, axis=1)
    rows = np.where(found > -np.inf, order, -1)
    return np.pad(rows, ((0, 0), (0, k - rows.shape[1])), constant_values=-1)


def case(seed, users, items, pairs, share):
    """Whole numbers, so that products are exact and many scores are equal."""
    rng = np.random.default_rng(seed)
    vectors = [rng.integers(-2, 3, (n, 3)).astype(np.float32) for n in (users, items)]
    hidden = Hidden(rng.integers(0, users, pairs), rng.integers(0, items, pairs))
    among = None if share is None else np.flatnonzero(rng.random(items) < share)
    return *vectors, hidden, among


@pytest.mark.slow
@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    users=st.sampled_from([1, 3, 5, 300]),
    items=st.sampled_from([1, 7, 60]),
    pairs=st.integers(0, 40),
    share=st.sampled_from([None, 0.0, 0.3, 1.0]),
    k=st.sampled_from([1, 4, 70]),
    block=st.sampled_from([1, 9, 40]),
)
def test_equal_to_sorting_everything(seed, users, items, pairs, share, k, block):
    u, v, hidden, among = case(seed, users, items, pairs, share)
    allowed = None if among is None else jnp.zeros(items, bool).at[among].set(True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "_BLOCK", {"cpu": block})
        found = index.search(u, jnp.asarray(v), k, hidden, allowed)
    np.testing.assert_array_equal(found.rows_BxK, plain(u, v, k, hidden, among))
    real = found.rows_BxK >= 0
    wanted = np.take_along_axis(u @ v.T, np.maximum(found.rows_BxK, 0), axis=1)
    np.testing.assert_array_equal(found.scores_BxK[real], wanted[real])
    assert (found.scores_BxK[~real] == -np.inf).all()


def test_a_score_that_is_no_number_is_never_found():
    items = np.array([[1.0], [np.nan], [3.0], [np.nan]], np.float32)
    found = index.search(np.ones((2, 1), np.float32), jnp.asarray(items), 3)
    assert found.rows_BxK.tolist() == [[2, 0, -1]] * 2


def test_nobody_gets_nothing():
    assert index.search(np.zeros((0, 3), np.float32), jnp.ones((4, 3)), 2).rows_BxK.shape == (0, 2)
