"""Staircases for what a step draws: nearly all of it fits, and bags join without a change."""

import jax.numpy as jnp
import numpy as np
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from llmesr_jax.models.kernels import drawn_rows


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.integers(1, 60), st.sampled_from([128, 200, 1280]), st.integers(1, 40))
def test_a_draw_fits_its_rows_and_no_row_is_missing(seed, longest, total, kinds):
    rng = np.random.default_rng(seed)
    lengths, chances = rng.geometric(0.2, kinds), rng.random(kinds)
    chances /= chances.sum()
    tables = drawn_rows.plan("room", lengths, chances, longest)
    assert set(tables) == set(drawn_rows.names("room"))
    groups = drawn_rows.groups(tables, "room", total)
    widths = np.repeat([width for _, width in groups], [rows for rows, _ in groups])
    assert len(widths) == total and (np.diff(widths) <= 0).all() and widths.max() <= longest
    drawn = np.minimum(rng.choice(lengths, total, p=chances), longest)
    assert (np.sort(drawn)[::-1] <= widths).all()


def test_the_staircase_saves_slots():
    lengths = np.random.default_rng(0).geometric(0.2, 5000)
    tables = drawn_rows.plan("room", lengths, np.full(5000, 1 / 5000), 49)
    slots = sum(rows * width for rows, width in drawn_rows.groups(tables, "room", 1280))
    assert slots < 0.4 * 1280 * 49


def test_sorting_and_back():
    lengths = jnp.array([3, 0, 7, 3])
    order, place = drawn_rows.sort(lengths)
    assert order.tolist() == [2, 0, 3, 1]
    np.testing.assert_array_equal(lengths[order][place], lengths)


def test_bags_together_have_the_rows_of_each():
    parts = [tiny.lay([[1, 2, 3], [4, 5]], ((2, 4),)), tiny.lay([[6]], ((1, 2),))]
    found = drawn_rows.together(parts)
    assert tiny.items_by_row(found) == [[1, 2, 3], [4, 5], [6]]
    assert found.items_T[found.last_R].tolist() == [3, 5, 6] and found.buckets == ((2, 4), (1, 2))
    np.testing.assert_array_equal(found.newest_R, [2, 1, 0])
