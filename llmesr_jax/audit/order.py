"""Whether the order of a user's items comes from time or from the items' ids.

Three things can make ids ascend along a sequence, and they look different:

- *Chance.* Without any relation, ids ascend in half of the neighbours.
- *Time.* New items get higher ids, so ids ascend more often than not. But time hardly orders two items with close ids:
  the share of ascents rises from one half, at close ids, to its highest value at distant ones.
- *Sorting.* A file that is sorted by id, whole or within a day, orders items with close ids as strictly as others: the
  share jumps from below one half to above it where the ids' difference changes its sign.

`evidence` looks for that jump. Where times exist they decide, and only equal times leave the order to the file: there,
ids ascend in half of the neighbours unless something sorted them (`within_ties`).

All functions are pure. Sequences are flat: `x_n` has a number for each interaction (the rank of its item's id),
`user_n` its user's row; the interactions of a user are neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Z = 4.0  # standard deviations from which a deviation is not called chance, which reaches them once in 16,000 data sets
RELEVANT = 0.05  # share of neighbours, targets or items from which results may change visibly
_CLOSE = 1000  # pairs that the smallest window of distances should contain
_AGREEMENTS = 100  # item pairs that must agree: then fewer than 3 % of such pairs contradict, with 95 % confidence


class Share(NamedTuple):
    """How often ids ascend.

    Attributes:
      pairs: neighbours with different ids.
      ascending: those in which the second id is the higher one.
      share: their share; None without pairs.
      z: standard deviations from one half, if all orders of a user's (or a tie's) items were equally likely.
    """

    pairs: int
    ascending: int
    share: float | None
    z: float | None


class Evidence(NamedTuple):
    """Evidence that sequences are sorted by id.

    Attributes:
      kind: "always" (no pair goes the other way) or "close" (close ids are in order, which time cannot explain).
      direction: "ascend" or "descend".
      close_pairs, close_share: number of neighbours with the closest ids, and the share of them in that direction.
      far_share: the share in that direction among the half with the most distant ids.
      z: standard deviations of the test that shows it.
    """

    kind: str
    direction: str
    close_pairs: int
    close_share: float
    far_share: float
    z: float


class Agreement(NamedTuple):
    """Item pairs that several users met next to each other.

    Attributes:
      pairs: their number.
      agreeing: number of those that all of their users met in the same order.
      repeats: number of users beyond the first, over all pairs; a pair with r of them agrees by chance with probability
        2**-r.
    """

    pairs: int
    agreeing: int
    repeats: int

    @property
    def sorted(self) -> bool:
        """Whether all pairs agree, and there are enough of them to call that sorted."""
        return self.agreeing == self.pairs and self.repeats >= _AGREEMENTS


def ranks(raw_ids: Sequence[str]) -> tuple[np.ndarray, bool]:
    """int32 (V,), the rank of each id among all; and whether all are numbers, which are then compared as numbers."""
    numeric = all(raw.isdecimal() and len(raw) < 19 for raw in raw_ids)
    array = np.array([int(raw) for raw in raw_ids], np.int64) if numeric else np.array(raw_ids)
    return np.unique(array, return_inverse=True)[1].astype(np.int32).reshape(-1), numeric


def first_meetings(items_n: np.ndarray, num_items: int) -> np.ndarray:
    """bool (n,): where an item appears for the first time, reading users one after another."""
    first_V = np.full(num_items, len(items_n), np.int64)
    first_V[items_n[::-1] - 1] = np.arange(len(items_n))[::-1]  # the last assignment counts
    found = np.zeros(len(items_n), bool)
    found[first_V[first_V < len(items_n)]] = True
    return found


def numbered_by_appearance(x_n: np.ndarray, first_n: np.ndarray) -> bool:
    """Whether ids were assigned in the order of first appearance: then they ascend there by construction."""
    return bool((np.diff(x_n[first_n]) > 0).all())


def steps(x_n: np.ndarray, user_n: np.ndarray, lag: int = 1) -> np.ndarray:
    """int (m,): differences between ids `lag` places apart in a sequence, without zeros."""
    step = x_n[lag:] - x_n[:-lag]
    return step[(user_n[lag:] == user_n[:-lag]) & (step != 0)]


def neighbours(x_n: np.ndarray, user_n: np.ndarray) -> Share:
    """How often ids ascend between neighbours in a sequence; equal ids are left out."""
    step = x_n[1:] - x_n[:-1]
    counted = (user_n[1:] == user_n[:-1]) & (step != 0)
    pairs_U = np.bincount(user_n[1:][counted])
    return _share(int((step[counted] > 0).sum()), pairs_U)


def within_ties(x_n: np.ndarray, run_n: np.ndarray) -> Share:
    """How often ids ascend between neighbours with the same user and time.

    Args:
      x_n: ids, all different within a run.
      run_n: int (n,) ascending; entries of one run have the same user and time.
    """
    same = run_n[1:] == run_n[:-1]
    ascending = int(((x_n[1:] > x_n[:-1]) & same).sum())
    return _share(ascending, np.bincount(run_n[1:][same] - run_n[0]) if same.any() else np.zeros(0, np.int64))


def _share(ascending: int, pairs_R: np.ndarray) -> Share:
    """The share of ascents, and its z: in a random order of m + 1 ids, they have mean m / 2 and variance (m + 2) / 12.

    Args:
      pairs_R: number m of pairs in each run or sequence.
    """
    pairs_R = pairs_R[pairs_R > 0]
    pairs = int(pairs_R.sum())
    if not pairs:
        return Share(0, 0, None, None)
    z = (ascending - pairs / 2) / math.sqrt((pairs + 2 * len(pairs_R)) / 12)
    return Share(pairs, ascending, ascending / pairs, z)


def by_distance(step_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int64 (D,) numbers of ascents, and (D,) of descents, by the distance between the two ids, from 0."""
    size = int(np.abs(step_m).max(initial=0)) + 1
    up, down = step_m[step_m > 0], -step_m[step_m < 0]
    return np.bincount(up, minlength=size), np.bincount(down, minlength=size)


def evidence(share: Share, up_D: np.ndarray, down_D: np.ndarray) -> Evidence | None:
    """Evidence that sequences are sorted by id rather than by time; None if there is none.

    Args:
      share: as of `neighbours`.
      up_D, down_D: as of `by_distance`.

    It is evidence if no neighbour goes the other way, or if close ids are in order as well, by one of two tests:

    - The pairs that go the other way are farther apart than the rest (rank-sum test). With time they are closer.
    - In the logistic regression of the direction on the distance, the constant is not zero (likelihood ratio), in
      every window of distances from the closest pairs up to half of all. With time it is zero at close ids.

    Pairs of distance 1 are left out of both tests: numbering by first appearance, in any order of users, makes many of
    them, and so do series that are numbered in order.
    """
    if not share.pairs or abs(share.z) < Z:
        return None
    direction = "ascend" if share.z > 0 else "descend"
    most_D, least_D = (up_D, down_D) if share.z > 0 else (down_D, up_D)
    if not least_D.any():
        return Evidence("always", direction, share.pairs, 1.0, 1.0, abs(share.z))
    most_D, least_D = most_D[2:].astype(np.float64), least_D[2:].astype(np.float64)
    all_D = most_D + least_D
    pairs = all_D.sum()
    if not pairs or 2 * most_D.sum() / pairs - 1 < RELEVANT:
        return None
    z = max(_farther(most_D, least_D), _jump(most_D, all_D))
    if z < Z:
        return None
    below_D = np.cumsum(all_D)
    close, half = (int(np.searchsorted(below_D, count)) + 1 for count in (_smallest(pairs), pairs / 2))
    far = most_D[half:].sum() / max(all_D[half:].sum(), 1)
    near = most_D[:close].sum() / all_D[:close].sum()
    return Evidence("close", direction, int(all_D[:close].sum()), float(near), float(far), float(z))


def _smallest(pairs: float) -> float:
    """Pairs in the smallest window."""
    return min(_CLOSE, pairs / 10)


def _farther(most_D: np.ndarray, least_D: np.ndarray) -> float:
    """z of the rank-sum test that the distances of `least_D` are the greater ones."""
    a, b, tied_D = most_D.sum(), least_D.sum(), most_D + least_D
    if not a or not b:
        return 0.0
    wins = (least_D * (np.cumsum(most_D) - most_D / 2)).sum()
    n = a + b
    variance = a * b / 12 * (n + 1 - (tied_D**3 - tied_D).sum() / (n * (n - 1)))
    return float((wins - a * b / 2) / math.sqrt(variance)) if variance > 0 else 0.0


def _jump(most_D: np.ndarray, all_D: np.ndarray) -> float:
    """The lowest z, over windows, of a jump at distance zero; 0 if there are too few different distances."""
    place_K = np.flatnonzero(all_D)
    below_K = np.cumsum(all_D[place_K])
    pairs, size, found = below_K[-1], _smallest(below_K[-1]), []
    while True:
        count = max(int(np.searchsorted(below_K, size)) + 1, 2)
        if not found and (count > len(place_K) or below_K[count - 1] > max(pairs / 10, _CLOSE)):
            return 0.0
        at = place_K[:count]
        found.append(_constant_z(at + 2.0, most_D[at], all_D[at]))
        if size >= pairs / 2:
            return min(found)
        size *= 2


def _constant_z(distance_K: np.ndarray, most_K: np.ndarray, all_K: np.ndarray) -> float:
    """Signed root of the likelihood-ratio statistic of logit = b0 + b1 distance against logit = b1 distance."""
    scaled = distance_K / distance_K[-1]
    with_, b = _fit(np.stack([np.ones_like(scaled), scaled], axis=1), most_K, all_K)
    without, _ = _fit(scaled[:, None], most_K, all_K)
    return math.copysign(math.sqrt(max(0.0, 2 * (with_ - without))), b[0])


def _fit(features_KxF: np.ndarray, most_K: np.ndarray, all_K: np.ndarray) -> tuple[float, np.ndarray]:
    """Log likelihood and coefficients of a logistic regression, by Newton's method; steps that overshoot are halved."""

    def likelihood(b):
        logit = features_KxF @ b
        return float((most_K * logit - all_K * np.logaddexp(0, logit)).sum())

    b = np.zeros(features_KxF.shape[1])
    best = likelihood(b)
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(features_KxF @ b, -500, 500)))
        slope = features_KxF.T @ (most_K - all_K * p)
        curvature = (features_KxF * (all_K * p * (1 - p))[:, None]).T @ features_KxF
        step = np.linalg.solve(curvature + 1e-6 * np.eye(len(b)), slope)
        while (new := likelihood(b + step)) < best and np.abs(step).max() > 1e-9:
            step = step / 2
        if new - best < 1e-6:
            break
        b, best = b + step, new
    return best, b


def agreement(items_n: np.ndarray, user_n: np.ndarray) -> Agreement:
    """Counts item pairs that several users met next to each other, and those that all met in the same order.

    Ids do not matter, and a user counts once for each pair.
    """
    first, second = items_n[:-1].astype(np.int64), items_n[1:].astype(np.int64)
    counted = (user_n[1:] == user_n[:-1]) & (first != second)
    first, second, who = first[counted], second[counted], user_n[1:][counted]
    key = np.minimum(first, second) * (int(items_n.max(initial=0)) + 1) + np.maximum(first, second)
    order = np.argsort(key, kind="stable")
    key, up, who = key[order], (second > first)[order], who[order]
    fresh = np.ones(len(key), bool)
    fresh[1:] = (key[1:] != key[:-1]) | (who[1:] != who[:-1])
    key, up = key[fresh], up[fresh]
    if not len(key):
        return Agreement(0, 0, 0)
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    met, ups = np.diff(np.append(starts, len(key))), np.add.reduceat(up.astype(np.int64), starts)
    several = met > 1
    agreeing = several & ((ups == 0) | (ups == met))
    return Agreement(int(several.sum()), int(agreeing.sum()), int((met[several] - 1).sum()))
