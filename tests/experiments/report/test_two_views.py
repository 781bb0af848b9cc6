"""Overlap of neighbours and linear CKA by hand, and the figure's words."""

import numpy as np
import pytest
import report_runs

from llmesr_jax.experiments import drawing
from llmesr_jax.experiments.report import collect, planes, rows, two_views

CIRCLE = np.deg2rad([0.0, 10.0, 50.0, 65.0])
POINTS = np.stack([np.cos(CIRCLE), np.sin(CIRCLE)], axis=1)


def test_overlap_by_hand():
    """By angle, the nearest other of 0, 10, 50, 65 degrees is 10, 0, 65, 50. With the two middle ones exchanged, the
    items lie at 0, 50, 10, 65, and their nearest others are the 3rd, the 4th, the 1st and the 2nd: none in common."""
    other = POINTS[[0, 2, 1, 3]]
    assert two_views.overlap(POINTS, other, 1) == 0.0
    # Two neighbours each: of 0: {10, 50} twice; of 10 (then 50): {0, 50} and {65, 10}, as items {0, 2} and {3, 2}; ...
    first = [{1, 2}, {0, 2}, {3, 1}, {2, 1}]
    second = [{2, 1}, {3, 2}, {0, 1}, {1, 2}]
    wanted = np.mean([len(a & b) / 2 for a, b in zip(first, second)])
    assert two_views.overlap(POINTS, other, 2) == pytest.approx(wanted)


def test_overlap_knows_neither_lengths_nor_rotations_nor_itself():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(60, 5))
    turned = a @ np.linalg.qr(rng.normal(size=(5, 5)))[0] * rng.uniform(1, 3, (60, 1))
    assert two_views.overlap(a, turned) == 1.0
    assert two_views.overlap(a, rng.normal(size=(60, 8))) == pytest.approx(10 / 59, abs=0.06)
    twins = np.repeat(a[:6], 2, axis=0)  # an item whose twin has the same vector: the twin is its neighbour
    assert two_views.overlap(twins, twins, 1) == 1.0
    assert two_views.overlap(a[:4], a[:4], 10) == 1.0  # no more neighbours than others there are


def test_linear_cka_by_hand():
    """Columns (1, -1, 0) and (1, 1, -2): orthogonal, so 0; x with (x, y) of norms 2 and 6: 2^2 / (2 sqrt(2^2 + 6^2))."""
    x, y = np.array([[1.0], [-1.0], [0.0]]), np.array([[1.0], [1.0], [-2.0]])
    assert two_views.linear_cka(x, y) == pytest.approx(0)
    assert two_views.linear_cka(x, np.hstack([x, y])) == pytest.approx(4 / (2 * np.sqrt(4 + 36)))
    assert two_views.linear_cka(x, 5 - 3 * x) == pytest.approx(1)
    assert np.isnan(two_views.linear_cka(x, np.ones((3, 2))))


def test_linear_cka_is_that_of_the_centred_kernels():
    """HSIC of the two Gram matrices over the root of their own: the definition, n by n."""
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(20, 4)).astype(np.float32), rng.normal(size=(20, 7)).astype(np.float32)
    centre = np.eye(20) - 1 / 20
    k, l = (centre @ (x.astype(np.float64) @ x.T) @ centre for x in (a, b))
    assert two_views.linear_cka(a, b) == pytest.approx((k * l).sum() / np.sqrt((k * k).sum() * (l * l).sum()))


class Flat:
    """In place of t-SNE: the first two numbers of a vector."""

    def of(self, vectors_nxE):
        return vectors_nxE[:, :2]


@pytest.mark.skipif(not drawing.installed(), reason="an extra: pip install -e '.[report]'")
def test_two_panels_a_method_with_its_numbers(tmp_path):
    report_runs.write(tmp_path / "a", report_runs.data(tmp_path / "data"), "faerec")
    (section,) = rows.sections(collect.read_all(collect.find([tmp_path / "a"])))
    rng = np.random.default_rng(2)
    views = {"ID": rng.normal(size=(12, 4)).astype(np.float32), "LLM": rng.normal(size=(12, 6)).astype(np.float32)}
    one = two_views.alike(section.rows[0], views, "its own")
    assert (one.chance, one.llm) == (10 / 11, "its own") and 0 < one.cka < 1
    drawn = two_views.draw(section, [one], {"FAERec": views}, Flat())
    assert [panel.name for panel in drawn.panels] == ["tiny-views-0-id", "tiny-views-0-llm"]
    assert all(f"overlap {one.overlap:.2f} (chance 0.91)" in panel.alt for panel in drawn.panels)
    assert two_views.draw(section, [], {}, Flat()) is None


def test_a_plane_is_made_once():
    made, vectors = planes.Planes(), np.random.default_rng(3).normal(size=(8, 3))
    assert made.of(vectors) is made.of(vectors.copy()) and np.abs(made.of(vectors)).max() == 1
