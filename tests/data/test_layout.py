"""The staircase of row lengths: optimal, always fitting, and independent of the seed."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmesr_jax.data import layout
from llmesr_jax.errors import InputError

LENGTHS = st.lists(st.integers(0, 12), min_size=1, max_size=12)
SAMPLES = st.integers(1, 3).flatmap(
    lambda m: st.lists(st.lists(st.integers(0, 9), min_size=m, max_size=m), min_size=1, max_size=15)
)


def padded_size(lengths, steps):
    return sum(min(step for step in steps if step >= max(length, 1)) for length in lengths)


def row_lengths(stairs):
    return [length for rows, length in stairs.groups for _ in range(rows)]


@given(LENGTHS, st.integers(1, 4))
def test_best_lengths_waste_as_little_as_any_choice(lengths, buckets):
    ours = layout.best_lengths(np.array(lengths), buckets)
    assert list(ours) == sorted(set(ours)) and len(ours) <= buckets and ours[-1] == max(1, *lengths)
    top = ours[-1]
    others = (c + (top,) for n in range(buckets) for c in itertools.combinations(range(1, top), n))
    assert padded_size(lengths, ours) == min(padded_size(lengths, steps) for steps in others)


def test_best_lengths_of_two_kinds():
    assert layout.best_lengths(np.array([3, 3, 3, 10]), 2) == (3, 10)
    assert layout.best_lengths(np.array([3, 3, 3, 10]), 1) == (10,)
    assert layout.best_lengths(np.array([0, 0]), 3) == (1,)


def test_groups_count_each_row_once_longest_first():
    assert layout.Stairs((2, 5, 9), (7, 4, 1)).groups == ((1, 9), (3, 5), (3, 2))
    assert layout.Stairs((2, 5, 9), (4, 4, 0)).groups == ((4, 5),)  # a step that no row needs is left out
    assert layout.padded(3, 8).groups == ((3, 8),)


@given(SAMPLES, st.integers(1, 6), st.integers(1, 4))
def test_groups_sum_to_the_rows_of_a_batch(lengths, batch_size, buckets):
    lengths_NxM = np.array(lengths)
    groups = layout.plan(lengths_NxM, batch_size, buckets).groups
    assert sum(rows for rows, _ in groups) == batch_size * lengths_NxM.shape[1]
    widths = [length for _, length in groups]
    assert widths == sorted(set(widths), reverse=True)


@settings(max_examples=40)
@given(SAMPLES, st.integers(1, 6), st.integers(1, 4), st.integers(0, 2**31 - 1), st.integers(1, 5))
def test_every_batch_of_an_epoch_fits_its_rows(lengths, batch_size, buckets, seed, epoch):
    lengths_NxM = np.array(lengths)
    stairs = layout.plan(lengths_NxM, batch_size, buckets)
    fits = [(layout.exceedances(lengths_NxM, stairs.lengths), stairs)]
    order = layout.draw_order(seed, epoch, len(lengths), batch_size, fits)
    assert sorted(order[order >= 0]) == list(range(len(lengths)))  # a permutation: each sample once
    assert order.shape == (-(-len(lengths) // batch_size), batch_size)
    for batch in order:
        sequences = sorted((n for sample in batch[batch >= 0] for n in lengths[sample]), reverse=True)
        assert all(n <= width for n, width in zip(sequences, row_lengths(stairs)))
    np.testing.assert_array_equal(order, layout.draw_order(seed, epoch, len(lengths), batch_size, fits))


def test_orders_differ_between_seeds_and_epochs_and_ignore_numpys_global_state():
    orders = {}
    for seed, epoch in itertools.product((1, 2), (1, 2)):
        np.random.seed(seed * epoch)
        orders[seed, epoch] = layout.draw_order(seed, epoch, 50, 8, [])
    assert len({order.tobytes() for order in orders.values()}) == 4
    np.testing.assert_array_equal(orders[1, 2], layout.draw_order(1, 2, 50, 8, []))


def test_an_order_that_cannot_fit_is_an_error_that_says_what_to_do():
    counts = np.ones((4, 1), np.int32)  # every sample exceeds the first step, and no row is that long
    with pytest.raises(InputError, match="data.layout=padded"):
        layout.draw_order(1, 1, 4, 2, [(counts, layout.Stairs((1, 5), (2, 0)))])


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(1, 12))
def test_deal_puts_every_sample_into_a_row_that_is_long_enough(lengths, rows):
    lengths_N = np.array(lengths)
    hands, groups = layout.deal(lengths_N, rows)
    assert sorted(hands[hands >= 0]) == list(range(len(lengths)))
    assert hands.shape[1] <= rows and sum(n for n, _ in groups) == hands.shape[1]
    widths = [width for n, width in groups for _ in range(n)]
    for hand in hands:
        assert all(lengths_N[sample] <= width for sample, width in zip(hand, widths) if sample >= 0)
