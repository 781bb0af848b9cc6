"""Lays out sequences of unequal length in rows of a few static lengths.

A batch's sequences are sorted, longest first, and put into rows of descending lengths. The row lengths are the same for
all batches: most batches fit as they are drawn, and a batch with too many long sequences swaps a few samples with other
batches of its epoch. So shapes are static, a run compiles once, and nearly all arithmetic is on real items (at the
papers' length 200, over 95 % of a padded batch is padding).

The row lengths do not depend on the seed, because the seeds of a group share one program: they are planned from a fixed
set of simulated epochs.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.streams import stream
from llmesr_jax.models import packing
from llmesr_jax.models.types import Array, Sequences

_PLAN_SEED = 20241209  # fixed: a plan depends on data and sizes only
_TRIES = 1000  # orders that are drawn for one epoch
_SWAPS = 1000  # swaps that are tried for one batch
_OFFERS = 64  # partners that are compared for one swap


class RowPlan(NamedTuple):
    """The rows of a batch: G lengths, and how many rows are at least as long as each.

    Attributes:
      lengths: ascending.
      at_least: at_least[k] is the number of rows of length >= lengths[k]; at_least[0] = R, all rows.
      bin_widths: as of `Sequences`.
    """

    lengths: tuple[int, ...]
    at_least: tuple[int, ...]
    bin_widths: tuple[int, ...] = ()

    @property
    def buckets(self) -> tuple[tuple[int, int], ...]:
        """((rows, length), ...), longest first, in the form of `Sequences.buckets`."""
        rows = np.diff(np.array([*self.at_least, 0])) * -1
        return tuple((int(n), length) for n, length in zip(rows[::-1], self.lengths[::-1]) if n > 0)

    @property
    def slots(self) -> int:
        """T, the number of slots of a batch."""
        return len(packing.places(self.buckets, self.bin_widths).row_T)

    def packed(self) -> RowPlan:
        """The same rows, packed into bins of one width."""
        return self._replace(bin_widths=(packing.bin_width(self.buckets),))


def padded(rows: int, length: int) -> RowPlan:
    """Every row of the same length: the layout of the preset `release`."""
    return RowPlan((length,), (rows,))


def best_lengths(lengths: np.ndarray, buckets: int) -> tuple[int, ...]:
    """At most `buckets` row lengths that minimise the padding of sequences with these lengths.

    Dynamic programming over the histogram: cost(a, b) = b * #{a < length <= b}.

    Args:
      lengths: int (n,), at least one; zeros count as ones (an empty sequence still has a row).
      buckets: maximum number of lengths.
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
        cost[0] = size * below  # this bucket is the first one: fewer buckets than allowed
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
    return (
        np.stack([(lengths_NxM > step).sum(axis=1) for step in steps[:-1]], axis=1, dtype=np.int32)
        if len(steps) > 1
        else np.zeros((len(lengths_NxM), 0), np.int32)
    )


def loads(counts_NxG: np.ndarray, order_SxB: np.ndarray) -> np.ndarray:
    """For each batch of an order (-1 = no sample), the sum of its samples' counts: int (S, G)."""
    return (counts_NxG[np.maximum(order_SxB, 0)] * (order_SxB >= 0)[..., None]).sum(axis=1)


def shuffled(rng: np.random.Generator, samples: int, batch_size: int) -> np.ndarray:
    """A random order of all samples as int32 (steps, batch_size), the last batch filled with -1."""
    steps = -(-samples // batch_size)
    order = np.full(steps * batch_size, -1, np.int32)
    order[:samples] = rng.permutation(samples)
    return order.reshape(steps, batch_size)


def fitted(rng: np.random.Generator, order_SxB: np.ndarray, counts_NxG: np.ndarray, most_G: np.ndarray) -> bool:
    """Makes an order fit, in place: a batch with too many long sequences swaps samples with batches that have room.

    Args:
      rng: chooses the swaps.
      order_SxB: int32 samples of each of S batches, -1 = no sample.
      counts_NxG: as of `exceedances`, of each sample.
      most_G: the maximum of the sum of these counts over a batch.
    Returns: whether it fits now.
    """
    load_SxG = loads(counts_NxG, order_SxB)
    steps, batch_size = order_SxB.shape
    for b in np.flatnonzero((load_SxG > most_G).any(axis=1)):
        for _ in range(_SWAPS):
            excess_G = np.maximum(load_SxG[b] - most_G, 0)
            if not excess_G.any():
                break
            gives_B = (order_SxB[b] >= 0) & (counts_NxG[order_SxB[b]][:, excess_G > 0].sum(axis=1) > 0)
            mine = rng.choice(np.flatnonzero(gives_B))
            others, places = rng.integers(0, steps, _OFFERS), rng.integers(0, batch_size, _OFFERS)
            theirs = order_SxB[others, places]
            change_OxG = counts_NxG[order_SxB[b, mine]] - counts_NxG[theirs]
            less = np.maximum(load_SxG[b] - change_OxG - most_G, 0).sum(axis=1) < excess_G.sum()
            room = (load_SxG[others] + change_OxG <= most_G).all(axis=1)
            good = np.flatnonzero(less & room & (others != b) & (theirs >= 0))
            if len(good):
                o = good[0]
                order_SxB[b, mine], order_SxB[others[o], places[o]] = theirs[o], order_SxB[b, mine]
                load_SxG[b] -= change_OxG[o]
                load_SxG[others[o]] += change_OxG[o]
        else:
            return False
    return True


def plan(bags: list[np.ndarray], batch_size: int, buckets: int) -> list[RowPlan]:
    """Plans the rows of each bag, so that nearly every batch fits as it is drawn, and every batch after a few swaps.

    Args:
      bags: int (N, M) each: the lengths of the M sequences that each of N samples brings into its batch.
      batch_size: samples in a batch.
      buckets: number of different row lengths.
    """
    steps = [best_lengths(bag.ravel(), buckets) for bag in bags]
    counts = [exceedances(bag, lengths) for bag, lengths in zip(bags, steps)]
    counts_NxG = np.concatenate(counts, axis=1)
    samples = len(counts_NxG)
    rng = np.random.default_rng(_PLAN_SEED)
    epochs = int(np.clip(5_000_000 // samples, 4, 64))
    drawn = np.concatenate([loads(counts_NxG, shuffled(rng, samples, batch_size)) for _ in range(epochs)])
    for share in (0.7, 0.8, 0.9, 0.97, 1.0):
        most_G = np.quantile(drawn, share, axis=0, method="higher").astype(np.int64)
        if all(fitted(rng, shuffled(rng, samples, batch_size), counts_NxG, most_G) for _ in range(4)):
            break
    ends = np.cumsum([c.shape[1] for c in counts])[:-1]
    return [
        RowPlan(lengths, (batch_size * bag.shape[1], *(int(x) for x in most)))
        for bag, lengths, most in zip(bags, steps, np.split(most_G, ends))
    ]


def draw_order(seed: int, epoch: int, batch_size: int, counts_NxG: np.ndarray, most_G: np.ndarray) -> np.ndarray:
    """The order of one epoch, int32 (steps, batch_size) samples, -1 = none: depends on seed and epoch alone.

    Args:
      counts_NxG, most_G: the `exceedances` of all bags side by side, and the maximum of their sum over a batch.
    Raises:
      InputError: no order fits, which happens only if the data differ from those that the plan was made from.
    """
    for attempt in range(_TRIES):
        rng = stream("order", seed, epoch, attempt)
        order = shuffled(rng, len(counts_NxG), batch_size)
        if fitted(rng, order, counts_NxG, most_G):
            return order
    raise InputError(
        f"no order of epoch {epoch} fits the planned rows after {_TRIES} tries; use --config.data.layout=padded"
    )


def in_batches(lengths_N: np.ndarray, rows: int, others_N: np.ndarray | None = None) -> tuple[np.ndarray, RowPlan]:
    """Splits all samples into batches of equal static shape, for evaluation.

    Samples are sorted, longest first, and go to the batches in turn, so all batches have nearly the same lengths.

    Args:
      lengths_N: int, of each sample.
      rows: maximum number of rows of a batch.
      others_N: lengths of as many other samples, which must fit into the same rows.
    Returns: int32 (batches, rows) sample numbers, longest first, -1 = none; and the rows of each batch.
    """
    batches = max(1, -(-len(lengths_N) // rows))
    rows = -(-len(lengths_N) // batches)
    order = np.full(batches * rows, -1, np.int32)
    order[: len(lengths_N)] = np.argsort(-lengths_N, kind="stable")
    batches_NxR = np.ascontiguousarray(order.reshape(rows, batches).T)
    # In every round, the first batch gets the longest sample.
    firsts = [-np.sort(-x)[::batches] for x in ((lengths_N,) if others_N is None else (lengths_N, others_N))]
    longest = np.maximum(np.max(firsts, axis=0), 1)
    steps = best_lengths(longest, 8)
    at_least = [rows] + [int((longest > step).sum()) for step in steps[:-1]]
    return batches_NxR, RowPlan(steps, tuple(at_least))


def lay_out(
    items_n: Array,
    end_R: Array,
    length_R: Array,
    buckets: tuple[tuple[int, int], ...],
    left_padded: bool,
    max_len: int,
    place_R: Array | None = None,
    user_R: Array | None = None,
    bin_widths: tuple[int, ...] = (),
) -> tuple[Sequences, Array]:
    """Puts items_n[end - length : end] of each row into its slots.

    Args:
      items_n: int32 item ids.
      end_R, length_R: int32 (R,), of rows in the order of `buckets`; a length is at most its row's.
      buckets: ((rows, length), ...), longest first, as of `RowPlan`.
      left_padded: padding before the items instead of after; not with `bin_widths`.
      max_len: the length that a padded row would have.
      place_R, user_R, bin_widths: places in the batch, rows of users, and how rows are packed, see `Sequences`.
    Returns: the sequences, and int32 (T,) the index into items_n of each slot (meaningless in empty slots).
    """
    _, row_T, first_R, width_R, *_ = packing.places(buckets, bin_widths)
    column_T = np.arange(len(row_T), dtype=np.int32) - first_R[row_T]
    offset_R = jnp.asarray(width_R) - length_R if left_padded else jnp.zeros_like(length_R)
    place_T = column_T - offset_R[row_T]
    valid_T = (place_T >= 0) & (place_T < length_R[row_T])
    index_T = (end_R - length_R)[row_T] + place_T
    items_T = jnp.where(valid_T, jnp.take(items_n, index_T, mode="clip"), 0)
    last_R = first_R + (width_R - 1 if left_padded else jnp.maximum(length_R - 1, 0))
    left_out_R = None if left_padded else max_len - length_R
    positions_T = jnp.where(valid_T, place_T + 1, 0)
    last_R = jnp.asarray(last_R)
    found = Sequences(items_T, positions_T, last_R, buckets, left_out_R, place_R, not left_padded, user_R, bin_widths)
    return found, index_T
