import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from llmesr_jax.semantic.similar_users import similar_users


def _brute_force(x_UxF, k):
    """Cosines in float64, every pair, full sort: highest first, then lowest row; -1 for and instead of zero rows."""
    x = x_UxF.astype(np.float64)
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    unit = np.divide(x, norms, out=np.zeros_like(x), where=norms > 0)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    cosine[:, norms[:, 0] == 0] = -np.inf
    cosine[norms[:, 0] == 0] = -np.inf
    rows = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
    return np.where(np.take_along_axis(cosine, rows, axis=1) > -np.inf, rows, -1), cosine


@pytest.mark.parametrize("block", [1, 7, 64, 1000, None])
def test_equals_all_pairs_whatever_the_block(block):
    x = np.random.default_rng(0).normal(size=(150, 16)).astype(np.float32)
    np.testing.assert_array_equal(similar_users(x, 20, block), _brute_force(x, 20)[0])


# One-hot and zero rows: cosines are exactly 0 or 1, so ties and duplicates abound and rounding plays no part.
@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(1, 40), st.integers(1, 9))
def test_equal_similarity_goes_to_the_lower_row(kinds, k, block):
    x = np.eye(4, dtype=np.float32)[:, :3][kinds] * (1 + np.arange(len(kinds), dtype=np.float32))[:, None]
    np.testing.assert_array_equal(similar_users(x, k, block), _brute_force(x, min(k, len(x) - 1))[0])


_SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)


@given(hnp.arrays(np.float32, _SHAPES, elements=st.floats(-(2.0**100), 2.0**100, width=32)))
def test_similarities_are_the_k_largest_in_order_and_never_oneself(x):
    k = min(5, len(x) - 1)
    similar = similar_users(x, k, block=6)
    rows, cosine = _brute_force(x, k)
    assert similar.shape == (len(x), k) and similar.dtype == np.int32
    assert (similar != np.arange(len(x))[:, None]).all()
    np.testing.assert_array_equal(similar < 0, rows < 0)
    taken = np.take_along_axis(cosine, similar, axis=1)
    np.testing.assert_allclose(taken, np.take_along_axis(cosine, rows, axis=1), atol=2e-6)


def test_identical_users_are_ordered_by_row_in_any_place():
    x = np.random.default_rng(1).normal(size=(300, 48)).astype(np.float32)
    x[[3, 50, 199, 298, 299]] = x[3]
    np.testing.assert_array_equal(similar_users(x, 4, 128)[50], [3, 199, 298, 299])


def test_length_does_not_matter():
    x = np.array([[1, 0], [-1, 0], [5e-20, 1e-20]], np.float32)
    np.testing.assert_array_equal(similar_users(x, 2), [[2, 1], [2, 0], [0, 1]])


@pytest.mark.parametrize("block", [1, 2, None])
def test_a_user_without_an_embedding_is_similar_to_nobody(block):
    """User 1 has a vector of zeros: no teachers (not users 0, 2 and 3), and a teacher of nobody (not before user 2)."""
    x = np.array([[1, 0], [0, 0], [-1, 0], [1, 1]], np.float32)
    wanted = [[3, 2, -1], [-1, -1, -1], [3, 0, -1], [0, 2, -1]]
    np.testing.assert_array_equal(similar_users(x, 3, block), wanted)
    among = np.array([True, True, False, True])
    np.testing.assert_array_equal(similar_users(x, 1, block, among), [[3], [-1], [3], [0]])
    assert (similar_users(np.zeros((3, 2), np.float32), 2, block) == -1).all()


def test_k_is_clipped_to_the_others():
    assert similar_users(np.ones((3, 2), np.float32), 100).shape == (3, 2)
    assert similar_users(np.ones((1, 2), np.float32), 100).shape == (1, 0)
