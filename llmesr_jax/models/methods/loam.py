"""LOAM: walks towards rare items as more rows, and mixtures for rows with a rare target (Yang et al., SIGIR 2023).

Niche-walk augmentation. There is one edge a -> b for each pair of items that are neighbours in a training sequence. Of
an item in the head at most m incoming edges are kept, drawn once. In each step 5 walks start at each of ratio B
targets, drawn from those of the batch, head or tail. They go backwards over up to 10 edges, through items of the batch:
with probability alpha to any predecessor, else to the rarest. Of the walks with more than two items, at most ratio B
join the batch: the first item is a row's target, the others, reversed, are its input, with a loss at its end.
Tail session mixup. For a row i whose target y is in the tail, and the row j most similar to it (cosine of their newest
vectors), z = lambda h_i + (1 - lambda) h_j gets the ranking loss once more, with y and i's negatives.
Loss: ranking, a mean over the targets of the batch and of the walks, + weight (1) times the mixtures' loss. Scores are
those of `none`. `walk_ratio=0, mixture_weight=0` is `none`.

Cost: a tenth more rows; 10 gathers of (5 ratio B, M) for the walks, M the most incoming edges that an item keeps; and
B^2 D for the mixtures.

Deviations. LOAM is made for sessions, on graph models, with cross-entropy over all items. Here the ranking loss is that
of `loss.ranking`, a walk has the negatives of the student at whose target it starts, and an encoder that learns from
every position has its newest vector mixed. Under the cloze task only samples in which the newest item alone is hidden
take part, and a walk ends with a mask token. The release's file of weights is not published (here an item's weight is 1
over its training count), nor which edges it cuts (here incoming ones, which walks follow; m is the mean number of edges
per item). Its head is the most frequent targets; ours is that of all our tables. It takes the second row by dot
product, which is the best other row only if vectors have length 1 (`similarity=dot`, preset `release`). Without a tail
target in the batch its loss is NaN, ours 0. FAERec's summary, "sequences that end in tail items", is not what the
release does.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from llmesr_jax.core.axes import ITEM, Table
from llmesr_jax.core.knobs import knob
from llmesr_jax.core.streams import stream
from llmesr_jax.data import groups
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.models.layers import settings
from llmesr_jax.models.layers.dense import newest, take_rows
from llmesr_jax.models.layers.tables import SingleView, candidates, ranking_term
from llmesr_jax.models.types import (
    Array,
    Batch,
    Ids,
    Needs,
    Sizes,
    Tables,
    Term,
    from_rows,
)

ON_A_MESH = True
_SEED = 220  # the release's, for drawing the edges that are kept
_WALKS, _LENGTH = 5, 10  # walks from each start; most edges of a walk


@dataclasses.dataclass(frozen=True)
class Config:
    width: int = knob(128, "width of the item table and the encoder", least=1)
    table_start: str = settings.table_start()
    walk_ratio: float = knob(0.1, "most walks of a step, as a share of its batch; 0: none", least=0, most=1)
    walk_random: float = knob(
        0.5, "alpha, probability that a walk takes a random predecessor and not the rarest", least=0, most=1
    )
    edges: int = knob(0, "m, most incoming edges of a head item; 0: the mean number of edges per item", least=0)
    mixture_weight: float = knob(1.0, "weight of the loss of mixtures; 0: none", least=0, traced=True)
    mixture: float = knob(0.8, "lambda, share of the row itself in its mixture", least=0, most=1)
    similarity: str = knob(
        "cosine",
        "the other row of a mixture: cosine: the most similar other row, or dot: the second by dot product (preset "
        "release)",
        choices=("cosine", "dot"),
    )


def needs(config: Config) -> Needs:
    """The graph for walks, and which items are tail for mixtures."""
    own = {"predecessors": Table(ITEM, holds_ids=True)} if config.walk_ratio else {}
    return Needs(frozenset({"tail_item"} if config.mixture_weight else ()), own=own)


def tables(corpus: Corpus, config: Config) -> dict[str, np.ndarray]:
    """{"predecessors": int32 (V + 2, M)}: the items of each item's kept incoming edges, rarest first, then zeros."""
    user_n = np.repeat(np.arange(corpus.num_users), corpus.lengths_U)
    trains_n = np.arange(len(corpus.items)) < (corpus.offsets[:-1] + corpus.train_lengths_U)[user_n]
    at = np.flatnonzero(trains_n[1:] & (user_n[1:] == user_n[:-1]))
    size = corpus.num_items + 2
    edges = np.unique(corpus.items[at + 1].astype(np.int64) * size + corpus.items[at])
    to, origin = edges // size, edges % size
    most = config.edges or round(len(edges) / corpus.num_items)
    by_draw = np.lexsort((stream("loam edges", _SEED).random(len(edges)), to))
    is_head = np.pad(groups.head_items(corpus), 1)
    kept = by_draw[~is_head[to[by_draw]] | (_place_in_run(to[by_draw]) < most)]
    to, origin = to[kept], origin[kept]
    count = np.pad(corpus.item_counts_V, 1)
    order = np.lexsort((origin, count[origin], to))
    to, origin = to[order], origin[order]
    place = _place_in_run(to)
    found = np.zeros((size, int(place.max(initial=0)) + 1), np.int32)
    found[to, place] = origin
    return {"predecessors": found}


def _place_in_run(sorted_n: np.ndarray) -> np.ndarray:
    """0, 1, ... within each run of equal numbers."""
    starts = np.flatnonzero(np.diff(sorted_n, prepend=-1))
    return np.arange(len(sorted_n)) - np.repeat(starts, np.diff(np.append(starts, len(sorted_n))))


def walk(predecessors_VxM: Array, member_V: Array, starts_n: Array, draws_nxLx2: Array, random: float) -> Array:
    """Walks backwards over at most L edges, through members only: int32 (n, L + 1), the start first, then zeros.

    Args:
      predecessors_VxM: int32, rarest first, then zeros.
      member_V: bool (V + 2,), items that a walk may visit; false for 0.
      starts_n: int32 items.
      draws_nxLx2: uniform in [0, 1). If the first is below `random`, the second chooses among all members; else the
        rarest is taken.
      random: alpha.
    """

    def step(node_n, draw_nx2):
        near_nxM = take_rows(predecessors_VxM, node_n)
        open_nxM = take_rows(member_V, near_nxM)
        count_n = jnp.sum(open_nxM, axis=1, dtype=jnp.int32)
        which_n = jnp.minimum(jnp.floor(draw_nx2[:, 1] * count_n.astype(draw_nx2.dtype)).astype(jnp.int32), count_n - 1)
        nth_nxM = open_nxM & (jnp.cumsum(open_nxM, axis=1, dtype=jnp.int32) - 1 == which_n[:, None])
        place_n = jnp.argmax(jnp.where((draw_nx2[:, 0] < random)[:, None], nth_nxM, open_nxM), axis=1)
        next_n = jnp.take_along_axis(near_nxM, place_n[:, None], axis=1)[:, 0]
        next_n = jnp.where(count_n > 0, next_n, 0)
        return next_n, next_n

    _, path_Lxn = jax.lax.scan(step, starts_n, jnp.moveaxis(draws_nxLx2, 1, 0))
    return jnp.concatenate([starts_n[:, None], path_Lxn.T], axis=1)


def newest_targets(batch: Batch, only: bool) -> Array:
    """int32 (B,): each student's newest target; 0 for none, and with `only` also for students with other targets."""
    students, rows = batch.students, len(batch.students.last_R)
    target_B = take_rows(batch.targets_T, students.last_R)
    count_B = jnp.zeros(rows, jnp.int32).at[students.row_T].add((batch.targets_T > 0).astype(jnp.int32))
    return jnp.where((count_B == 1) | (not only), target_B, 0)


def extra(config: Config, sizes: Sizes, data: Any, tables: Tables, batch: Batch, key: Array) -> dict[str, Any]:
    """The walks of a batch: `walks`, their `targets`, and `sources`, the students at whose targets they start.

    A source is a place of `Sequences.order_R`, as a float, because integers would be taken for ids.
    """
    most = int(config.walk_ratio * len(batch.students.last_R))
    if not most:
        return {}
    start_key, walk_key, choice_key = jax.random.split(key, 3)
    target_B = newest_targets(batch, sizes.bidirectional)
    there_n = jnp.argsort(target_B == 0, stable=True).astype(jnp.int32)  # students with a target first
    count = jnp.sum(target_B > 0, dtype=jnp.int32)
    drawn_s = jnp.floor(jax.random.uniform(start_key, (most,)) * count.astype(jnp.float32)).astype(jnp.int32)
    source_n = jnp.repeat(there_n[jnp.clip(drawn_s, 0, jnp.maximum(count - 1, 0))], _WALKS)
    member_V = jnp.zeros(sizes.num_items + 2, bool).at[batch.students.items_T].set(True).at[batch.targets_T].set(True)
    member_V = member_V.at[jnp.array([0, sizes.num_items + 1])].set(False)
    draws_nxLx2 = jax.random.uniform(walk_key, (len(source_n), _LENGTH, 2))
    path_nxL = walk(tables["predecessors"], member_V, target_B[source_n], draws_nxLx2, config.walk_random)
    length_n = jnp.sum(path_nxL > 0, axis=1, dtype=jnp.int32)
    chosen_s = jnp.argsort(jnp.where(length_n > 2, jax.random.uniform(choice_key, length_n.shape), 2.0))[:most]
    path_sxL, length_s = path_nxL[chosen_s], length_n[chosen_s]
    targets_s = jnp.where(length_s > 2, path_sxL[:, 0], 0)
    items_sxL = as_input(path_sxL, jnp.where(length_s > 2, length_s - 1, 0), sizes)
    walks = from_rows(items_sxL, batch.students, sizes.max_len)
    return {"walks": walks, "targets": Ids(targets_s), "sources": source_n[chosen_s].astype(jnp.float32)}


def as_input(path_sxL: Array, length_s: Array, sizes: Sizes) -> Array:
    """A walk without its start as a sequence, int32 (s, L): reversed, so that the start's neighbour is the newest item.

    Args:
      path_sxL: int32 items of each walk, the start first.
      length_s: int32, number of items after the start; 0: an empty sequence.
      sizes: of the model; under the cloze task a mask token is appended.
    """
    masked = int(sizes.bidirectional)
    width = min(path_sxL.shape[1] - 1, sizes.max_len - masked)
    length_sx1 = jnp.minimum(length_s, width)[:, None]  # the newest that fit
    column_1xL = jnp.arange(width + masked, dtype=jnp.int32)[None, :]
    items_sxL = jnp.take_along_axis(path_sxL, jnp.maximum(length_sx1 - column_1xL, 0), axis=1)
    items_sxL = jnp.where(column_1xL < length_sx1, items_sxL, 0)
    is_token = (column_1xL == length_sx1) & (length_sx1 > 0) if masked else jnp.zeros((1, 1), bool)
    return jnp.where(is_token, sizes.num_items + 1, items_sxL).astype(jnp.int32)


def partners(h_BxD: Array, there_B: Array, similarity: str) -> tuple[Array, Array]:
    """int32 (B,), bool (B,): the row most similar to each row, and whether there is one.

    Args:
      h_BxD: vectors.
      there_B: bool, rows that count.
      similarity: cosine: the best other row; dot: the second best by dot product, possibly the row itself.
    """
    h_BxD = jax.lax.stop_gradient(h_BxD)
    if similarity == "cosine":
        square_Bx1 = jnp.sum(jnp.square(h_BxD), axis=1, keepdims=True)
        h_BxD = h_BxD * jax.lax.rsqrt(jnp.maximum(square_Bx1, 1e-24))
    apart_BxB = there_B[None, :] & ((similarity == "dot") | ~jnp.eye(len(h_BxD), dtype=bool))
    likeness_BxB = jnp.where(apart_BxB, h_BxD @ h_BxD.T, -jnp.inf)
    _, order_Bx2 = jax.lax.top_k(likeness_BxB, min(2, len(h_BxD)))
    return order_Bx2[:, -1 if similarity == "dot" else 0], there_B & (jnp.sum(there_B) > 1)


def Method(config: Config, loss, sizes, make_backbone) -> Augmented:
    """See `Augmented`."""
    return Augmented(config, loss, sizes, make_backbone, drawn=config.table_start)


class Augmented(SingleView):
    """A `SingleView` with walks in its ranking loss, and with one more term."""

    def terms(self, batch: Batch, epoch: Array, deterministic: bool = False) -> dict[str, Term]:
        """The terms ranking and mixture (if its weight is not 0)."""
        students = batch.students
        h_TxD = self.encode(self.slot_views(students, deterministic), students, deterministic, last_only=False)
        terms = {"ranking": self.ranking(*self.with_walks(h_TxD, batch, deterministic))}
        if self.has_variable("tables", "tail_item"):  # the weight is not 0: see `needs`
            mixed = self.ranking(*self.mixtures(newest(h_TxD, students), batch))
            terms["mixture"] = Term(mixed.value, self.config.mixture_weight)
        return terms

    def ranking(self, h_NxD: Array, batch: Batch) -> Term:
        """The ranking loss of vectors, each with the target and negatives of the same slot of `batch`."""
        return ranking_term(self.loss, self.sizes, h_NxD, batch, self.items(candidates(self.loss, self.sizes, batch)))

    def with_walks(self, h_TxD: Array, batch: Batch, deterministic: bool) -> tuple[Array, Batch]:
        """The vectors of the batch's slots and of its walks, and a batch with the targets and negatives of both."""
        if not batch.extra:
            return h_TxD, batch
        walks, slots_s = (
            batch.extra["walks"],
            take_rows(batch.students.last_R, batch.students.row_at(batch.extra["sources"].astype(jnp.int32))),
        )
        h_sxD = self.encode(self.slot_views(walks, deterministic), walks, deterministic, last_only=True)
        more = at_slots(batch, slots_s, batch.extra["targets"].ids)
        names = ["targets_T", "negatives_TxK", *(["log_q"] if _own_log_q(batch) else [])]
        both = {name: jnp.concatenate([getattr(batch, name), getattr(more, name)]) for name in names}
        return jnp.concatenate([h_TxD, h_sxD]), batch.replace(**both, newest_only=False)

    def mixtures(self, h_BxD: Array, batch: Batch) -> tuple[Array, Batch]:
        """The mixtures of the students' newest vectors, and a batch with the targets of those that count."""
        target_B, students = newest_targets(batch, self.sizes.bidirectional), batch.students
        # In order of length, so that ties are resolved alike in every layout.
        rows_B = students.row_at(jnp.arange(len(target_B), dtype=jnp.int32))
        ordered = take_rows(h_BxD, rows_B), take_rows(target_B, rows_B) > 0
        other_B, is_one_B = (take_rows(x, students.order_R) for x in partners(*ordered, self.config.similarity))
        other_B = students.row_at(other_B)
        is_tail_B = take_rows(self.get_variable("tables", "tail_item"), target_B)
        share = self.config.mixture
        z_BxD = share * h_BxD + (1 - share) * take_rows(h_BxD, other_B)
        return z_BxD, at_slots(batch, batch.students.last_R, jnp.where(is_one_B & is_tail_B, target_B, 0))


def at_slots(batch: Batch, slots_n: Array, targets_n: Array) -> Batch:
    """A batch for n vectors: with their targets, int32 (0 for none), and the negatives of the slots `slots_n`."""
    negatives_nxK = jnp.where(targets_n[:, None] > 0, take_rows(batch.negatives_TxK, slots_n), 0)
    found = batch.replace(targets_T=targets_n, negatives_TxK=negatives_nxK, newest_only=False)
    return found.replace(log_q=take_rows(batch.log_q, slots_n)) if _own_log_q(batch) else found


def _own_log_q(batch: Batch) -> bool:
    """Whether each slot has log-probabilities of its own."""
    return batch.log_q is not None and batch.shared_K is None
