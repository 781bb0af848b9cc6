"""User and item vectors of a trained model: all that ranking, recommending and export need.

Both are computed in full precision, as scores are (`ranking`): matrix products of float32 keep all bits. A GPU's
default is TF32, which rounds factors to 10 bits. Training steps run at the device's default.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llmesr_jax.data.checks import check_size
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.data.settings import DataConfig
from llmesr_jax.models import kept
from llmesr_jax.models.axes import ITEM
from llmesr_jax.models.kernels import split_rows, touched_rows
from llmesr_jax.models.placement import Placement
from llmesr_jax.models.recommender import Recommender
from llmesr_jax.models.types import Array, Tables, on_device
from llmesr_jax.ranking import layout

_ROWS = 2048  # sequences encoded at a time


class Histories(NamedTuple):
    """The input of each user, a part of the interactions, in N batches of equal static shape.

    Attributes:
      items_n: int32 item ids of the interactions, on the device.
      end_NxR, length_NxR: int32, one past the input's newest item in `items_n`, and the input's length after cutting.
      place_NxR: int32, the index of each row's user in the output; `count` (out of range) for a row without a user.
      rows: the row lengths of a batch.
      count: E, the number of users.
      left_padded: whether padding comes before the items.
      user_NxR: int32, the row of each row's user in tables over users; -1 for a row without a user.
    """

    items_n: Array
    end_NxR: Array
    length_NxR: Array
    place_NxR: Array
    rows: layout.RowPlan
    count: int
    left_padded: bool
    user_NxR: Array


def histories(
    corpus: Corpus,
    rows_E: np.ndarray,
    stops_E: np.ndarray,
    config: DataConfig,
    supervision: str,
    other_stops: np.ndarray | None = None,
) -> Histories:
    """Lays out inputs, each cut to the newest items that fit.

    A backbone with masked supervision gets a mask token after the newest item, so one item fewer fits.

    Args:
      corpus: the interactions.
      rows_E: int rows of users.
      stops_E: int, how many of each user's first interactions are the input.
      config: its `max_len` and `layout` are used.
      supervision: of the backbone: "every", "last" or "masked".
      other_stops: as `stops_E`, of another call with as many users: both results then have the same shapes, so one
        program encodes both.
    Raises:
      InputError: there are more interactions than 32-bit places.
    """
    check_size(corpus.name, len(corpus.items), corpus.num_users)
    room = config.max_len - (supervision == "masked")
    lengths = lambda stops: np.minimum(stops, room) + (supervision == "masked")  # noqa: E731
    length_E = lengths(stops_E)
    others = None if other_stops is None else lengths(other_stops)
    batches_NxR, plan = layout.in_batches(length_E, min(_ROWS, len(rows_E)), others)
    if config.layout == "padded":
        plan = layout.padded(batches_NxR.shape[1], config.max_len)
    elif config.layout == "packed":
        plan = plan.packed()
    nobody = batches_NxR < 0
    picked = np.maximum(batches_NxR, 0)
    end = np.where(nobody, 0, (corpus.offsets[rows_E] + stops_E)[picked])
    length = np.where(nobody, 0, length_E[picked])
    items, end = _needed(corpus.items, end, np.maximum(length - (supervision == "masked"), 0))
    as_int = lambda x: on_device(x, np.int32)  # noqa: E731
    place = np.where(nobody, len(rows_E), picked)
    return Histories(
        as_int(items),
        as_int(end),
        as_int(length),
        as_int(place),
        plan,
        len(rows_E),
        config.layout == "padded",
        as_int(np.where(nobody, -1, rows_E[picked])),
    )


def _needed(items_n: np.ndarray, end_NxR: np.ndarray, length_NxR: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Only the items that rows read, and where each row's then end; all items if at least half of them are read."""
    total = int(length_NxR.sum())
    if not total or 2 * total >= len(items_n):  # JAX cannot gather from an empty array
        return items_n, end_NxR
    new_end_NxR = np.cumsum(length_NxR).reshape(length_NxR.shape)
    index = np.arange(total) + np.repeat((end_NxR - new_end_NxR).ravel(), length_NxR.ravel())
    return items_n[index], new_end_NxR


def placed(histories: Histories, placement: Placement) -> Histories:
    """The histories with copies of their arrays on all devices."""
    names = ("items_n", "end_NxR", "length_NxR", "place_NxR", "user_NxR")
    return histories._replace(**placement.everywhere({name: getattr(histories, name) for name in names}))


@kept.jit(static_argnames=("recommender", "plan", "count", "left_padded", "placement"))
def _encode(
    recommender,
    params,
    tables,
    items_n,
    end_NxR,
    length_NxR,
    place_NxR,
    plan,
    count,
    left_padded,
    user_NxR,
    placement=None,
):
    if placement is not None:

        def encoded(params, tables, items_n, end_NxR, length_NxR, place_NxR, user_NxR):
            rest = end_NxR, length_NxR, place_NxR, plan, count, left_padded, user_NxR
            return _users(recommender, params, tables, items_n, *rest, placement.split)

        more = items_n, end_NxR, length_NxR, place_NxR, user_NxR
        return split_rows.over_data(placement.mesh, encoded, params, tables, *more)
    rest = end_NxR, length_NxR, place_NxR, plan, count, left_padded, user_NxR
    return _users(recommender, params, tables, items_n, *rest, None)


def _users(
    recommender, params, tables, items_n, end_NxR, length_NxR, place_NxR, plan, count, left_padded, user_NxR, split
):
    """The vectors of all users; `split`: the model's axes whose rows are split over devices, or None."""
    masked = recommender.supervision == "masked"

    def one(batch):
        end_R, length_R, user_R = batch
        sequences, _ = layout.lay_out(
            items_n,
            jnp.where(length_R > 0, end_R + int(masked), end_R),
            length_R,
            plan.buckets,
            left_padded,
            recommender.sizes.max_len,
            user_R=user_R,
            bin_widths=plan.bin_widths,
        )
        if masked:
            last_T = sequences.last_R[sequences.row_T] == jnp.arange(len(sequences.items_T))
            token = recommender.sizes.num_items + 1
            sequences = sequences.replace(items_T=jnp.where(last_T & sequences.valid_T, token, sequences.items_T))
        if split is None:
            return recommender.user_vectors(params, tables, sequences)
        rows, sequences = touched_rows.touched_by(sequences, split)
        small = touched_rows.cut(params, rows, split, split=True)
        return recommender.user_vectors(small, touched_rows.cut_tables(tables, rows, split, split=True), sequences)

    with jax.default_matmul_precision("highest"):
        vectors_NxRxE = jax.lax.map(one, (end_NxR, length_NxR, user_NxR))
    flat = vectors_NxRxE.reshape(-1, vectors_NxRxE.shape[-1])
    return jnp.zeros((count, flat.shape[1]), flat.dtype).at[place_NxR.reshape(-1)].set(flat, mode="drop")


def user_vectors(
    recommender: Recommender, params: Any, tables: Tables, histories: Histories, placement: Placement | None = None
) -> Array:
    """(E, width): one vector for each user of `histories`, in their order.

    Args:
      placement: of parameters and tables; None for one device.
    """
    return _encode(recommender, params, tables, *histories, placement)


def compile_ahead(
    recommender: Recommender, params: Any, tables: Tables, data: Any, histories: Histories, with_mask: bool
) -> None:
    """Begins to compile, in a thread, what `served`, `user_vectors` and `item_vectors` will run on one device.

    Args:
      params: of one seed; shapes are enough.
      recommender, tables, data, histories, with_mask: as in these functions.
    """
    if recommender.for_serving is not None:
        _served.ahead(recommender, params, tables, data, None)
    _encode.ahead(recommender, params, tables, *histories)
    item_vectors.ahead(recommender, params, tables, with_mask)


@kept.jit(static_argnames=("recommender", "with_mask", "placement"))
def item_vectors(
    recommender: Recommender,
    params: Any,
    tables: Tables,
    with_mask: bool = False,
    placement: Placement | None = None,
) -> Array:
    """(V, width) vectors, row 0 = id 1; (V + 1, width) with the mask token's row.

    If a placement splits rows over devices, the result is split in the same way, and ends in the mask token's row and
    rows of padding; pass `SplitItems` to `ranking.engine` then.

    Args:
      with_mask: whether to add the mask token's row, where rows are not split.
      placement: of parameters and tables; None for one device.
    """
    with jax.default_matmul_precision("highest"):
        if placement is None or not placement.split:
            return recommender.item_vectors(params, tables, with_mask)

        def own(params, tables):
            rows = placement.rows(ITEM) // placement.data_shards
            return recommender.vectors(params, tables, jnp.arange(rows, dtype=jnp.int32))

        # Each device makes the vectors of its rows; the first row of all is the padding item's.
        by_row = placement.on_rows(own, params, tables)
        return placement.constrained_rows(jnp.roll(by_row, -1, axis=0), ITEM)


def served(model: Recommender, params: Any, tables: Tables, data: Any, placement: Placement | None = None) -> Any:
    """The parameters for serving, of one seed: the method's `for_serving` of the trained ones, or these without it.

    Args:
      data: the interactions on the device (`training.interactions.Interactions`); may be None where the method does
        nothing.
      placement: of parameters and tables; None for one device.
    """
    return params if model.for_serving is None else _served(model, params, tables, data, placement)


@kept.jit(static_argnames=("model", "placement"))
def _served(model: Recommender, params: Any, tables: Tables, data: Any, placement: Placement | None) -> Any:
    if placement is None:
        return model.for_serving(params, tables, data)
    found = model.for_serving(placement.whole(params), placement.whole_tables(tables), data)
    return placement.constrained(placement.padded(found), 0)
