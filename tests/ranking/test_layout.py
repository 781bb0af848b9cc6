"""The staircase of row lengths: optimal, always fitting, and independent of the seed."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmesr_jax.core.errors import InputError
from llmesr_jax.ranking import layout

LENGTHS = st.lists(st.integers(0, 12), min_size=1, max_size=12)


def padded_size(lengths, steps):
    return sum(min(step for step in steps if step >= max(length, 1)) for length in lengths)


def row_lengths(stairs):
    return [length for rows, length in stairs.buckets for _ in range(rows)]


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
    assert layout.RowPlan((2, 5, 9), (7, 4, 1)).buckets == ((1, 9), (3, 5), (3, 2))
    assert layout.RowPlan((2, 5, 9), (4, 4, 0)).buckets == ((4, 5),)  # a step that no row needs is left out
    assert layout.padded(3, 8).buckets == ((3, 8),)


BAGS = st.integers(1, 15).flatmap(
    lambda n: st.lists(  # one or two bags of 1 to 3 sequences a sample
        st.integers(1, 3).flatmap(
            lambda m: st.lists(st.lists(st.integers(0, 9), min_size=m, max_size=m), min_size=n, max_size=n).map(
                np.array
            )
        ),
        min_size=1,
        max_size=2,
    )
)


def planned(bags, batch_size, buckets):
    """Staircases of the bags, and what an order must fit."""
    stairs = layout.plan(bags, batch_size, buckets)
    counts = np.concatenate([layout.exceedances(bag, s.lengths) for bag, s in zip(bags, stairs)], axis=1)
    return stairs, counts, np.concatenate([np.array(s.at_least[1:], np.int64) for s in stairs])


@settings(max_examples=40)
@given(BAGS, st.integers(1, 6), st.integers(1, 4), st.integers(0, 2**31 - 1), st.integers(1, 5))
def test_every_batch_of_an_epoch_fits_its_rows(bags, batch_size, buckets, seed, epoch):
    """Whatever swaps it takes, an order is a permutation and its batches fit the rows, longest to longest."""
    stairs, counts_NxG, most_G = planned(bags, batch_size, buckets)
    order = layout.draw_order(seed, epoch, batch_size, counts_NxG, most_G)
    samples = len(bags[0])
    assert sorted(order[order >= 0]) == list(range(samples))
    assert order.shape == (-(-samples // batch_size), batch_size)
    assert ((order >= 0).sum(axis=1)[:-1] == batch_size).all()
    for batch in order:
        for bag, s in zip(bags, stairs):
            sequences = sorted(bag[batch[batch >= 0]].ravel(), reverse=True)
            assert all(n <= width for n, width in zip(sequences, row_lengths(s)))
    np.testing.assert_array_equal(order, layout.draw_order(seed, epoch, batch_size, counts_NxG, most_G))


@given(BAGS, st.integers(1, 6), st.integers(1, 4))
def test_groups_sum_to_the_rows_of_a_batch(bags, batch_size, buckets):
    for bag, s in zip(bags, layout.plan(bags, batch_size, buckets)):
        assert sum(rows for rows, _ in s.buckets) == batch_size * bag.shape[1]
        widths = [length for _, length in s.buckets]
        assert widths == sorted(set(widths), reverse=True)


def test_swaps_mend_a_batch_with_too_many_long_sequences():
    counts = np.array([[1], [1], [1], [0], [0], [0]], np.int32)
    order = np.array([[0, 1, 2], [3, 4, 5]], np.int32)
    assert layout.loads(counts, order).tolist() == [[3], [0]]
    assert layout.fitted(np.random.default_rng(0), order, counts, np.array([2]))
    assert sorted(layout.loads(counts, order).ravel()) == [1, 2] and sorted(order.ravel()) == list(range(6))
    assert not layout.fitted(np.random.default_rng(0), order, counts, np.array([1]))  # 3 do not fit 1 + 1


def test_orders_differ_between_seeds_and_epochs_and_ignore_numpys_global_state():
    orders, free = {}, (np.zeros((50, 0), np.int32), np.zeros(0, np.int64))
    for seed, epoch in itertools.product((1, 2), (1, 2)):
        np.random.seed(seed * epoch)
        orders[seed, epoch] = layout.draw_order(seed, epoch, 8, *free)
    assert len({order.tobytes() for order in orders.values()}) == 4
    np.testing.assert_array_equal(orders[1, 2], layout.draw_order(1, 2, 8, *free))


def test_an_order_that_cannot_fit_is_an_error_that_says_what_to_do(monkeypatch):
    monkeypatch.setattr(layout, "_TRIES", 2)
    monkeypatch.setattr(layout, "_SWAPS", 10)
    with pytest.raises(InputError, match="data.layout=padded"):
        layout.draw_order(1, 1, 2, np.ones((4, 1), np.int32), np.array([0]))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(1, 12))
def test_deal_puts_every_sample_into_a_row_that_is_long_enough(lengths, rows):
    lengths_N = np.array(lengths)
    batches_NxR, plan = layout.in_batches(lengths_N, rows)
    groups = plan.buckets
    assert sorted(batches_NxR[batches_NxR >= 0]) == list(range(len(lengths)))
    assert batches_NxR.shape[1] <= rows and sum(n for n, _ in groups) == batches_NxR.shape[1]
    widths = [width for n, width in groups for _ in range(n)]
    for hand in batches_NxR:
        assert all(lengths_N[sample] <= width for sample, width in zip(hand, widths) if sample >= 0)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30), st.integers(1, 12))
def test_two_bags_of_one_size_share_their_rows(pairs, rows):
    one, other = np.array(pairs).T
    found = layout.in_batches(one, rows, other), layout.in_batches(other, rows, one)
    assert found[0][1] == found[1][1] and found[0][0].shape == found[1][0].shape
    widths = [width for n, width in found[0][1].buckets for _ in range(n)]
    for lengths, (batches_NxR, _) in zip((one, other), found):
        for hand in batches_NxR:
            assert all(lengths[sample] <= width for sample, width in zip(hand, widths) if sample >= 0)
