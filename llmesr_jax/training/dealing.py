"""Distributes a batch over the devices of a mesh: each gets every N-th sequence by length, so all have equal work.

A batch is made in the same way on every mesh; this module only moves its rows and slots. Random numbers depend on
places in the batch and positions, so they do not change. Of N rows that are neighbours in the order of length, each
device gets one, and all N are padded to the width of the longest.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from llmesr_jax.models.kernels.split_rows import dealt
from llmesr_jax.models.types import Array, Batch, Sequences


class Moves(NamedTuple):
    """How rows and slots are moved to N parts; known before anything is compiled.

    Attributes:
      row_R: int32, for each new row the row that moves there.
      slot_T: int32, for each new slot the slot that moves there; -1 for an additional empty slot.
      buckets: of the new sequences: those of one part, N times.
      shards: N.
    """

    row_R: np.ndarray
    slot_T: np.ndarray
    buckets: tuple[tuple[int, int], ...]
    shards: int

    @classmethod
    def of(cls, buckets: tuple[tuple[int, int], ...], shards: int) -> Moves:
        """The moves of rows in order of width, widest first.

        Raises:
          ValueError: the number of rows is not a multiple of `shards`, or they are in another order.
        """
        width_R = np.array([width for rows, width in buckets for _ in range(rows)], np.int32)
        each, more = divmod(len(width_R), shards)
        if more or (np.diff(width_R) > 0).any():
            raise ValueError(
                f"rows {buckets} cannot be divided into {shards} parts; expected a multiple of {shards}, widest first"
            )
        first_R = np.cumsum(width_R, dtype=np.int32) - width_R
        row_R = np.arange(len(width_R), dtype=np.int32).reshape(each, shards).T.reshape(-1)
        widest_E = width_R[::shards]
        column = [np.arange(width, dtype=np.int32) for width in np.tile(widest_E, shards)]
        slots = [np.where(c < width_R[row], first_R[row] + c, -1) for c, row in zip(column, row_R)]
        widths, counts = np.unique(widest_E, return_counts=True)
        one = tuple((int(count), int(width)) for count, width in zip(counts[::-1], widths[::-1]))
        return cls(row_R, np.concatenate(slots).astype(np.int32), one * shards, shards)

    def rows(self, x: Array) -> Array:
        """(R, ...) in the order of the new rows."""
        return dealt(jnp.take(x, self.row_R, axis=0, mode="clip"))

    def slots(self, x: Array) -> Array:
        """(T, ...) in the order of the new slots, zeros in additional ones."""
        is_one = (self.slot_T >= 0).reshape(-1, *[1] * (x.ndim - 1))
        taken = jnp.take(x, np.maximum(self.slot_T, 0), axis=0, mode="clip")
        return dealt(jnp.where(is_one, taken, jnp.zeros((), x.dtype)))


def deal(batch: Batch, shards: int) -> Batch:
    """The batch with its students and teachers distributed over so many parts; what a method adds is not moved.

    Args:
      batch: with rows in order of length, longest first.
      shards: a divisor of the number of students.
    """
    moves = Moves.of(batch.students.buckets, shards)
    changed: dict[str, Any] = {"students": _sequences(batch.students, moves), "distils_B": moves.rows(batch.distils_B)}
    changed |= {name: moves.slots(getattr(batch, name)) for name in ("targets_T", "negatives_TxK")}
    if batch.users_B is not None:
        changed["users_B"] = moves.rows(batch.users_B)
    if batch.log_q is not None and batch.shared_K is None:
        changed["log_q"] = moves.slots(batch.log_q)
    if batch.teachers is not None:
        taught = _sequences(batch.teachers, Moves.of(batch.teachers.buckets, shards))
        changed["teachers"] = taught
        changed["teacher_rows_BxN"] = moves.rows(taught.row_at(batch.teacher_rows_BxN))
    return batch.replace(**changed)


def _sequences(bag: Sequences, moves: Moves) -> Sequences:
    """The bag with its rows and slots moved."""
    if not bag.items_first and len({width for _, width in bag.buckets}) > 1:
        raise ValueError(f"rows {bag.buckets} with items at their ends cannot be moved; expected rows of one width")
    first_R, dealt_first_R = _first_slots(bag.buckets), _first_slots(moves.buckets)
    last_R = jnp.take(bag.last_R, moves.row_R, mode="clip") + (dealt_first_R - first_R[moves.row_R])
    of_rows = {name: getattr(bag, name) for name in ("left_out_R", "user_R")} | {"place_R": bag.places_R}
    return Sequences(
        items_T=moves.slots(bag.items_T),
        positions_T=moves.slots(bag.positions_T),
        last_R=dealt(last_R),
        buckets=moves.buckets,
        items_first=bag.items_first,
        shards=moves.shards,
        **{name: None if x is None else moves.rows(x) for name, x in of_rows.items()},
    )


def _first_slots(buckets: tuple[tuple[int, int], ...]) -> np.ndarray:
    """int32 (R,): the first slot of each row."""
    width_R = np.array([width for rows, width in buckets for _ in range(rows)], np.int32)
    return np.cumsum(width_R, dtype=np.int32) - width_R
