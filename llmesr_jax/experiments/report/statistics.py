"""Two-sided tests of one system against another, corrected for how many are made, and intervals by bootstrap.

Two questions, two tests. Over seeds: would training from other seeds also be ahead, on these users? Over
users: are these trained models ahead on other users like these? Neither answers the other.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

_BLOCK = 4 << 20  # drawn places held at a time
_DECIMALS = 12  # sums over the same seeds in another order agree to more


class Test(NamedTuple):
    """Attributes:
    name: of the test.
    statistic, p: NaN where the numbers do not allow the test.
    count: pairs, or the smaller group's size.
    """

    name: str
    statistic: float
    p: float
    count: int


def over_seeds(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Test | None:
    """Student's paired t-test where both have the same seeds, Welch's t-test where they differ; two-sided.

    Args:
      ours, theirs: {seed: metric}.
    Returns: None where one of them has fewer than two seeds.
    """
    if min(len(ours), len(theirs)) < 2:
        return None
    if ours.keys() == theirs.keys():
        seeds = sorted(ours)
        return _paired("paired t", np.array([ours[s] for s in seeds]), np.array([theirs[s] for s in seeds]))
    a, b = np.array(list(ours.values())), np.array(list(theirs.values()))
    count = min(len(a), len(b))
    if not np.ptp(a) and not np.ptp(b):
        return Test("Welch's t", np.nan, 1.0 if a[0] == b[0] else np.nan, count)
    found = stats.ttest_ind(a, b, equal_var=False)
    return Test("Welch's t", float(found.statistic), float(found.pvalue), count)


def over_users(ours_n: np.ndarray, theirs_n: np.ndarray) -> tuple[Test, Test]:
    """Student's paired t-test and Wilcoxon's signed-rank test over users, two-sided.

    Wilcoxon's leaves out users without a difference, up to rounding, and its p is that of the normal approximation.

    Args:
      ours_n, theirs_n: float64, a metric of the same users in the same order.
    """
    paired = _paired("paired t", ours_n, theirs_n)
    difference_n = np.round(ours_n - theirs_n, _DECIMALS)
    differing = int(np.count_nonzero(difference_n))
    if differing < 10:  # too few for the approximation, and for any claim
        return paired, Test("Wilcoxon", np.nan, 1.0 if not differing else np.nan, differing)
    found = stats.wilcoxon(difference_n, method="asymptotic")
    return paired, Test("Wilcoxon", float(found.statistic), float(found.pvalue), differing)


def _paired(name: str, ours_n: np.ndarray, theirs_n: np.ndarray) -> Test:
    """A difference that is the same for all pairs has no spread to be judged by, unless it is zero."""
    difference = ours_n - theirs_n
    if len(difference) < 2 or np.ptp(difference) <= 1e-12 * np.abs(difference).max(initial=0):
        return Test(name, np.nan, 1.0 if len(difference) and not np.any(difference) else np.nan, len(difference))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nearly identical differences
        found = stats.ttest_rel(ours_n, theirs_n)
    return Test(name, float(found.statistic), float(found.pvalue), len(difference))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the k-th smallest of m counts (m - k + 1) times, never less than the one before.

    A NaN is no test: it stays NaN and is not counted among the m.
    """
    p = np.asarray(p_values, float)
    order = [i for i in np.argsort(p, kind="stable") if not np.isnan(p[i])]
    corrected, largest = np.full(len(p), np.nan), 0.0
    for k, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - k) * p[i]))
        corrected[i] = largest
    return corrected.tolist()


def by_user(values_MxN: np.ndarray, users_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64 (M, U) sums over the targets of each user, in order of user, and float64 (U,) how many there are."""
    order = np.argsort(users_N, kind="stable")
    _, first, counts = np.unique(users_N[order], return_index=True, return_counts=True)
    if len(first) == len(users_N):  # one each, whose order is kept
        return values_MxN, np.ones(len(users_N))
    return np.add.reduceat(values_MxN[:, order], first, axis=1), counts.astype(np.float64)


def bootstrap_means(values_MxN: np.ndarray, users_N: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """float64 (M, resamples): means of M variables over N targets, their users drawn with replacement.

    The draws are the same for all M. A user comes with all targets, so users with many count for more, as in the mean
    itself. With one target a user, the draws are those of `scipy.stats.bootstrap` with
    `rng=np.random.default_rng(seed)`.
    """
    rng = np.random.default_rng(seed)
    sums_MxU, targets_U = by_user(values_MxN, users_N)
    num_users = len(targets_U)
    rows = max(1, _BLOCK // max(1, num_users))
    means = np.empty((len(sums_MxU), resamples))
    for start in range(0, resamples, rows):
        stop = min(start + rows, resamples)
        drawn_RxN = rng.integers(0, num_users, (stop - start, num_users))
        drawn_RxN += np.arange(stop - start)[:, None] * num_users
        counts_RxN = np.bincount(drawn_RxN.reshape(-1), minlength=(stop - start) * num_users)
        counts_RxN = counts_RxN.reshape(stop - start, num_users).astype(np.float64)
        means[:, start:stop] = sums_MxU @ counts_RxN.T / (targets_U @ counts_RxN.T)
    return means


def interval(means_R: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrapped means."""
    low, high = np.percentile(means_R, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)
