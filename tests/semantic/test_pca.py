import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmesr_jax.semantic import pca
from llmesr_jax.semantic.pca import pca_start


def _points(num_items, width, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(num_items, width)) * np.arange(width, 0, -1) + 3).astype(np.float32)


def test_points_on_a_line_have_one_component_their_distance_along_it():
    along = np.array([-3.0, -1.0, 0.0, 4.0])
    points = along[:, None] * np.array([0.6, 0.8]) + [10, -7]
    start = pca_start(points.astype(np.float32), 2, seed=0)
    np.testing.assert_allclose(start[:, 0], along, atol=1e-5)  # the largest loading, 0.8, is positive
    np.testing.assert_allclose(start[:, 1], 0, atol=1e-5)


def test_full_width_keeps_every_distance_and_orders_columns_by_spread():
    points = _points(40, 6)
    start = pca_start(points, 6, seed=0)
    distances = lambda x: np.linalg.norm(x[:, None] - x[None], axis=-1)  # noqa: E731
    np.testing.assert_allclose(distances(start), distances(points), rtol=1e-4, atol=1e-3)
    assert (np.diff(start.std(axis=0)) < 0).all()
    np.testing.assert_allclose(start.mean(axis=0), 0, atol=1e-4)


def test_a_large_common_mean_changes_nothing():
    points = _points(500, 8)
    np.testing.assert_allclose(pca_start(points + 1000, 4, seed=0), pca_start(points, 4, seed=0), atol=0.01)


@given(st.integers(1, 12), st.integers(1, 8), st.integers(1, 16), st.sampled_from([np.float16, np.float32]))
def test_width_is_met_whatever_the_input(num_items, llm_width, width, dtype):
    points = _points(num_items, llm_width).astype(dtype)
    start = pca_start(points, width, seed=7)
    assert start.shape == (num_items, width) and start.dtype == np.float32 and np.isfinite(start).all()
    np.testing.assert_array_equal(start, pca_start(points, width, seed=7))


@pytest.mark.parametrize("width", [64, 128])
def test_columns_beyond_the_components_are_noise_no_louder_than_the_weakest(width):
    points = _points(2000, 5)
    start = pca_start(points, width, seed=1)
    np.testing.assert_array_equal(start[:, :5], pca_start(points, 5, seed=1))
    np.testing.assert_allclose(start[:, 5:].std(axis=0), start[:, 4].std(), rtol=0.1)
    assert not np.array_equal(start[:, 5:], pca_start(points, width, seed=2)[:, 5:])


def test_equal_items_start_at_zero():
    np.testing.assert_allclose(pca_start(np.full((50, 3), 0.7, np.float32), 4, seed=0), 0, atol=1e-6)


@pytest.mark.parametrize(("num_items", "width", "kept"), [(500, 8, 8), (500, 8, 3), (3, 8, 4), (40, 8, 12)])
def test_block_by_block_gives_the_same_components(monkeypatch, num_items, width, kept):
    points = _points(num_items, width).astype(np.float16)
    whole = pca_start(points, kept, seed=0)
    monkeypatch.setattr(pca, "_LARGE", 1)
    monkeypatch.setattr(pca, "_BLOCK", 7)
    np.testing.assert_allclose(pca_start(points, kept, seed=0), whole, atol=2e-2 if num_items == 3 else 1e-3)
