"""How sequences of unequal length are laid out in rows of a few static lengths.

A batch's sequences are sorted, longest first, and put into rows whose lengths fall like a staircase: row i is as
long as the i-th longest sequence of any batch. So shapes are static, one compile serves a whole run, and nearly
all arithmetic is on real items (at the papers' length 200, over 95 % of a padded batch is padding).

The staircase must not depend on the seed (or a seed in a group would see other random numbers than alone). It is
therefore measured on a fixed set of simulated epochs, and a real epoch's order is drawn again in the rare case that
one of its batches does not fit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from llmesr_jax.errors import InputError

_PLAN_SEED = 20241209  # fixed: a plan depends on data and sizes only
_TRIES = 1000


class Stairs(NamedTuple):
    """Lengths t_1 < ... < t_G a row may have, and for each the most rows of a batch longer than the length before."""

    lengths: tuple[int, ...]
    at_least: tuple[int, ...]  # at_least[k]: rows of length >= lengths[k]; at_least[0] = R

    @property
    def groups(self) -> tuple[tuple[int, int], ...]:
        """((rows, length), ...), longest first, as `Sequences.groups` wants it."""
        rows = np.diff(np.array([*self.at_least, 0])) * -1
        return tuple((int(n), length) for n, length in zip(rows[::-1], self.lengths[::-1]) if n > 0)


def padded(rows: int, length: int) -> Stairs:
    """Every row of the same length: the layout of the preset `release`."""
    return Stairs((length,), (rows,))


def best_lengths(lengths: np.ndarray, buckets: int) -> tuple[int, ...]:
    """At most `buckets` row lengths that minimise the padding of sequences with these lengths.

    Dynamic programming over the histogram: cost(a, b) = b * #{a < length <= b}.

    Args:
      lengths: int (n,), at least one; zeros count as ones (an empty sequence still has a row).
    Returns: ascending lengths; the last is the longest.
    """
    count = np.bincount(np.maximum(lengths, 1))
    below = np.cumsum(count)
    top = len(count) - 1
    size = np.arange(top + 1)
    best = np.where(size > 0, size * below, 0).astype(float)  # one bucket for everything up to size
    choice = [np.zeros(top + 1, int)]
    for _ in range(buckets - 1):
        cost = best[:, None] + size[None, :] * (below[None, :] - below[:, None])
        cost[size[:, None] >= size[None, :]] = np.inf
        cost[0] = size * below  # starting afresh: fewer buckets than allowed
        choice.append(np.argmin(cost, axis=0))
        best = np.min(cost, axis=0)
    lengths_out, at = [], top
    for previous in reversed(choice):
        if at == 0:
            break
        lengths_out.append(at)
        at = int(previous[at])
    return tuple(int(x) for x in sorted(lengths_out))


def exceedances(lengths_NxM: np.ndarray, steps: tuple[int, ...]) -> np.ndarray:
    """For each of N samples, how many of its M sequences are longer than each step but the last: int32 (N, G - 1)."""
    return np.stack([(lengths_NxM > step).sum(axis=1) for step in steps[:-1]], axis=1, dtype=np.int32) if len(
        steps
    ) > 1 else np.zeros((len(lengths_NxM), 0), np.int32)


def most_in_a_batch(counts_NxG: np.ndarray, order_SxB: np.ndarray) -> np.ndarray:
    """The largest sum over a batch of `order` (-1 = nobody) for each column of counts: int (G,)."""
    picked = counts_NxG[np.maximum(order_SxB, 0)] * (order_SxB >= 0)[..., None]
    return picked.sum(axis=1).max(axis=0)


def shuffled(rng: np.random.Generator, samples: int, batch_size: int) -> np.ndarray:
    """A random order of all samples as int32 (steps, batch_size), the last batch filled with -1."""
    steps = -(-samples // batch_size)
    order = np.full(steps * batch_size, -1, np.int32)
    order[:samples] = rng.permutation(samples)
    return order.reshape(steps, batch_size)


def plan(lengths_NxM: np.ndarray, batch_size: int, buckets: int) -> Stairs:
    """A staircase that fits the batches of nearly every epoch.

    Args:
      lengths_NxM: int, lengths of the M sequences that each of N samples brings into its batch.
      batch_size: samples in a batch.
      buckets: number of different row lengths.
    """
    samples, per_sample = lengths_NxM.shape
    steps = best_lengths(lengths_NxM.ravel(), buckets)
    counts = exceedances(lengths_NxM, steps)
    rng = np.random.default_rng(_PLAN_SEED)
    epochs = int(np.clip(20_000_000 // max(samples, 1), 16, 256))
    most = np.zeros(counts.shape[1], np.int64)
    for _ in range(epochs):
        most = np.maximum(most, most_in_a_batch(counts, shuffled(rng, samples, batch_size)))
    return Stairs(steps, (batch_size * per_sample, *(int(x) for x in most)))


def draw_order(
    seed: int, epoch: int, samples: int, batch_size: int, fits: list[tuple[np.ndarray, Stairs]]
) -> np.ndarray:
    """The order of one epoch, int32 (steps, batch_size): a function of seed and epoch alone.

    Args:
      fits: for each bag of sequences of the batch, its `exceedances` and its staircase.
    Raises:
      InputError: no order fits, which needs data unlike those the plan was made from.
    """
    for attempt in range(_TRIES):
        order = shuffled(np.random.default_rng([seed, epoch, attempt]), samples, batch_size)
        if all((most_in_a_batch(counts, order) <= np.array(stairs.at_least[1:])).all() for counts, stairs in fits):
            return order
    raise InputError(f"no order of epoch {epoch} fits the planned rows in {_TRIES} tries; use --config.data.layout=padded")


def deal(lengths_N: np.ndarray, rows: int) -> tuple[np.ndarray, tuple[tuple[int, int], ...]]:
    """Splits all samples into batches of equal static shape, for evaluation.

    Samples are sorted, longest first, and dealt like cards, so every batch has nearly the same lengths.

    Returns: int32 (batches, rows) sample numbers, -1 = nobody, longest first; and the row groups.
    """
    batches = max(1, -(-len(lengths_N) // rows))
    rows = -(-len(lengths_N) // batches)
    order = np.full(batches * rows, -1, np.int32)
    order[: len(lengths_N)] = np.argsort(-lengths_N, kind="stable")
    hands = np.ascontiguousarray(order.reshape(rows, batches).T)
    longest = np.maximum(lengths_N[np.maximum(hands[0], 0)], 1)  # the first hand holds the longest of every round
    steps = best_lengths(longest, 8)
    at_least = [rows] + [int((longest > step).sum()) for step in steps[:-1]]
    return hands, Stairs(steps, tuple(at_least)).groups
