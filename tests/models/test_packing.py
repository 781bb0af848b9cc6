"""Where rows lie when several are packed into one bin."""

import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from llmesr_jax.models import packing
from llmesr_jax.ranking import layout

ROWS = [[5, 1, 2, 7, 9, 3], [3, 8, 1, 6], [4, 4, 2], [6, 1], [9], []]
BUCKETS = ((1, 6), (2, 4), (3, 2))


@st.composite
def stairs(draw):
    """((rows, length), ...), longest first, and widths of bins that hold them."""
    lengths = sorted(draw(st.sets(st.integers(1, 30), min_size=1, max_size=5)), reverse=True)
    buckets = tuple((draw(st.integers(1, 9)), length) for length in lengths)
    return buckets, tuple(draw(st.sets(st.integers(1, 40), max_size=2)) | {draw(st.integers(lengths[0], 45))})


@given(stairs())
def test_every_row_has_its_slots_in_one_bin_and_no_slot_has_two_rows(drawn):
    buckets, widths = drawn
    found = packing.places(buckets, widths)
    lengths = [length for rows, length in buckets for _ in range(rows)]
    slots = [set(range(first, first + n)) for first, n in zip(found.first_R, lengths)]
    assert len(set().union(*slots)) == sum(lengths)
    assert len(found.row_T) == sum(count * width for count, width in found.bins)
    start = 0
    for (count, width), table in zip(found.bins, found.rows, strict=True):
        assert width in widths
        for held in table:
            its = found.row_T[start : start + width]
            assert sorted(set(its)) == sorted(set(its) & set(held.tolist()))  # its rows, and what fills it up
            for row in set(its):
                assert set(np.flatnonzero(its == row) + start) >= slots[row]
                assert width == min(w for w in widths if w >= lengths[row])
            start += width
    assert np.concatenate([t.ravel() for t in found.rows])[found.place_R].tolist() == list(range(len(lengths)))
    np.testing.assert_array_equal(np.bincount(found.row_T, minlength=len(lengths)), found.width_R)


@given(stairs())
def test_first_fit_leaves_no_two_bins_that_would_go_into_one(drawn):
    buckets, widths = drawn
    found = packing.places(buckets, (max(widths),))
    lengths = np.array([length for rows, length in buckets for _ in range(rows)])
    ((count, width),) = found.bins
    filled = [lengths[np.unique(found.row_T[i * width : (i + 1) * width])].sum() for i in range(count)]
    assert all(a + b > width for i, a in enumerate(filled) for b in filled[i + 1 :])


def test_without_widths_each_row_is_alone():
    found = packing.places(BUCKETS)
    assert found.bins == BUCKETS and not found.packed
    assert found.row_T.tolist() == [0] * 6 + [1] * 4 + [2] * 4 + [3, 3, 4, 4, 5, 5]
    assert found.first_R.tolist() == [0, 6, 10, 14, 16, 18] and found.width_R.tolist() == [6, 4, 4, 2, 2, 2]


@pytest.mark.parametrize("widths", [(), (8,), (4, 7)])
def test_what_belongs_to_rows_comes_back_from_bins(widths):
    sequences = laid(widths)
    assert sequences.places.packed == (widths != ())
    x_RxD = jnp.arange(12.0).reshape(6, 2)
    np.testing.assert_array_equal(sequences.join_bins(sequences.split_by_bin(x_RxD)), x_RxD)


@pytest.mark.parametrize("widths", [(8,), (4, 7)])
def test_rows_are_read_the_same_where_they_are_packed(widths):
    apart, packed = laid(()), laid(widths)
    for name in ("left_out_R", "newest_R", "valid_R"):
        np.testing.assert_array_equal(getattr(packed, name), getattr(apart, name))
    for row, items in enumerate(ROWS):
        for sequences in (apart, packed):
            mine = (sequences.row_T == row) & np.asarray(sequences.valid_T)
            assert np.asarray(sequences.items_T)[mine].tolist() == items
            assert np.asarray(sequences.positions_T)[mine].tolist() == list(range(1, len(items) + 1))
            assert np.asarray(sequences.index_T)[mine].tolist() == list(range(len(items)))


def laid(widths):
    """`ROWS` as sequences."""
    flat, ends = jnp.asarray(np.concatenate(ROWS), jnp.int32), np.cumsum([len(row) for row in ROWS])
    lengths = tiny.ints([len(row) for row in ROWS])
    return layout.lay_out(flat, tiny.ints(ends), lengths, BUCKETS, False, 6, bin_widths=widths)[0]
