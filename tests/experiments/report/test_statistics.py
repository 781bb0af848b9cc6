"""Tests and intervals: hand arithmetic, agreement with SciPy, and what must hold of any numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from llmesr_jax.experiments.report import statistics


def test_paired_t_by_hand():
    """Differences 1, 2, 3: mean 2, deviation 1, t = 2 sqrt(3); with two degrees p = 1 - t / sqrt(t^2 + 2)."""
    found = statistics.over_seeds({7: 1.0, 8: 3.0, 9: 6.0}, {9: 3.0, 7: 0.0, 8: 1.0})
    t = 2 * math.sqrt(3)
    assert (found.name, found.count) == ("paired t", 3)
    assert found.statistic == pytest.approx(t)
    assert found.p == pytest.approx(1 - t / math.sqrt(t * t + 2))
    wanted = stats.ttest_rel([1, 3, 6], [0, 1, 3])
    assert (found.statistic, found.p) == pytest.approx((wanted.statistic, wanted.pvalue))


def test_welch_by_hand_where_seeds_differ():
    """Means 2 and 6, variances 1 and 4, three each: t = -4 / sqrt(5 / 3), and Welch and Satterthwaite's degrees."""
    found = statistics.over_seeds({1: 1.0, 2: 2.0, 3: 3.0}, {1: 4.0, 2: 6.0, 4: 8.0})
    assert (found.name, found.count) == ("Welch's t", 3)
    t, degrees = -4 / math.sqrt(5 / 3), (5 / 3) ** 2 / ((1 / 3) ** 2 / 2 + (4 / 3) ** 2 / 2)
    assert found.statistic == pytest.approx(t)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(t), degrees))
    wanted = stats.ttest_ind([1, 2, 3], [4, 6, 8], equal_var=False)
    assert (found.statistic, found.p) == pytest.approx((wanted.statistic, wanted.pvalue))


def test_one_seed_makes_no_test():
    assert statistics.over_seeds({1: 0.5}, {1: 0.25}) is None
    assert statistics.over_seeds({1: 0.5}, {1: 0.25, 2: 0.5}) is None


def test_numbers_without_spread():
    same = {1: 0.5, 2: 0.5}
    assert statistics.over_seeds(same, dict(same)).p == 1.0
    assert math.isnan(statistics.over_seeds({1: 0.75, 2: 0.5}, {1: 0.5, 2: 0.25}).p)  # ahead by the same: no spread
    assert statistics.over_seeds(same, {3: 0.5, 4: 0.5}).p == 1.0
    assert math.isnan(statistics.over_seeds(same, {3: 0.25, 4: 0.25}).p)


def test_wilcoxon_by_hand():
    """Twelve of twelve ahead by 1 to 12: the smaller rank sum is 0, its mean 39, its variance 12 * 13 * 25 / 24."""
    ours, theirs = np.arange(1.0, 13), np.zeros(12)
    _, found = statistics.over_users(np.append(ours, 5.0), np.append(theirs, 5.0))  # the equal pair is left out
    assert (found.name, found.count, found.statistic) == ("Wilcoxon", 12, 0.0)
    assert found.p == pytest.approx(2 * stats.norm.sf(39 / math.sqrt(12 * 13 * 25 / 24)))


def test_over_users_agrees_with_scipy():
    rng = np.random.default_rng(0)
    ours, theirs = rng.choice([0, 0, 0.5, 1], 300), rng.choice([0, 0, 0.5, 1], 300)
    paired, signed = statistics.over_users(ours, theirs)
    wanted = stats.ttest_rel(ours, theirs)
    assert (paired.statistic, paired.p, paired.count) == pytest.approx((wanted.statistic, wanted.pvalue, 300))
    wanted = stats.wilcoxon(ours, theirs, method="asymptotic")
    assert (signed.statistic, signed.p) == pytest.approx((wanted.statistic, wanted.pvalue))


def test_what_rounding_makes_of_equal_users_is_no_difference():
    ours = np.array([0.1 + 0.2 + 0.3] * 30 + [1.0] * 12)
    theirs = np.array([0.3 + 0.2 + 0.1] * 30 + [0.0] * 12)
    assert ours[0] != theirs[0]
    assert statistics.over_users(ours, theirs)[1] == statistics.over_users(ours[30:], theirs[30:])[1]


def test_too_few_users_that_differ():
    ours = np.zeros(50)
    ours[:9] = 1
    assert math.isnan(statistics.over_users(ours, np.zeros(50))[1].p)
    assert [test.p for test in statistics.over_users(ours, ours)] == [1.0, 1.0]


def test_holm_by_hand():
    """Sorted .005 .01 .03 .04 count 4, 3, 2, 1 times: .02 .03 .06, and .04 becomes the .06 before it."""
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    one, none, other = statistics.holm([0.02, math.nan, 0.03])
    assert (one, other) == pytest.approx((0.04, 0.04)) and math.isnan(none)
    assert statistics.holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_keeps_order_and_lies_between_p_and_bonferroni(p):
    corrected = statistics.holm(p)
    for raw, new in zip(p, corrected):
        assert raw <= new <= min(1.0, raw * len(p)) + 1e-12
    order = np.argsort(p, kind="stable")
    assert np.all(np.diff(np.array(corrected)[order]) >= 0)


def test_bootstrap_is_that_of_scipy(monkeypatch):
    """The same draws, so the same interval to the last digits, in blocks or at once."""
    rng = np.random.default_rng(1)
    values = np.stack([rng.random(40), rng.choice([0.0, 1.0], 40)])
    means = statistics.bootstrap_means(values, np.arange(values.shape[1]), 500, seed=9)
    for row, mean in zip(values, means):
        random = np.random.default_rng(9)
        wanted = stats.bootstrap((row,), np.mean, n_resamples=500, method="percentile", rng=random)
        low_high = (wanted.confidence_interval.low, wanted.confidence_interval.high)
        assert statistics.interval(mean) == pytest.approx(low_high, rel=1e-12)
        np.testing.assert_allclose(np.sort(mean), np.sort(wanted.bootstrap_distribution), rtol=1e-12)
    monkeypatch.setattr(statistics, "_BLOCK", 7 * 40)
    np.testing.assert_allclose(
        statistics.bootstrap_means(values, np.arange(values.shape[1]), 500, seed=9), means, rtol=1e-12
    )


def test_the_interval_of_a_constant_is_the_constant():
    assert statistics.interval(statistics.bootstrap_means(np.full((1, 5), 0.25), np.arange(5), 100, 0)[0]) == (
        0.25,
        0.25,
    )


def test_intervals_hold_the_mean_about_as_often_as_they_say():
    rng = np.random.default_rng(3)
    held = 0
    for i in range(200):
        low, high = statistics.interval(
            statistics.bootstrap_means(rng.normal(0.5, 1, (1, 60)), np.arange(60), 300, i)[0]
        )
        held += low <= 0.5 <= high
    assert 0.88 <= held / 200 <= 0.985


def test_users_are_drawn_with_all_their_targets():
    """User 7 has three targets, user 9 one: a draw of both is the mean of four, of one alone its own mean."""
    values, users = np.array([[1.0, 0.0, 0.5, 0.0]]), np.array([7, 9, 7, 7])
    sums, counts = statistics.by_user(values, users)
    assert (sums.tolist(), counts.tolist()) == ([[1.5, 0.0]], [3.0, 1.0])
    means = statistics.bootstrap_means(values, users, 400, 0)[0]
    assert set(means.tolist()) == {0.5, 0.375, 0.0}  # 7 and 7, both, 9 and 9
    assert abs((means == 0.375).mean() - 0.5) < 0.1
