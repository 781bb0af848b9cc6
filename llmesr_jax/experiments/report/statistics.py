"""Two-sided tests of one system against another, corrected for the number of tests, and intervals by bootstrap.

There are two questions with two tests. Over seeds: would training from other seeds also be ahead, for these users? Over
users: are these trained models ahead for other users like these? Neither test answers the other question.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

_BLOCK = 4 << 20  # draws in memory at a time
_DECIMALS = 12  # sums over the same seeds in another order agree to more decimals


class Test(NamedTuple):
    """The result of a test.

    Attributes:
      name: of the test.
      statistic, p: NaN if the numbers do not allow the test.
      count: number of pairs, or the size of the smaller group.
    """

    name: str
    statistic: float
    p: float
    count: int


def over_seeds(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Test | None:
    """Student's paired t-test if both have the same seeds, else Welch's t-test; two-sided.

    Args:
      ours, theirs: {seed: metric}.
    Returns: None if one of them has fewer than two seeds.
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

    Wilcoxon's test leaves out users whose difference is zero, up to rounding, and its p is by the normal approximation.
    With fewer than 10 other users there is no p (NaN), or 1 if no user has a difference.

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
    """Student's paired t-test. If the difference is the same for all pairs, p is 1 for no difference, else NaN."""
    difference = ours_n - theirs_n
    if len(difference) < 2 or np.ptp(difference) <= 1e-12 * np.abs(difference).max(initial=0):
        return Test(name, np.nan, 1.0 if len(difference) and not np.any(difference) else np.nan, len(difference))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nearly identical differences
        found = stats.ttest_rel(ours_n, theirs_n)
    return Test(name, float(found.statistic), float(found.pvalue), len(difference))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the k-th smallest of m values is multiplied by m - k + 1, and values never decrease.

    A NaN is not a test: it stays NaN and does not count among the m.
    """
    p = np.asarray(p_values, float)
    order = [i for i in np.argsort(p, kind="stable") if not np.isnan(p[i])]
    corrected, largest = np.full(len(p), np.nan), 0.0
    for k, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - k) * p[i]))
        corrected[i] = largest
    return corrected.tolist()


def by_user(values_MxN: np.ndarray, users_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64 (M, U): sums over the targets of each user, in order of user; float64 (U,): numbers of targets."""
    order = np.argsort(users_N, kind="stable")
    _, first, counts = np.unique(users_N[order], return_index=True, return_counts=True)
    if len(first) == len(users_N):  # one target per user: the order does not matter
        return values_MxN, np.ones(len(users_N))
    return np.add.reduceat(values_MxN[:, order], first, axis=1), counts.astype(np.float64)


def bootstrap_means(values_MxN: np.ndarray, users_N: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """float64 (M, resamples): means of M variables over N targets, with users drawn with replacement.

    The draws are the same for all M variables. A drawn user brings all targets, so users with many targets have more
    weight, as in the mean itself. With one target per user, the draws are those of `scipy.stats.bootstrap` with
    `rng=np.random.default_rng(seed)`.

    Args:
      values_MxN: float, a row per variable.
      users_N: the user of each target.
      resamples: number of draws.
      seed: of the draws.
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
