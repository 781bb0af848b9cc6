"""MELT: two linear maps learn on the head what many observations add to few (Kim et al., SIGIR 2023).

Starts from a trained plain backbone (`--start`) and continues to train all of it. f(S) is the encoder's newest vector.
- Contexts of an item, one or two for each of its places in a training sequence: all items up to it, and, if the
  sequence has more than one item, all from its end back to it. The item is the newest of both.
- Users: r = f(newest R items), R uniform up to T_U - 1, p = f(all) of a head user;
  L_u = mean w_u (W_U r - p)^2, w_u = |sin(pi/2 e / e_max + pi / (2 (L - T_U - 1)) (min(n_u, L) - T_U - 1))|.
- Items: r = the mean over k contexts of f(C) + W_U f(C), k uniform up to T_I, of a head item;
  L_i = mean w_i (W_I r - E[i])^2, w_i = |sin(pi/2 e / e_max + pi/100 (min(c_i, T_I + 50) - T_I - 1))|.
- Before each epoch e = 0, 1, ...: E[i] <- W_I (mean of f over all contexts of i) for the tail items that have one.
- Loss: ranking + lambda_U L_u + lambda_I L_i. A tail user is served h + W_U h, a head user h.
T_U and T_I are the largest training length and count in the tail, L is `data.max_len`.

Cost: a step encodes B / 5 head users twice and T_I contexts of each of its head items, in rows of a few lengths
(`drawn_rows`); a renewal encodes all contexts of tail items, in blocks of rows.

Deviations. In the release each head user and item comes once per epoch; here each step draws so many that this is the
mean. The release's item weight is inside the square (`square_weights`, preset `release`), and its first renewal comes
before the first epoch, by a W_I that has learnt nothing (`renew_from=0`, preset `release`); ours comes before the
second. e_max is `curriculum_epochs`, a setting, because early stopping decides when training ends. The release's
thresholds are quantiles (.8 of lengths, .78 of counts); ours follow from our head, the top fifth. A user who is not in
the data is tail by the length of the input. lambda_U, lambda_I, e_max are those on Beauty.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from llmesr_jax.core.axes import ITEM, Table
from llmesr_jax.core.knobs import knob
from llmesr_jax.data import groups
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.data.occurrences import occurrences
from llmesr_jax.models.kernels import drawn_rows
from llmesr_jax.models.kernels.row_blocks import in_blocks, widths_to
from llmesr_jax.models.layers import settings
from llmesr_jax.models.layers.dense import dense, take_rows
from llmesr_jax.models.layers.tables import SingleView, candidates, ranking_term
from llmesr_jax.models.types import (
    Array,
    Batch,
    Ids,
    Needs,
    Sequences,
    Sizes,
    Tables,
    Term,
    from_rows,
    wide,
)

ON_A_MESH = True
_BEFORE, _BEHIND = -1, 1  # the direction, in the data, from a context's newest item to its older ones


@dataclasses.dataclass(frozen=True)
class Config:
    width: int = knob(128, "width of the item table and the encoder", least=1)
    table_start: str = settings.table_start()
    user_weight: float = knob(0.1, "lambda_U, weight of the loss of the users' map; 0: none", least=0, traced=True)
    item_weight: float = knob(0.4, "lambda_I, weight of the loss of the items' map; 0: none", least=0, traced=True)
    curriculum_epochs: int = knob(180, "e_max, epochs of the curriculum", least=1)
    context_len: int = knob(0, "longest context of an item, in items; 0: data.max_len", least=0)
    square_weights: bool = knob(False, "the items' weights are inside the square (preset release)")
    renew: bool = knob(True, "renew the rows of tail items before each epoch")
    renew_from: int = knob(1, "epochs before the first renewal (0 in preset release)", least=0)
    renew_enhanced: bool = knob(False, "renew from f + W_U f, the input on which W_I is trained; False: from f")
    keep: float = knob(0.0, "gamma, factor of the old row that is added to a renewed row", least=0)
    correction: float = knob(1.0, "beta, factor of W_U h that is added to a served tail user's h; 0: none", least=0)


def needs(config: Config) -> Needs:
    """Which users and items are tail, items' counts, and contexts."""
    own = {
        "contexts": Table(),
        "context_start": Table(ITEM),
        "context_count": Table(ITEM),
        "tail_contexts": Table(),
        "tail_context_items": Table(holds_ids=True),
        "head_item_ids": Table(holds_ids=True),
        "head_user_rows": Table(holds_ids=True),
        "thresholds": Table(),
        "fewer": Table(),
        "user_lengths": Table(),
    } | {name: Table() for name in drawn_rows.names("room")}
    return Needs(frozenset({"item_popularity", "tail_user"}), own=own, start=True)


def tables(corpus: Corpus, config: Config) -> dict[str, np.ndarray]:
    """The tables of `needs`, int32.

    contexts (n, 3): the index of the newest item among all interactions, the direction of older ones (-1: before it, 1:
    after it), and the number of items; sorted by item, those of an item from `context_start` (V + 2,) on,
    `context_count` (V + 2,) in number. tail_contexts (m,): rows of `contexts` of tail items, longest first;
    tail_context_items (m,): their items. head_item_ids, head_user_rows: what steps draw from. thresholds: T_U, T_I.
    fewer, user_lengths: 1, 2, ...: possible numbers of an item's contexts and of a user's items that a step draws; only
    their lengths are read. room_0, ...: rows for a step's contexts, see `drawn_rows`.
    """
    found = occurrences(corpus)
    item_n = np.repeat(np.arange(corpus.num_items + 2), found.count_V)
    before = np.stack([found.place_n, np.full_like(found.place_n, _BEFORE), found.place_n - found.first_n + 1], axis=1)
    behind = np.stack([found.place_n, np.full_like(found.place_n, _BEHIND), found.end_n - found.place_n], axis=1)
    is_several_n = found.end_n - found.first_n > 1
    both = np.concatenate([before, behind[is_several_n]])
    item_both = np.concatenate([item_n, item_n[is_several_n]])
    order = np.argsort(item_both, kind="stable")
    contexts, item_m = both[order], item_both[order]
    count_V = np.bincount(item_m, minlength=corpus.num_items + 2)
    head_V, head_U = groups.head_items(corpus), groups.head_users(corpus)
    of_tail = np.flatnonzero(~np.pad(head_V, 1)[item_m])
    of_tail = of_tail[np.argsort(-contexts[of_tail, 2], kind="stable")]
    most_length = int(corpus.train_lengths_U[~head_U].max(initial=1))
    most_count = int(corpus.item_counts_V[~head_V].max(initial=1))
    made = {
        "contexts": contexts,
        "context_start": np.cumsum(count_V) - count_V,
        "context_count": count_V,
        "tail_contexts": of_tail,
        "tail_context_items": item_m[of_tail],
        "head_item_ids": np.flatnonzero(head_V & (corpus.item_counts_V > 0)) + 1,
        "head_user_rows": np.flatnonzero(head_U & (corpus.train_lengths_U > 0)),
        "thresholds": np.array([most_length, most_count]),
        "fewer": np.arange(1, max(1, most_count) + 1),
        "user_lengths": np.arange(1, max(1, most_length - 1) + 1),
    }
    made = {name: table.astype(np.int32) for name, table in made.items()}
    of_head = np.isin(item_m, made["head_item_ids"])
    length_m = contexts[of_head, 2]
    chance_m = 1 / count_V[item_m[of_head]] / max(len(made["head_item_ids"]), 1)
    return made | drawn_rows.plan("room", length_m, chance_m, int(length_m.max(initial=1)))


def context_items(items_n: Array, contexts_mx3: Array, width: int, token: int = 0) -> Array:
    """The newest `width` items of contexts, oldest first, then zeros: int32 (m, width), or (m, width + 1) with a token.

    Args:
      items_n: int32, all interactions.
      contexts_mx3: rows of the table `contexts`; a length of 0 is an empty context.
      width: most items of a context.
      token: id that follows the newest item; 0 for none.
    """
    place_mx1, sign_mx1, length_mx1 = jnp.split(contexts_mx3, 3, axis=1)
    length_mx1 = jnp.minimum(length_mx1, width)
    column_1xL = jnp.arange(width + (token > 0), dtype=jnp.int32)[None]
    items_mxL = jnp.take(items_n, place_mx1 + sign_mx1 * (length_mx1 - 1 - column_1xL), mode="clip")
    items_mxL = jnp.where(column_1xL < length_mx1, items_mxL, 0)
    return jnp.where((column_1xL == length_mx1) & (length_mx1 > 0) & (token > 0), token, items_mxL)


def uniform(draws_n: Array, most_n: Array) -> Array:
    """int32 (n,): 0 to most - 1 with equal probability, from uniform numbers in [0, 1)."""
    return jnp.clip((draws_n * most_n.astype(draws_n.dtype)).astype(jnp.int32), 0, jnp.maximum(most_n - 1, 0))


def subsets(draws_nxK: Array, size_n: Array, count_n: Array) -> Array:
    """int32 (n, K): random subsets of the numbers below `count`, every subset of `size` with equal probability.

    A subset is in the first `size` places, ascending.

    Args:
      draws_nxK: uniform in [0, 1).
      size_n, count_n: int32; a size is at most K and at most the count.
    """
    n, most = draws_nxK.shape
    order_1xK = jnp.arange(most, dtype=jnp.int32)[None]

    def one(j, chosen_nxK):
        draw_n = uniform(draws_nxK[:, j], count_n - j)
        # The number with index `draw` among those not chosen yet; the j chosen ones are sorted.
        skipped_nxK = (chosen_nxK - order_1xK <= draw_n[:, None]) & (order_1xK < j)
        number_n = draw_n + jnp.sum(skipped_nxK, axis=1, dtype=jnp.int32)
        chosen_nxK = jnp.where((order_1xK == j) & (j < size_n)[:, None], number_n[:, None], chosen_nxK)
        return jnp.sort(chosen_nxK, axis=1)

    return jax.lax.fori_loop(0, most, one, jnp.full((n, most), np.iinfo(np.int32).max, jnp.int32))


def user_weights(epoch: Array, epochs: int, lengths_n: Array, longest: int, threshold: Array) -> Array:
    """float (n,): w_u in epoch 0, 1, ...; 1 if `longest` is at most T_U + 1, where the formula divides by 0."""
    room = (longest - threshold - 1).astype(epoch.dtype)
    beyond_n = jnp.minimum(lengths_n, longest).astype(epoch.dtype) - threshold.astype(epoch.dtype) - 1
    angle_n = math.pi / 2 * epoch / epochs + math.pi / (2 * jnp.maximum(room, 1)) * beyond_n
    return jnp.where(room > 0, jnp.abs(jnp.sin(angle_n)), 1)


def item_weights(epoch: Array, epochs: int, counts_n: Array, threshold: Array) -> Array:
    """float (n,): w_i in epoch 0, 1, ..."""
    beyond_n = (jnp.minimum(counts_n, threshold + 50) - threshold - 1).astype(epoch.dtype)
    return jnp.abs(jnp.sin(math.pi / 2 * epoch / epochs + math.pi / 100 * beyond_n))


def extra(config: Config, sizes: Sizes, data: Any, tables: Tables, batch: Batch, key: Array) -> dict[str, Any]:
    """What the maps learn from in a step: head users (`recent`, `whole`), and head items with some of their contexts.

    Lengths, numbers of contexts and places of rows are floats, because integers would be taken for ids.
    """
    rows, (num_users,) = len(batch.students.last_R), data.train_U.shape
    token = (sizes.num_items + 1) * int(sizes.bidirectional)
    room = sizes.max_len - int(sizes.bidirectional)
    keys = jax.random.split(key, 5)
    made = {}

    def laid_out(contexts_mx3, width):
        return from_rows(context_items(data.items_n, contexts_mx3, width, token), batch.students, sizes.max_len)

    if config.user_weight and len(tables["head_user_rows"]):
        user_n = _picked(keys[0], tables["head_user_rows"], rows, num_users)
        length_n = data.train_U[user_n]
        few = len(tables["user_lengths"])
        recent_n = 1 + uniform(jax.random.uniform(keys[1], user_n.shape), jnp.full_like(user_n, few))
        newest_n = data.start_U[user_n] + length_n - 1
        for name, count_n, width in (("recent", jnp.minimum(recent_n, length_n), few), ("whole", length_n, room)):
            context_nx3 = jnp.stack([newest_n, jnp.full_like(newest_n, _BEFORE), count_n], axis=1)
            made[name] = laid_out(context_nx3, min(width, room))
        made["lengths"] = length_n.astype(jnp.float32)
    if config.item_weight and len(tables["head_item_ids"]):
        item_n = _picked(keys[2], tables["head_item_ids"], rows, num_users)
        most, count_n = len(tables["fewer"]), tables["context_count"][item_n]
        fewer_n = 1 + uniform(jax.random.uniform(keys[3], item_n.shape), jnp.minimum(count_n, most))
        which_nxK = subsets(jax.random.uniform(keys[4], (len(item_n), most)), fewer_n, count_n)
        is_one_nxK = jnp.arange(most, dtype=jnp.int32)[None] < fewer_n[:, None]
        at_nxK = jnp.where(is_one_nxK, tables["context_start"][item_n][:, None] + which_nxK, 0)
        context_mx3 = take_rows(tables["contexts"], at_nxK.reshape(-1))
        context_mx3 = jnp.where(is_one_nxK.reshape(-1, 1), context_mx3, 0)
        order_m, place_m = drawn_rows.sort(context_mx3[:, 2])
        parts, start = [], 0
        for count, width in drawn_rows.groups(tables, "room", len(order_m)):
            own_mx3 = take_rows(context_mx3, order_m[start : start + count])
            parts.append(laid_out(own_mx3, min(width, room, config.context_len or room)))
            start += count
        made["contexts"], made["rows"] = (
            drawn_rows.together(parts),
            place_m.astype(jnp.float32).reshape(len(item_n), -1),
        )
        made["items"], made["fewer"] = Ids(item_n), fewer_n.astype(jnp.float32)
    return made


def _picked(key: Array, heads_n: Array, rows: int, num_users: int) -> Array:
    """int32: random heads, as many per step as makes one per head and epoch on average."""
    count = -(-len(heads_n) * rows // num_users)
    return heads_n[uniform(jax.random.uniform(key, (count,)), jnp.full(count, len(heads_n), jnp.int32))]


def before_epoch(config: Config, apply: Any, params: Any, tables: Tables, data: Any, epoch: Array) -> Any:
    """The parameters with the rows of tail items renewed; `epoch` counts from 1."""
    if not config.renew or not len(tables["tail_contexts"]):
        return params
    sizes = apply(params, tables, method="given_sizes")

    def renewed(params):
        mean_VxD, has_V = context_means(config, sizes, apply, params, tables, data)
        items_VxD = params["table"]["items"]
        new_VxD = apply(params, tables, mean_VxD, method="renewal") + config.keep * items_VxD
        rows_VxD = jnp.where(has_V[:, None], new_VxD.astype(items_VxD.dtype), items_VxD)
        return {**params, "table": {**params["table"], "items": rows_VxD}}

    return jax.lax.cond(epoch > config.renew_from, renewed, lambda params: params, params)


def context_means(
    config: Config, sizes: Sizes, apply: Any, params: Any, tables: Tables, data: Any
) -> tuple[Array, Array]:
    """(V + 2, D): the mean of f over all contexts of each tail item; bool (V + 2,): which items have one.

    Contexts are encoded in blocks of rows of a few lengths.
    """
    token = (sizes.num_items + 1) * int(sizes.bidirectional)
    room = sizes.max_len - int(sizes.bidirectional)
    room = min(room, config.context_len or room)
    context_mx3, item_m = take_rows(tables["contexts"], tables["tail_contexts"]), tables["tail_context_items"]
    nothing = jnp.zeros(1, jnp.int32)
    like = Sequences(nothing, nothing, nothing, ((1, 1),), left_out_R=nothing, items_first=True)

    def block(arrays, width, sum_VxD):
        context_bx3, item_b, is_one_b = arrays
        context_bx3 = jnp.where(is_one_b[:, None], context_bx3, 0)
        rows = from_rows(context_items(data.items_n, context_bx3, width, token), like, sizes.max_len)
        f_bxD = apply(params, tables, rows, method="encoded").astype(sum_VxD.dtype)
        return sum_VxD.at[jnp.where(is_one_b, item_b, len(sum_VxD))].add(f_bxD, mode="drop")

    items_VxD = params["table"]["items"]
    empty = jnp.zeros_like(items_VxD, dtype=wide(items_VxD))
    length_m = jnp.minimum(context_mx3[:, 2], room)
    sum_VxD = in_blocks((context_mx3, item_m), length_m, widths_to(room, 4), block, empty)
    count_V = jnp.zeros(sizes.num_items + 2, jnp.int32).at[item_m].add(1)
    return sum_VxD / jnp.maximum(count_V, 1).astype(sum_VxD.dtype)[:, None], count_V > 0


def Method(config: Config, loss, sizes, make_backbone) -> Mapped:
    """See `Mapped`."""
    return Mapped(config, loss, sizes, make_backbone, drawn=config.table_start)


class Mapped(SingleView):
    """A `SingleView` with a map for users and one for items."""

    def setup(self):
        super().setup()
        self.user_map, self.item_map = (dense(self.config.width, self.config.width) for _ in range(2))

    def given_sizes(self) -> Sizes:
        """The numbers that the model is built from."""
        return self.sizes

    def encoded(self, sequences: Sequences, deterministic: bool = True) -> Array:
        """(R, D): f of each row."""
        return super().encode(self.slot_views(sequences, deterministic), sequences, deterministic, last_only=True)

    def renewal(self, mean_VxD: Array) -> Array:
        """(V + 2, D): the renewed rows of items, from the means over their contexts."""
        mean_VxD = mean_VxD + self.user_map(mean_VxD) if self.config.renew_enhanced else mean_VxD
        return self.item_map(mean_VxD)

    def encode(self, x_TxD: Array, sequences: Sequences, deterministic: bool, last_only: bool) -> Array:
        """As in `SingleView`; with `last_only`, tail users' vectors are corrected by W_U."""
        h = super().encode(x_TxD, sequences, deterministic, last_only)
        if not (last_only and self.config.correction):
            return h
        users_R, most = sequences.users_R, self.get_variable("tables", "thresholds")[0]
        length_R = sequences.newest_R + 1 - int(self.sizes.bidirectional)
        known_R = take_rows(self.get_variable("tables", "tail_user"), jnp.maximum(users_R, 0))
        is_tail_R = jnp.where(users_R >= 0, known_R, length_R <= most)
        return h + jnp.where(is_tail_R[:, None], self.config.correction * self.user_map(h), 0)

    def terms(self, batch: Batch, epoch: Array, deterministic: bool = False) -> dict[str, Term]:
        """The terms ranking, users and items (those whose weight is not 0); `epoch` counts from 1."""
        c, students, since = self.config, batch.students, jnp.maximum(epoch - 1, 0)
        if self.is_initializing():  # makes both maps, even if none is trained
            self.item_map(self.user_map(jnp.zeros((1, c.width))))
        h_TxD = self.encode(self.slot_views(students, deterministic), students, deterministic, last_only=False)
        vectors = self.items(candidates(self.loss, self.sizes, batch))
        terms = {"ranking": ranking_term(self.loss, self.sizes, h_TxD, batch, vectors)}
        found = batch.extra or {}
        if "whole" in found:
            terms["users"] = Term(self.users_loss(found, since, deterministic), c.user_weight)
        if "contexts" in found:
            terms["items"] = Term(self.items_loss(found, since, deterministic), c.item_weight)
        return terms

    def users_loss(self, found: Any, epoch: Array, deterministic: bool) -> Array:
        """(): L_u; `epoch` counts from 0."""
        few_nxD, all_nxD = (self.encoded(found[name], deterministic) for name in ("recent", "whole"))
        threshold = self.get_variable("tables", "thresholds")[0]
        weight_n = user_weights(epoch, self.config.curriculum_epochs, found["lengths"], self.sizes.max_len, threshold)
        square_nxD = jnp.square((self.user_map(few_nxD) - all_nxD).astype(wide(all_nxD)))
        return jnp.mean(weight_n[:, None] * square_nxD)

    def items_loss(self, found: Any, epoch: Array, deterministic: bool) -> Array:
        """(): L_i; `epoch` counts from 0."""
        ids_n, fewer_n = found["items"].ids, found["fewer"]
        f_mxD = self.encoded(found["contexts"], deterministic)
        f_nxKxD = take_rows(f_mxD + self.user_map(f_mxD), found["rows"].astype(jnp.int32))
        is_one_nxK = jnp.arange(f_nxKxD.shape[1], dtype=fewer_n.dtype)[None] < fewer_n[:, None]
        sum_nxD = jnp.sum(jnp.where(is_one_nxK[..., None], f_nxKxD, 0), axis=1)
        off_nxD = self.item_map(sum_nxD / fewer_n.astype(sum_nxD.dtype)[:, None]) - self.items(ids_n)
        counts_n = take_rows(self.get_variable("tables", "item_popularity"), ids_n)
        threshold = self.get_variable("tables", "thresholds")[1]
        weight_n = item_weights(epoch, self.config.curriculum_epochs, counts_n, threshold)
        weight_n = jnp.square(weight_n) if self.config.square_weights else weight_n
        return jnp.mean(weight_n[:, None] * jnp.square(off_nxD.astype(wide(off_nxD))))
