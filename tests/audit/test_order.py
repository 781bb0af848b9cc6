"""Chance, time and sorting are told apart; every number that is asserted can be counted by hand."""

import itertools
import math

import numpy as np
import order_data
import pytest

from llmesr_jax.audit import order


def judged(x_n, user_n):
    share = order.neighbours(x_n, user_n)
    return order.evidence(share, *order.by_distance(order.steps(x_n, user_n)))


def shuffled(x_n, user_n, seed=0):
    return x_n[np.lexsort((np.random.default_rng(seed).random(len(x_n)), user_n))]


def by_id(x_n, user_n, sign=1):
    return x_n[np.lexsort((sign * x_n, user_n))]


def test_neighbours_by_hand():
    """1 3 2 | 5 5 7: up, down | equal ids are left out, up."""
    share = order.neighbours(np.array([1, 3, 2, 5, 5, 7]), np.array([0, 0, 0, 1, 1, 1]))
    assert share[:3] == (3, 2, 2 / 3)
    assert share.z == pytest.approx(0.5 / math.sqrt((2 + 2) / 12 + (1 + 2) / 12))
    assert order.neighbours(np.array([1, 2]), np.array([0, 1])) == (0, 0, None, None)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_z_has_mean_0_and_variance_1_over_all_orders(n):
    run = np.zeros(n, int)
    z = [order.within_ties(np.array(p), run).z for p in itertools.permutations(range(n))]
    assert np.mean(z) == pytest.approx(0, abs=1e-12) and np.mean(np.square(z)) == pytest.approx(1)


def test_within_ties_by_hand():
    """Runs 4 9 | 3 | 8 2 5: three pairs, two ascents; the change of runs is no pair."""
    share = order.within_ties(np.array([4, 9, 3, 8, 2, 5]), np.array([2, 2, 3, 7, 7, 7]))
    assert share[:3] == (3, 2, 2 / 3)


def test_steps_stay_within_a_user():
    x, user = np.array([1, 4, 2, 9, 9]), np.array([0, 0, 0, 1, 1])
    assert order.steps(x, user).tolist() == [3, -2]
    assert order.steps(x, user, 2).tolist() == [1]
    assert [a.tolist() for a in order.by_distance(order.steps(x, user))] == [[0, 0, 0, 1], [0, 0, 1, 0]]


def test_ranks_of_numbers_and_of_words():
    assert [x if isinstance(x, bool) else x.tolist() for x in order.ranks(["10", "9", "100"])] == [[1, 0, 2], True]
    assert [x if isinstance(x, bool) else x.tolist() for x in order.ranks(["B10", "B9", "B100"])] == [[0, 2, 1], False]


def test_ids_by_first_appearance():
    items = np.array([2, 2, 1, 3, 1])
    first = order.first_meetings(items, 3)
    assert first.tolist() == [True, False, True, True, False]
    assert not order.numbered_by_appearance(items, first)
    assert order.numbered_by_appearance(np.array([1, 1, 2, 3, 2]), first)


@pytest.mark.parametrize("items", [300, 1_000, 20_000])
@pytest.mark.parametrize("age", [0.001, 0.01, 0.1, 0.5])
@pytest.mark.parametrize("life", [0.02, 0.2, 0.8])
def test_ids_that_rise_with_time_are_no_evidence(life, age, items):
    """Up to 99 % of neighbours ascend here, and rightly so."""
    for users in (200, 4_000):
        x, user = order_data.drift(users, items, life, age)
        assert judged(x, user) is None


def test_a_random_order_is_no_evidence():
    x, user = order_data.drift(3_000, 1_000, 0.5, 0.1)
    assert judged(shuffled(x, user), user) is None


@pytest.mark.parametrize("users", [20, 200, 4_000])
@pytest.mark.parametrize(("sign", "direction"), [(1, "ascend"), (-1, "descend")])
def test_a_sorted_file(users, sign, direction):
    x, user = order_data.drift(users, 1_000, 0.5, 0.1)
    found = judged(by_id(x, user, sign), user)
    assert (found.kind, found.direction, found.close_share) == ("always", direction, 1.0)


@pytest.mark.parametrize("others", [0.01, 0.1, 0.5])
def test_a_file_that_is_sorted_for_most_users(others):
    x, user = order_data.drift(4_000, 2_000, 0.5, 0.5)
    keep = (np.arange(4_000) < others * 4_000)[user]
    mixed = np.where(keep, shuffled(x, user), by_id(x, user))
    assert judged(mixed, user).kind == "close"


@pytest.mark.parametrize("days", [2, 5, 12])
def test_days_that_are_sorted_by_id(days):
    x, user, _ = order_data.by_days(3_000, 2_000, days)
    found = judged(x, user)
    assert (found.kind, found.direction) == ("close", "ascend")
    assert found.close_share > found.far_share > 0.45


def test_days_that_are_sorted_by_id_while_ids_rise_with_time():
    """Close ids are met on one day, so they are sorted; distant ids ascend by time."""
    x, user = order_data.drift(4_000, 5_000, 0.8, 0.05)
    rng = np.random.default_rng(1)
    day = np.cumsum(rng.random(len(x)) < 0.4)  # stretches of 2.5 in time order
    place = np.lexsort((x, day, user))
    assert judged(x[place], user).kind == "close"
    random_place = np.lexsort((rng.random(len(x)), day, user))
    assert judged(x[random_place], user) is None


def test_item_pairs_by_hand():
    """1-2 is met by three users in one order, 2-3 by two in both; a user counts once a pair."""
    items = np.array([1, 2, 1, 2, 1, 2, 3, 1, 2, 3, 2])
    users = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3])
    assert order.agreement(items, users) == (2, 1, 3)
    assert order.agreement(np.array([1, 1]), np.array([0, 0])) == (0, 0, 0)


def test_sorted_sequences_show_whatever_the_ids_are():
    x, user = order_data.drift(4_000, 200, 0.5, 0.5)
    names = np.random.default_rng(2).permutation(200) + 1
    assert order.agreement(names[by_id(x, user)], user).sorted
    assert not order.agreement(names[x], user).sorted
    assert not order.agreement(names[by_id(x, user)][:80], user[:80]).sorted  # ten users are too few to say so
