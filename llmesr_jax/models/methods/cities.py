"""CITIES: embeddings of tail items inferred from their contexts (Jang et al., ICDM 2020; the network is HiCE's).

Starts from a trained plain backbone (`--start`), all of which is frozen. Training learns F: contexts of an item -> its
embedding, on head items. Then F of their contexts replaces the rows of tail items that have a context, in inputs and
scores. A context of a place in a training sequence is the 24 items before it, the place itself, and the 24 items after
it; the place shows the mask token (BERT4Rec) or a learnt vector. Contexts with fewer than two other items are left out.
- x = E[items] * a[slot] + sin(slot) / sqrt(D), dropout .2; two transformer layers over the real slots of each context
  separately, and their mean: r_k.
- Two more layers over the K vectors r_k, without positions, their mean, and y = W y + b.
A layer: x = N(x + MHA(x)); x = N(x + W2 relu(W1 x)), 2 D wide inside, 4 heads; dropout .5 of attention weights, .2 else;
N(x) = a (x - mean) / (std + 1e-6) + b with the unbiased std. Keys have no bias: no softmax would see it.
Loss: the mean of (F(K contexts of i) - E[i])^2 over 128 head items, drawn with replacement; K, from 1 to 10, is the
same for all items of a step. `ranking` is logged with weight 0, and so is `inference_valid`, the loss over held-out
head items (5 %).

Cost: a step encodes 1,280 contexts of up to 49 slots in rows of a few lengths (`drawn_rows`), 16 D^2 multiply-adds per
slot forward and twice that backward; before serving, each context of each tail item is encoded once, in blocks of rows.

Deviations. Our head is the top fifth by training count, and of it the items with at least two contexts; the release
takes counts above 5. The held-out items are the same for all seeds. An epoch has as many steps as with other methods,
early stopping monitors the ranking of the served model, and the best epoch is kept; the release stops by the held-out
error and keeps the last epoch. The release divides outside of the power in its sine, which leaves two channels with a
position (`positions=release`, preset `release`). It clips before gradients exist, and its decay over 10^6 steps has no
effect; both are left out. Adam has epsilon 1e-6 and a warm-up over 100 steps; its learning rate, 1e-4, is in the
presets. The paper encodes contexts by the pre-trained sequence model; the release by layers of its own, which is what
we have.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from llmesr_jax.core.axes import ITEM, Table
from llmesr_jax.core.knobs import knob
from llmesr_jax.core.streams import stream
from llmesr_jax.data import groups
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.data.occurrences import occurrences
from llmesr_jax.models.kernels import drawn_rows
from llmesr_jax.models.kernels.row_blocks import in_blocks, widths_to
from llmesr_jax.models.layers import settings
from llmesr_jax.models.layers.dense import take_rows
from llmesr_jax.models.layers.few_shot import Inference
from llmesr_jax.models.layers.tables import SingleView, candidates, ranking_term
from llmesr_jax.models.types import Array, Batch, Ids, Needs, Sizes, Tables, Term, wide

ON_A_MESH = True
_HELD_OUT = 0.05  # share of the head items
_WARM_UP = 100  # steps


@dataclasses.dataclass(frozen=True)
class Config:
    width: int = knob(128, "width of the item table and the encoder; a multiple of 4", least=4)
    table_start: str = settings.table_start()
    window: int = knob(24, "items of a context on either side", least=1)
    shots: int = knob(10, "most contexts that an item is inferred from in training", least=1)
    head_items: int = knob(128, "head items per step", least=1)
    most_contexts: int = knob(32, "most contexts that a tail item is inferred from when it is served", least=1)
    dropout: float = knob(0.2, "dropout rate: embeddings, feed-forward, residuals", least=0, most=0.99)
    attention_dropout: float = knob(0.5, "dropout rate: attention weights", least=0, most=0.99)
    positions: str = knob(
        "usual", "sine of positions: usual, or with the bracket of preset release", choices=("usual", "release")
    )
    serve: bool = knob(True, "tail items are served with inferred rows; False: with the rows of the start run")


def needs(config: Config) -> Needs:
    """Contexts of items, the items that F learns from, and those whose rows it infers."""
    own = {
        "places": Table(),
        "place_start": Table(ITEM),
        "place_count": Table(ITEM),
        "learnt_items": Table(holds_ids=True),
        "held_out_items": Table(holds_ids=True),
        "tail_places": Table(),
        "tail_rows": Table(),
        "tail_items": Table(holds_ids=True),
        "tail_counts": Table(),
    } | {name: Table() for name in drawn_rows.names("room")}
    return Needs(own=own, start=True)


def tables(corpus: Corpus, config: Config) -> dict[str, np.ndarray]:
    """The tables of `needs`, int32.

    places (n, 3): the place of each context, the start and the end of its sequence, as indices of interactions; sorted
    by item, those of an item from `place_start` (V + 2,) on, `place_count` (V + 2,) in number. learnt_items,
    held_out_items: ids of head items. tail_items (t,): ids of tail items with a context, those with the most first;
    tail_counts (t,): how many of an item's contexts are read. tail_places (m,): these contexts, as rows of `places`,
    longest first; tail_rows (m,): the place of each if they were sorted by item. room_0, ...: rows for a step's
    contexts, see `drawn_rows`.
    """
    found = occurrences(corpus)
    others_n = np.minimum(config.window, found.place_n - found.first_n)
    others_n = others_n + np.minimum(config.window, found.end_n - 1 - found.place_n)
    item_n = np.repeat(np.arange(corpus.num_items + 2), found.count_V)
    kept = others_n >= 2
    places = np.stack([found.place_n, found.first_n, found.end_n], axis=1)[kept]
    item_n, others_n = item_n[kept], others_n[kept]
    count_V = np.bincount(item_n, minlength=corpus.num_items + 2)
    start_V = np.cumsum(count_V) - count_V
    head_V = np.pad(groups.head_items(corpus), 1)
    learnt = stream("cities held out").permutation(np.flatnonzero(head_V & (count_V >= 2)))
    held_out = int(_HELD_OUT * len(learnt))
    tail = np.flatnonzero(~head_V & (count_V > 0))
    read_t = np.minimum(count_V[tail], config.most_contexts)
    order = np.argsort(-read_t, kind="stable")
    tail, read_t = tail[order], read_t[order]
    within_m = np.arange(read_t.sum()) - np.repeat(np.cumsum(read_t) - read_t, read_t)
    # Where not all contexts of an item are read, these are the last ones in the data.
    last_m = np.repeat(start_V[tail] + count_V[tail] - read_t, read_t)
    at_m = last_m + within_m
    longest_first = np.argsort(-others_n[at_m], kind="stable")
    made = {
        "places": places,
        "place_start": start_V,
        "place_count": count_V,
        "learnt_items": np.sort(learnt[held_out:]),
        "held_out_items": np.sort(learnt[:held_out]),
        "tail_places": at_m[longest_first],
        "tail_rows": longest_first,
        "tail_items": tail,
        "tail_counts": read_t,
    }
    made = {name: table.astype(np.int32) for name, table in made.items()}
    of_learnt = np.isin(item_n, made["learnt_items"])
    chance_m = 1 / count_V[item_n[of_learnt]] / max(len(made["learnt_items"]), 1)
    return made | drawn_rows.plan("room", others_n[of_learnt] + 1, chance_m, 2 * config.window + 1)


def trains(config: Config, path: str) -> bool:
    """Whether a parameter is one of F, the only ones that are trained."""
    return path.startswith("inference/")


def optimizer(config: Config, learning_rate: Any) -> optax.GradientTransformation:
    """Adam with epsilon 1e-6, whose learning rate grows linearly over the first 100 steps."""
    warm_up = optax.linear_schedule(0.0, 1.0, _WARM_UP)
    return optax.chain(
        optax.scale_by_adam(eps=1e-6),
        optax.scale_by_schedule(lambda count: warm_up(count + 1)),
        optax.scale_by_learning_rate(learning_rate),
    )


def context_of(items_n: Array, places_mx3: Array, window: int, width: int, token: int) -> tuple[Array, Array]:
    """Contexts as rows of `width`: int32 (m, width) items, and their slots, 0 to 2 window; the place is slot `window`.

    Real slots come first, oldest first; after them items are 0 and slots -1. If there are more than `width`, those
    nearest to the place are kept.

    Args:
      items_n: int32, all interactions.
      places_mx3: int32 rows of the table `places`; an end of 0 is an empty context.
      window: items on either side.
      width: of the rows.
      token: id of the item that the place itself shows; 0 for none.
    """
    place_mx1 = places_mx3[:, :1]
    from_mx1, to_mx1 = context_ends(places_mx3, window)
    nearest_mx1 = jnp.minimum(jnp.maximum(from_mx1, place_mx1 - (width - 1) // 2), to_mx1 - width)
    from_mx1 = jnp.maximum(from_mx1, nearest_mx1)
    at_mxw = from_mx1 + jnp.arange(width, dtype=jnp.int32)[None]
    real_mxw = at_mxw < to_mx1
    items_mxw = jnp.where(at_mxw == place_mx1, token, jnp.take(items_n, at_mxw, mode="clip"))
    return jnp.where(real_mxw, items_mxw, 0), jnp.where(real_mxw, at_mxw - place_mx1 + window, -1)


def context_ends(places_mx3: Array, window: int) -> tuple[Array, Array]:
    """int32 (m, 1) twice: the first index of each context, and one past its last."""
    place_mx1, first_mx1, end_mx1 = jnp.split(places_mx3, 3, axis=1)
    return jnp.maximum(first_mx1, place_mx1 - window), jnp.minimum(end_mx1, place_mx1 + window + 1)


def extra(config: Config, sizes: Sizes, data: Any, tables: Tables, batch: Batch, key: Array) -> dict[str, Any]:
    """The head items of a step and their contexts: `learnt`, and an eighth as many `held_out`.

    Slots, numbers of contexts and places of rows are floats, because integers would be taken for ids.
    """
    made, keys = {}, jax.random.split(key, 3)
    token = (sizes.num_items + 1) * int(sizes.bidirectional)
    shots_1 = jax.random.randint(keys[2], (1,), 1, config.shots + 1)
    for name, count, draw_key in (
        ("learnt", config.head_items, keys[0]),
        ("held_out", config.head_items // 8, keys[1]),
    ):
        items = tables[f"{name}_items"]
        if not count or not len(items):
            continue
        item_key, place_key = jax.random.split(draw_key)
        item_n = items[jax.random.randint(item_key, (count,), 0, len(items))]
        which_nxK = jax.random.randint(place_key, (count, config.shots), 0, tables["place_count"][item_n][:, None])
        at_nxK = tables["place_start"][item_n][:, None] + which_nxK
        places_mx3 = take_rows(tables["places"], at_nxK.reshape(-1))
        from_mx1, to_mx1 = context_ends(places_mx3, config.window)
        order_m, place_m = drawn_rows.sort((to_mx1 - from_mx1)[:, 0])
        made[name] = {
            "items": Ids(item_n),
            "shots": jnp.full(count, shots_1.astype(jnp.float32)),
            "rows": place_m.astype(jnp.float32).reshape(count, config.shots),
            "contexts": [],
            "slots": [],
        }
        start = 0
        for rows, width in drawn_rows.groups(tables, "room", len(order_m)):
            own_mx3 = take_rows(places_mx3, order_m[start : start + rows])
            items_mxw, slots_mxw = context_of(data.items_n, own_mx3, config.window, width, token)
            made[name]["contexts"].append(Ids(items_mxw))
            made[name]["slots"].append(slots_mxw.astype(jnp.float32))
            start += rows
    return made


def for_serving(config: Config, apply: Any, params: Any, tables: Tables, data: Any) -> Any:
    """The parameters with inferred rows for tail items that have a context."""
    if not config.serve or not len(tables["tail_items"]):
        return params
    read_mxD = read_contexts(config, apply, params, tables, data)
    count_t, items_t = tables["tail_counts"], tables["tail_items"]
    start_t = jnp.cumsum(count_t) - count_t
    rows_VxD = params["table"]["items"]

    def block(arrays, width, rows_VxD):
        count_b, start_b, items_b, is_one_b = arrays
        at_bxK = start_b[:, None] + jnp.arange(width, dtype=jnp.int32)[None]
        real_bxK = jnp.arange(width, dtype=jnp.int32)[None] < count_b[:, None]
        inferred_bxD = apply(params, tables, take_rows(read_mxD, at_bxK), real_bxK, method="aggregated")
        return rows_VxD.at[jnp.where(is_one_b, items_b, len(rows_VxD))].set(
            inferred_bxD.astype(rows_VxD.dtype), mode="drop"
        )

    rows_VxD = in_blocks((count_t, start_t, items_t), count_t, widths_to(config.most_contexts), block, rows_VxD)
    return {**params, "table": {**params["table"], "items": rows_VxD}}


def read_contexts(config: Config, apply: Any, params: Any, tables: Tables, data: Any) -> Array:
    """(m, D): r_k of each context that serving reads, sorted by item."""
    token = apply(params, tables, method="place_token")
    places_mx3, rows_m = take_rows(tables["places"], tables["tail_places"]), tables["tail_rows"]
    place_m, first_m, end_m = places_mx3.T
    before_m = jnp.minimum(place_m - first_m, config.window)
    length_m = before_m + jnp.minimum(end_m - place_m, config.window + 1)
    items_VxD = params["table"]["items"]

    def block(arrays, width, read_mxD):
        places_bx3, rows_b, is_one_b = arrays
        items_bxw, slots_bxw = context_of(data.items_n, places_bx3, config.window, width, token)
        read_bxD = apply(params, tables, items_bxw, slots_bxw, method="read")
        return read_mxD.at[jnp.where(is_one_b, rows_b, len(read_mxD))].set(read_bxD.astype(read_mxD.dtype), mode="drop")

    empty = jnp.zeros((len(rows_m), items_VxD.shape[1]), wide(items_VxD))
    return in_blocks((places_mx3, rows_m), length_m, widths_to(2 * config.window + 1, 4), block, empty)


def Method(config: Config, loss, sizes, make_backbone) -> Inferring:
    """See `Inferring`."""
    return Inferring(config, loss, sizes, make_backbone, drawn=config.table_start)


class Inferring(SingleView):
    """A frozen `SingleView`, and the network F."""

    def setup(self):
        super().setup()
        c = self.config
        rates = c.dropout, c.attention_dropout
        self.inference = Inference(c.width, c.window, *rates, c.positions, not self.sizes.bidirectional)

    def place_token(self) -> int:
        """The id that the place of a context shows: the mask token if the backbone trains it, else 0."""
        return (self.sizes.num_items + 1) * int(self.sizes.bidirectional)

    def read(self, items_mxw: Array, slots_mxw: Array, deterministic: bool = True) -> Array:
        """(m, D): r_k of contexts, given as the items and slots that `context_of` returns."""
        x_nxD = jax.lax.stop_gradient(self.items(items_mxw.reshape(-1)))
        return self.inference.read(x_nxD.reshape(*items_mxw.shape, -1), slots_mxw, deterministic)

    def aggregated(self, r_nxKxD: Array, real_nxK: Array, deterministic: bool = True) -> Array:
        """(n, D): embeddings inferred from encoded contexts, (n, K, D), those that are real."""
        return self.inference.aggregate(r_nxKxD, real_nxK, deterministic)

    def terms(self, batch: Batch, epoch: Array, deterministic: bool = False) -> dict[str, Term]:
        """The term inference; and with weight 0 ranking, of the frozen model, and inference_valid."""
        students = batch.students
        h_TxD = self.encode(self.slot_views(students, True), students, True, last_only=False)
        vectors = self.items(candidates(self.loss, self.sizes, batch))
        ranking = ranking_term(self.loss, self.sizes, h_TxD, batch, vectors)
        terms, found = {"ranking": Term(ranking.value, 0.0)}, batch.extra or {}
        if "learnt" in found:
            terms["inference"] = Term(self.error(found["learnt"], deterministic), 1.0)
        if "held_out" in found:
            terms["inference_valid"] = Term(self.error(found["held_out"], True), 0.0)
        return terms

    def error(self, asked: Any, deterministic: bool) -> Array:
        """(): the mean of (F(contexts of i) - E[i])^2 over items and components."""
        rows_nxK = asked["rows"].astype(jnp.int32)
        parts = [
            self.read(items.ids, slots.astype(jnp.int32), deterministic)
            for items, slots in zip(asked["contexts"], asked["slots"])
        ]
        r_nxKxD = take_rows(jnp.concatenate(parts), rows_nxK)
        real_nxK = jnp.arange(rows_nxK.shape[1], dtype=jnp.int32)[None] < asked["shots"].astype(jnp.int32)[:, None]
        inferred_nxD = self.aggregated(r_nxKxD, real_nxK, deterministic)
        row_nxD = jax.lax.stop_gradient(self.items(asked["items"].ids))
        return jnp.mean(jnp.square((inferred_nxD - row_nxD).astype(wide(row_nxD))))
