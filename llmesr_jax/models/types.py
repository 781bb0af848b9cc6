"""The types that backbones, methods and batches are made of.

Shape legend, used as suffixes of names everywhere (`h_TxD` has shape (T, D)):

    B  students (users) in a batch        R  rows: sequences of a bag
    T  slots of a bag, all rows laid flat L  length of a row
    D  width of one view                  E  width of a score (users . items)
    F  width of the LLM embedding         K  sampled negatives per position
    N  similar users per student          S  seeds
    U  users (row u is user id u + 1)     V  items (ids 1..V; 0 is padding, V + 1 the mask token)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import flax.struct
import jax
import numpy as np

from llmesr_jax.core.axes import ITEM, Table
from llmesr_jax.core.errors import InputError
from llmesr_jax.models import packing

Array = jax.Array
Tables = dict[str, Array]
LANE_AXIS, DATA_AXIS = "lane", "data"  # the axes of a mesh of devices: seeds and runs, and parts of a batch


def wide(x: Array) -> Any:
    """The dtype for sums, softmax and losses over numbers of x's dtype: float32 at least."""
    return x.dtype if jax.numpy.finfo(x.dtype).bits >= 32 else jax.numpy.float32


def on_device(x: np.ndarray, dtype: Any) -> Array:
    """A copy of a host array on the device. `jnp.asarray` would compile a program for each shape."""
    return jax.device_put(np.array(x, dtype))


class Term(NamedTuple):
    """One named part of the loss. `loss_fn` adds `weight * value` over all terms, in one place."""

    value: Array  # ()
    weight: Array | float  # ()


class Sequences(flax.struct.PyTreeNode):
    """A bag of R sequences, laid out as rows of a few lengths and stored flat.

    `buckets` says how: `((rows, length), ...)`, longest first; slots are row after row, so T = sum(rows * length)
    and R = sum(rows). Everything that works position by position (dense layers, norms, feed-forward) runs on the
    flat (T, D) array; only layers that mix positions look at rows, through `split`. With `bin_widths` rows are packed:
    a bin holds several rows, `split` cuts into bins, and layers that mix positions must keep the rows of a bin apart.
    Only a backbone that declares this (`packs`) gets such sequences.

    Attributes:
      items_T: int32 item ids, 0 in empty slots.
      positions_T: int32 positions 1..n of the real items, 0 in empty slots.
      last_R: int32 slot of each row's newest item (any slot of the row if the row is empty).
      buckets: static layout, see above.
      left_out_R: int32, number of padded positions that rows of max_len would have and this layout leaves out. Only a
        backbone that attends to padding (`mask_padding=False`) uses it; None means 0 for all.
      place_R: int32, each row's place in the batch before rows were sorted, which its random numbers depend on; None if
        rows are in that order.
      items_first: static; each row's items are in its first slots. True saves work; False is always right.
      user_R: int32, the row of each row's user in tables over users, -1 where there is no user or it is not known; None
        if none is known.
      bin_widths: static; the widths of the bins that rows are packed into, see `packing`. () packs nothing.
      shards: static; number of equal parts, one per device, that the slots are cut into, one after the other
        (`training.dealing`). All have the same buckets, so `buckets` repeats those of one part. Several parts are
        never packed.
    """

    items_T: Array
    positions_T: Array
    last_R: Array
    buckets: tuple[tuple[int, int], ...] = flax.struct.field(pytree_node=False)
    left_out_R: Array | None = None
    place_R: Array | None = None
    items_first: bool = flax.struct.field(pytree_node=False, default=False)
    user_R: Array | None = None
    bin_widths: tuple[int, ...] = flax.struct.field(pytree_node=False, default=())
    shards: int = flax.struct.field(pytree_node=False, default=1)

    @property
    def places(self) -> packing.Places:
        """Where rows and slots are, as NumPy arrays."""
        return packing.places(self.buckets, self.bin_widths)

    @property
    def row_T(self) -> np.ndarray:
        """int32 (T,): the row of each slot. Slots of a bin that no row needs are empty and belong to its last row."""
        return self.places.row_T

    @property
    def groups(self) -> tuple[tuple[int, int], ...]:
        """((rows, length), ...) of the arrays that `split` returns: rows of one length in all parts, or packed bins."""
        if self.places.packed:
            return self.places.bins
        one = self.buckets[: len(self.buckets) // self.shards]
        return tuple((rows * self.shards, length) for rows, length in one)

    @property
    def order_R(self) -> Array:
        """int32 (R,): each row's place in order of length, longest first; a part has every `shards`-th row of it."""
        if self.shards == 1:
            return jax.numpy.arange(len(self.last_R), dtype=jax.numpy.int32)
        row_R = np.arange(len(self.last_R), dtype=np.int32)
        each = len(self.last_R) // self.shards
        return jax.numpy.asarray(row_R % each * self.shards + row_R // each)

    def row_at(self, order_n: Array) -> Array:
        """int32 (n,): the rows that have these places in `order_R`."""
        if self.shards == 1:
            return order_n
        return order_n % self.shards * (len(self.last_R) // self.shards) + order_n // self.shards

    @property
    def users_R(self) -> Array:
        """int32 (R,): the row of each row's user in tables over users, -1 where not known."""
        return jax.numpy.full(len(self.last_R), -1, jax.numpy.int32) if self.user_R is None else self.user_R

    @property
    def places_R(self) -> Array:
        """int32 (R,): each row's place in the batch."""
        return jax.numpy.arange(len(self.last_R), dtype=jax.numpy.int32) if self.place_R is None else self.place_R

    @property
    def places_T(self) -> Array:
        """int32 (T,): the place in the batch of each slot's row."""
        return jax.numpy.take(self.places_R, self.row_T, mode="clip")

    @property
    def newest_R(self) -> Array:
        """int32 (R,): the newest item's index in its sequence, from 0; -1 if the row is empty."""
        return jax.numpy.take(self.positions_T, self.last_R, mode="clip") - 1

    @property
    def index_T(self) -> Array:
        """int32 (T,): each slot's index in its sequence, from 0 for the oldest item on, in any layout.

        Empty slots are counted after the newest item: first those behind it, then those before the oldest item.
        """
        _, row_T, first_R, width_R, *_ = self.places
        column_T = np.arange(len(row_T), dtype=np.int32) - first_R[row_T]
        if self.items_first:
            return jax.numpy.asarray(column_T)
        oldest_R = self.last_R - first_R - self.newest_R
        return (column_T - oldest_R[row_T]) % width_R[row_T]

    @property
    def valid_T(self) -> Array:
        """bool (T,): slots that hold an item."""
        return self.items_T > 0

    @property
    def valid_R(self) -> Array:
        """bool (R,): rows that hold at least one item."""
        return self.items_T[self.last_R] > 0

    def split(self, x: Array, axis: int = -2) -> list[Array]:
        """Cuts (..., T, ...) at `axis` into one (..., rows, length, ...) array for each of `groups`."""
        axis %= x.ndim
        parts = self._cut(x, axis, [rows * length for rows, length in self.places.bins])
        return [
            part.reshape(*x.shape[:axis], rows, length, *x.shape[axis + 1 :])
            for part, (rows, length) in zip(parts, self.groups)
        ]

    def split_rows(self, x: Array, axis: int = -2) -> list[Array]:
        """Cuts (..., R, ...) at `axis` into one (..., rows, ...) array for each of `groups`; only without packing."""
        axis %= x.ndim
        parts = self._cut(x, axis, [rows for rows, _ in self.buckets])
        return [p.reshape(*x.shape[:axis], rows, *x.shape[axis + 1 :]) for p, (rows, _) in zip(parts, self.groups)]

    def join(self, parts: Sequence[Array], axis: int = -2) -> Array:
        """Inverse of `split`: (..., rows, length, ...) arrays back to (..., T, ...).

        `axis` is the axis of T in the result, negative.
        """
        return self.join_rows([_merged(part, axis - 1, part.ndim + axis) for part in parts], axis)

    def join_rows(self, parts: Sequence[Array], axis: int = -2) -> Array:
        """Inverse of `split_rows`: (..., rows, ...) arrays back to (..., R, ...); `axis` is negative."""
        if self.shards == 1:
            return jax.numpy.concatenate(parts, axis=axis)
        at = parts[0].ndim + axis
        apart = [p.reshape(*p.shape[:at], self.shards, -1, *p.shape[at + 1 :]) for p in parts]
        return _merged(jax.numpy.concatenate(apart, axis=at + 1), at, at + 1)

    def _cut(self, x: Array, axis: int, sizes: list[int]) -> list[Array]:
        """x cut at `axis` into the groups of one part, or with several into (..., shards, size, ...) arrays."""
        if self.shards > 1:
            x = x.reshape(*x.shape[:axis], self.shards, -1, *x.shape[axis + 1 :])
            axis, sizes = axis + 1, sizes[: len(sizes) // self.shards]
        # lax.split, not slices: the gradient of slices is a sum of arrays of the full size, one per group.
        return jax.lax.split(x, sizes, axis=axis)

    def split_by_bin(self, x: Array, axis: int = -2) -> list[Array]:
        """Cuts (..., R, ...) into one (..., bins, Q, ...) array per group: the rows of each bin, Q = 1 without packing.

        Where a bin has fewer than Q rows, the rest is filled with row 0.
        """
        axis %= x.ndim
        if not self.places.packed:
            return [jax.numpy.expand_dims(part, axis + 1) for part in self.split_rows(x, axis)]
        return [jax.numpy.take(x, rows, axis=axis, mode="clip") for rows in self.places.rows]

    def join_bins(self, parts: Sequence[Array]) -> Array:
        """Inverse of `split_by_bin`: (..., bins, Q, D) arrays back to (..., R, D)."""
        flat = self.join_rows([_merged(part, -3, -2) for part in parts])
        return jax.numpy.take(flat, self.places.place_R, axis=-2, mode="clip") if self.places.packed else flat


def _merged(x: Array, first: int, last: int) -> Array:
    """x with two neighbouring axes as one."""
    first, last = first % x.ndim, last % x.ndim
    return x.reshape(*x.shape[:first], -1, *x.shape[last + 1 :])


def join(parts: Sequence[Array], axis: int = -2) -> Array:
    """`Sequences.join`, for sequences on one device (`Sequences.shards` is 1).

    Raises:
      InputError: it is traced for several devices, where only `Sequences.join` knows how parts are joined.
    """
    if jax.sharding.get_abstract_mesh().shape.get(DATA_AXIS, 1) > 1:
        raise InputError(
            "`join(parts)` does not know how a batch is split over devices; expected `sequences.join(parts)`; call that"
        )
    return jax.numpy.concatenate([_merged(part, axis - 1, part.ndim + axis) for part in parts], axis=axis)


def from_rows(items_RxL: Array, like: Sequences, max_len: int, user_R: Array | None = None) -> Sequences:
    """Sequences that a method makes on the device, in the layout of `like`.

    Args:
      items_RxL: int32 items of each sequence in its first columns, oldest first, then zeros.
      like: the students of the batch. If their items are at the end of rows of one length, these are too.
      max_len: the longest sequence (`Sizes.max_len`), at least L.
      user_R: as in `Sequences`.
    """
    jnp = jax.numpy
    rows, length = items_RxL.shape
    count_R = jnp.sum(items_RxL > 0, axis=1, dtype=jnp.int32)
    if like.items_first:
        width, before_R = length, jnp.zeros_like(count_R)
    else:
        width, before_R = max_len, max_len - count_R
    column_1xW = jnp.arange(width, dtype=jnp.int32)[None]
    place_RxW = column_1xW - before_R[:, None]
    valid_RxW = (place_RxW >= 0) & (place_RxW < count_R[:, None])
    items_RxW = jnp.take_along_axis(items_RxL, jnp.clip(place_RxW, 0, length - 1), axis=1)
    first_R = jnp.arange(rows, dtype=jnp.int32) * width
    return Sequences(
        items_T=jnp.where(valid_RxW, items_RxW, 0).reshape(-1),
        positions_T=jnp.where(valid_RxW, place_RxW + 1, 0).reshape(-1),
        last_R=first_R + (jnp.maximum(count_R - 1, 0) if like.items_first else width - 1),
        buckets=((rows, width),),
        left_out_R=max_len - count_R if like.left_out_R is not None else None,
        items_first=like.items_first,
        user_R=user_R,
    )


class Ids(flax.struct.PyTreeNode):
    """Item ids, or rows of users, that a method adds to a batch (`Batch.extra`).

    Attributes:
      ids: int32 of any shape. Items: 0 for none, V + 1 for the mask token. Users: rows from 0, -1 for nobody.
      axis: static, which of the two: `core.axes.ITEM` or `USER`.
    """

    ids: Array
    axis: str = flax.struct.field(pytree_node=False, default=ITEM)


class Batch(flax.struct.PyTreeNode):
    """One training step's input.

    Attributes:
      students: the B users' input sequences.
      targets_T: int32 item to predict at each of the students' slots, 0 where there is no loss.
      negatives_TxK: int32 negatives of each slot, 0 where there is no loss; K = 0 if all slots share their negatives.
      distils_B: bool, students that take part in the distillation: if there are teachers, those with similar users.
      teachers: the similar users' sequences, B * N rows; None where the method needs none.
      teacher_rows_BxN: int32, the rows of `teachers` that belong to each student.
      shared_K: int32 negatives that all slots share, 0 for none; None where each slot has its own.
      log_q: float, log of the probability that a draw gives a negative: (T, 1) for own ones, (1, K) for shared ones.
      users_B: int32, the row of each student in tables over users; meaningless where there is no student. None in a
        batch made by hand for a method without such tables.
      catalogue_n: int32, the catalogue's id of each item of a batch that `touched_rows` has renumbered, which the
        item's random numbers depend on. None if ids are the catalogue's.
      extra: what the method adds (`extra` of its file), by name: `Sequences`, which it may encode with gradient, `Ids`,
        and arrays that hold no ids. None if it adds nothing.
      newest_only: static; only newest slots have a target. True saves work; False is always right.
      shared_targets: static; `shared_K` are the targets of all slots, so some are 0.
    """

    students: Sequences
    targets_T: Array
    negatives_TxK: Array
    distils_B: Array
    teachers: Sequences | None = None
    teacher_rows_BxN: Array | None = None
    shared_K: Array | None = None
    log_q: Array | None = None
    users_B: Array | None = None
    catalogue_n: Array | None = None
    extra: Mapping[str, Any] | None = None
    newest_only: bool = flax.struct.field(pytree_node=False, default=False)
    shared_targets: bool = flax.struct.field(pytree_node=False, default=False)


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What a model is built from besides its own settings.

    Attributes:
      num_items: V.
      max_len: longest sequence.
      llm_width: F, width of the LLM embedding; 0 without one.
      bidirectional: the backbone learns from hidden positions, so looking ahead is no leak.
      normed: the method normalises what the encoder gets, so the stem does not (`Needs.normed`).
      num_users: U.
      all_slots: every slot with an item has an output, also if only the last position has a loss (`Needs.all_slots`).
      whole: where only the device knows how much work is needed, do the most that may be needed, at once
        (`kernels.turns`): for accelerators.
    """

    num_items: int
    max_len: int
    llm_width: int = 0
    bidirectional: bool = False
    normed: bool = False
    num_users: int = 0
    all_slots: bool = False
    whole: bool = False


class Needs(NamedTuple):
    """What a method needs from the host and from the backbone.

    Attributes:
      tables: names from `llmesr_jax.core.axes.TABLES`.
      pca_width: width of the table item_pca, which starts a parameter and is not there in steps; 0 without it.
      similar: N, number of similar users per student; 0 for none.
      normed: the method has a LayerNorm of its own between stem and encoder; stems then have none.
      start: the method continues a finished run of another method, which the setting `start` names.
      own: {name: `Table`} of tables that the method makes itself (`tables` of its file).
      all_slots: the method reads the encoder's output at every slot. Otherwise an encoder that learns from the last
        position returns zeros elsewhere.
    """

    tables: frozenset[str] = frozenset()
    pca_width: int = 0
    similar: int = 0
    normed: bool = False
    start: bool = False
    own: Mapping[str, Table] = MappingProxyType({})
    all_slots: bool = False
