"""What methods share: item tables, the adapter, one view under a backbone, the ranking term."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from llmesr_jax.models import axes, losses
from llmesr_jax.models.layers.dense import newest, take_rows, uniform_bias
from llmesr_jax.models.losses import AllItems, Drawn, LossConfig
from llmesr_jax.models.types import Array, Batch, Sequences, Sizes, Term, wide

BLOCK = 256  # rows that `map_rows` maps at a time: few, because the last block is padded


def candidates(loss: LossConfig, sizes: Sizes, batch: Batch) -> Array:
    """int32 (n,): the items whose vectors `ranking_term` needs.

    These are each slot's target and its own negatives, slot after slot, then the negatives that all slots share; for a
    loss over all items, the ids 1 to V.
    """
    if loss.all_items:
        return jnp.arange(1, sizes.num_items + 1, dtype=jnp.int32)
    own = jnp.concatenate([batch.targets_T[:, None], batch.negatives_TxK], axis=1).reshape(-1)
    return own if batch.shared_K is None else jnp.concatenate([own, batch.shared_K])


def ranking_term(loss: LossConfig, sizes: Sizes, h_TxE: Array, batch: Batch, vectors: Array) -> Term:
    """The ranking loss over the students' slots that have a target, with weight 1; arguments as in `scored`."""
    found = scored(loss, sizes, h_TxE, batch, vectors)
    return Term(losses.PLUGINS.load(loss.ranking).value(loss.settings, found), 1.0)


def scored(loss: LossConfig, sizes: Sizes, h_TxE: Array, batch: Batch, vectors: Array) -> Drawn | AllItems:
    """The input of the ranking loss: scores of targets and negatives, or what the scores of all items are made of.

    A shared negative does not count in a slot whose target it is. With `batch.newest_only` only newest slots are
    scored, and T in the result's shapes is R.

    Args:
      loss: the ranking loss and its score.
      sizes: of the model.
      h_TxE: (T, E) user vectors after each slot; or those of newest slots alone, (R, E), with `batch.newest_only`.
      batch: with targets and negatives.
      vectors: (n, E) item vectors of `candidates(loss, sizes, batch)`.
    """
    targets_T, last_R = batch.targets_T, batch.students.last_R
    dtype = wide(h_TxE)
    if batch.newest_only and len(h_TxE) != len(last_R):
        h_TxE = newest(h_TxE, batch.students)
    h_TxE, vectors = score_vectors(loss, h_TxE), score_vectors(loss, vectors)
    if loss.all_items:
        targets_T = take_rows(targets_T, last_R) if batch.newest_only else targets_T
        return AllItems(h_TxE, vectors, targets_T, jnp.asarray(1 / loss.temperature, dtype))
    own, shared = jnp.split(vectors, [targets_T.size + batch.negatives_TxK.size])
    own_TxCxE, log_q = own.reshape(len(targets_T), -1, own.shape[-1]), batch.log_q
    if batch.newest_only:
        targets_T, own_TxCxE = take_rows(targets_T, last_R), take_rows(own_TxCxE, last_R)
        log_q = take_rows(log_q, last_R) if batch.shared_K is None and log_q is not None else log_q
    own_TxC = jnp.einsum("te,tce->tc", h_TxE, own_TxCxE, preferred_element_type=dtype) / loss.temperature
    positive_T, negative_TxK, drawn = own_TxC[:, 0], own_TxC[:, 1:], None
    draws = jnp.asarray(batch.negatives_TxK.shape[1])
    if batch.shared_K is not None:
        negative_TxK = jnp.matmul(h_TxE, shared.T, preferred_element_type=dtype) / loss.temperature
        drawn = (batch.shared_K[None, :] != targets_T[:, None]) & (batch.shared_K > 0)[None, :]
        draws = jnp.sum(batch.shared_K > 0)
    return Drawn(positive_T, negative_TxK, targets_T > 0, drawn, log_q, draws, sizes.num_items, batch.shared_targets)


def score_vectors(loss: LossConfig, x: Array) -> Array:
    """Vectors whose dot product is the score: x, scaled to length 1 under `score=cosine`. Shape and dtype of x."""
    if loss.score == "dot":
        return x
    return (x * score_scale(x)).astype(x.dtype)


def score_scale(x: Array) -> Array:
    """(..., 1), of at least float32: the factor that scales each vector of x to length 1."""
    square = jnp.sum(jnp.square(x.astype(wide(x))), axis=-1, keepdims=True)
    return jax.lax.rsqrt(square + 1e-12)


class Distinct(NamedTuple):
    """Distinct ids, first those that a gradient belongs to.

    Attributes:
      ids_n: int32; the first `count` are the distinct ids, zeros follow.
      count: int32 (), number of distinct ids.
      trained: int32 (), how many of them, the first ones, are in `trained_n` of `distinct`.
      places: int32, the place in `ids_n` of each id of `trained_n`, and of each id of `other_n`.
    """

    ids_n: Array
    count: Array
    trained: Array
    places: tuple[Array, Array]


def distinct(num_rows: int, trained_n: Array, other_n: Array, most: int | None = None) -> Distinct:
    """Finds the distinct ids in `trained_n` and `other_n`, int32 below `num_rows`; at most `most` of them, if given."""
    room = min(num_rows, len(trained_n) + len(other_n) if most is None else most)
    is_trained = jnp.zeros(num_rows, jnp.int32).at[trained_n].set(1)
    is_other = jnp.zeros(num_rows, jnp.int32).at[other_n].set(1) * (1 - is_trained)
    trained = is_trained.sum()
    place = jnp.where(is_trained > 0, jnp.cumsum(is_trained), trained + jnp.cumsum(is_other)) - 1
    place_or_out = jnp.where(is_trained + is_other > 0, place, room)
    ids_n = jnp.zeros(room, jnp.int32).at[place_or_out].set(jnp.arange(num_rows, dtype=jnp.int32), mode="drop")
    places = (take_rows(place, trained_n), take_rows(place, other_n))
    return Distinct(ids_n, trained + is_other.sum(), trained, places)


@jax.custom_vjp
def map_rows(table_VxF: Array, kernel_FxD: Array, ids_n: Array, count: Array, trained: Array) -> Array:
    """table[ids] @ kernel for the first `count` ids: (n, D).

    Works in blocks of ids and stops at the block that holds the last of the `count` ids, which only the device knows;
    rows of later blocks are zeros. The backward pass stops in the same way at `trained`, so the gradient of later rows
    must be stopped.

    Args:
      table_VxF, kernel_FxD: float arrays.
      ids_n: int32 rows of the table.
      count, trained: int32 (), as in `Distinct`.
    """
    return _forward(table_VxF, kernel_FxD, ids_n, count)


def _blocks(ids_n: Array) -> tuple[Array, int]:
    """The ids, filled up to whole blocks, and the size of a block."""
    size = min(BLOCK, len(ids_n))
    return jnp.pad(ids_n, (0, -len(ids_n) % size)), size


# Seeds run one after the other under vmap, so that each stops at its own count. Batched, all would run to the highest
# count, and every block would copy earlier results.
@jax.custom_batching.sequential_vmap
def _forward(table_VxF: Array, kernel_FxD: Array, ids_n: Array, count: Array) -> Array:
    padded_n, size = _blocks(ids_n)

    def one(i, out):
        rows = take_rows(table_VxF, jax.lax.dynamic_slice_in_dim(padded_n, i * size, size))
        return jax.lax.dynamic_update_slice_in_dim(out, rows.astype(kernel_FxD.dtype) @ kernel_FxD, i * size, 0)

    start = jnp.zeros((len(padded_n), kernel_FxD.shape[1]), kernel_FxD.dtype)
    return jax.lax.fori_loop(0, (count + size - 1) // size, one, start)[: len(ids_n)]


@jax.custom_batching.sequential_vmap
def _kernel_gradient(table_VxF: Array, ids_n: Array, trained: Array, gradient_nxD: Array) -> Array:
    padded_n, size = _blocks(ids_n)
    gradient_nxD = jnp.pad(gradient_nxD, ((0, len(padded_n) - len(ids_n)), (0, 0)))

    def one(i, total):
        rows = take_rows(table_VxF, jax.lax.dynamic_slice_in_dim(padded_n, i * size, size))
        part = jax.lax.dynamic_slice_in_dim(gradient_nxD, i * size, size)
        # In this order only the small factor is transposed.
        return total + jnp.matmul(part.T, rows.astype(part.dtype), preferred_element_type=total.dtype)

    start = jnp.zeros((gradient_nxD.shape[1], table_VxF.shape[1]), wide(gradient_nxD))
    return jax.lax.fori_loop(0, (trained + size - 1) // size, one, start).T.astype(gradient_nxD.dtype)


def _map_rows_forward(table, kernel, ids_n, count, trained):
    out = _forward(table.value, kernel.value, ids_n.value, count.value)
    into_table = kernel.value if table.perturbed else None  # a frozen table gets no gradient, and none is computed
    return out, (table.value, into_table, ids_n.value, trained.value)


def _map_rows_backward(kept, gradient_nxD):
    table_VxF, kernel_FxD, ids_n, trained = kept
    into_table = None
    if kernel_FxD is not None:
        into_table = jnp.zeros_like(table_VxF).at[ids_n].add((gradient_nxD @ kernel_FxD.T).astype(table_VxF.dtype))
    return into_table, _kernel_gradient(table_VxF, ids_n, trained, gradient_nxD), None, None, None


map_rows.defvjp(_map_rows_forward, _map_rows_backward, symbolic_zeros=True)


_STARTS = {"xavier": nn.initializers.xavier_normal(), "normal": nn.initializers.normal(0.02)}


class ItemTable(nn.Module):
    """A trainable table (V + 2, D): row 0 padding, row V + 1 the mask token.

    It starts at `start`, (V + 2, D), if that is given (the PCA of the LLM embeddings), else as `drawn` says: see
    `settings.table_start`.
    """

    num_items: int
    width: int
    drawn: str = "xavier"

    @nn.compact
    def __call__(self, start: Array | None = None) -> Array:
        def init(key, shape, dtype=jnp.float32):
            if start is None:
                return _STARTS[self.drawn](key, shape, dtype)
            return jnp.array(start, dtype).reshape(shape)

        return axes.parameter(self, "items", init, (self.num_items + 2, self.width), axes.ITEM)


class Adapter(nn.Module):
    """The map from the LLM's space to a view: W2 (W1 e + b1) + b2 (LLM-ESR eq. 2).

    There is no non-linearity between the two, so W2 W1 is formed once and applied as one matrix: the same function
    and gradients with far fewer operations. With `layers=1` the parameter is one matrix.
    """

    llm_width: int
    width: int
    layers: int = 2

    @nn.compact
    def __call__(self) -> tuple[Array, Array]:
        """Returns the kernel (F, D) and the bias (D,)."""
        widths = [self.llm_width, *([self.llm_width // 2] if self.layers == 2 else []), self.width]
        kernel, bias = None, None
        for i, (fan_in, fan_out) in enumerate(zip(widths[:-1], widths[1:])):
            k = self.param(f"kernel_{i}", nn.initializers.xavier_normal(), (fan_in, fan_out))
            b = self.param(f"bias_{i}", uniform_bias(fan_in), (fan_out,))
            kernel, bias = (k, b) if kernel is None else (kernel @ k, bias @ k + b)
        return kernel, bias


class SingleView(nn.Module):
    """One item table under one backbone: the plain sequential recommender, and what most methods start from.

    Attributes:
      config: the method's settings, with a field `width`.
      loss: the ranking loss.
      sizes: what the model is built from.
      make_backbone: makes a new backbone.
      start: name of the frozen table that the item table starts at; "" for none.
      drawn: how the item table is drawn if `start` is "", see `settings.table_start`.
    """

    config: Any
    loss: LossConfig
    sizes: Sizes
    make_backbone: Callable[[], nn.Module]
    start: str = ""
    drawn: str = "xavier"

    def setup(self):
        self.table = ItemTable(self.sizes.num_items, self.config.width, self.drawn)
        self.backbone = self.make_backbone()

    def items(self, ids: Array) -> Array:
        """int32 (n,) -> (n, E): item vectors."""
        return take_rows(self.table(self.table_start()), ids)

    def table_start(self) -> Array | None:
        """(V + 2, D) that the item table starts at; None if it is drawn, or once parameters are made."""
        return self.get_variable("tables", self.start) if self.start else None

    def slot_views(self, sequences: Sequences, deterministic: bool = True) -> Array:
        """(T, D): the vector of each slot's item."""
        return self.items(sequences.items_T)

    def encode(self, x_TxD: Array, sequences: Sequences, deterministic: bool, last_only: bool) -> Array:
        """Turns slots' vectors into user vectors: after each slot, (T, E), or with `last_only` each newest, (R, E)."""
        x_TxD = self.backbone.stem(x_TxD, sequences, deterministic)
        return self.backbone(x_TxD, sequences, deterministic, last_only)

    def parts(self, x_nxD: Array) -> dict[str, Array]:
        """{name: (n, E)}: parts that add up to the vectors by which items are scored, from their `slot_views`."""
        return {"id": x_nxD}

    def users(self, sequences: Sequences, deterministic: bool = True) -> Array:
        """(R, E): user vectors. The score of an item is its vector's dot product with this."""
        return self.encode(self.slot_views(sequences, deterministic), sequences, deterministic, last_only=True)

    def terms(self, batch: Batch, epoch: Array, deterministic: bool = False) -> dict[str, Term]:
        """The loss's terms by name; `epoch` counts from 1, as a float, for methods whose weights change with it."""
        students = batch.students
        x_TxD = self.slot_views(students, deterministic)
        h_TxE = self.encode(x_TxD, students, deterministic, last_only=batch.newest_only)
        vectors = self.items(candidates(self.loss, self.sizes, batch))
        return {"ranking": ranking_term(self.loss, self.sizes, h_TxE, batch, vectors)}
