"""RLMRec-Gen: reconstructs LLM embeddings of hidden items from the encoder's output (Ren et al., WWW 2024; `*_gene`).

In each step every item of the inputs is hidden with probability rho, at all its places: a learnable token m replaces
its ID embedding. One pass over these inputs gives the ranking loss and, by G(h) = W2 leaky_relu(W1 h + b1) + b2, which
is (D + F) / 2 wide inside, a reconstruction of the hidden items:
  L = mean over hidden places of -log(e^(cos(G(h), l) / tau) / sum over all hidden items of e^(cos(G(h), l') / tau)),
l the frozen LLM embedding of the item, h the encoder's output at its place. With `users`, the newest vector of every
student who has a hidden item is a row too, with l the user's embedding. Users and items are negatives of each other;
other places of the same item or user are not. Loss: ranking + weight L. Scores are those of `none` and do not use the
LLM. `hidden_share=0, weight=0` is `none`.

A causal encoder's h at a hidden place depends on earlier items and the token. An encoder that learns from the last
position here has an output at all places (`Needs.all_slots`), which depends on later items too, but not on the hidden
one; the ranking loss stays at the last position.

Cost: G, D (D + F) / 2 + F (D + F) / 2 multiply-adds forward and twice that backward, runs once for each hidden place
and student; InfoNCE takes 2 F for each pair of such a row and a distinct item or user.

Deviations. RLMRec enhances graph models: there nodes of the graph, users and items, are hidden, a share rho of all of
them, drawn in each step; the release computes the ranking loss, targets and negatives included, from the same masked
pass. A sequence has no nodes of users to hide, and a target's vector that is only the token would have no meaning, so
here items are hidden in inputs only. At least one item of a step is hidden, as in the release. The release adds 1e-8
inside and outside of the fraction, and penalises all parameters (1e-7); both are left out. An item without an embedding
(a row of zeros) is hidden, but is not a row of the loss. The embeddings are of the data set's own texts and not of
profiles written by an LLM, as in both papers' comparisons. The paper speaks of a regularisation by similarity; InfoNCE
is the release's form. Defaults are the release's for LightGCN on Amazon; those on Yelp are in `configs/yelp.py`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from llmesr_jax.core.knobs import knob
from llmesr_jax.models import alignment
from llmesr_jax.models.kernels.dropout import words
from llmesr_jax.models.kernels.mapped_rows import map_two_layers
from llmesr_jax.models.layers import settings
from llmesr_jax.models.layers.dense import take_rows
from llmesr_jax.models.layers.tables import (
    SingleView,
    candidates,
    distinct,
    ranking_term,
)
from llmesr_jax.models.methods.rlmrec_con import Mapper
from llmesr_jax.models.types import (
    Array,
    Batch,
    Ids,
    Needs,
    Sizes,
    Tables,
    Term,
)

ON_A_MESH = True


@dataclasses.dataclass(frozen=True)
class Config:
    width: int = knob(128, "width of the item table and the encoder", least=1)
    table_start: str = settings.table_start()
    hidden_share: float = knob(0.15, "rho, share of a step's input items that are hidden", least=0, most=0.5)
    weight: float = knob(0.1, "weight of the reconstruction of LLM embeddings; 0: none", least=0, traced=True)
    temperature: float = knob(0.5, "tau, temperature of the reconstruction", least=1e-3, traced=True)
    users: bool = knob(True, "also reconstruct users who have a hidden item")


def needs(config: Config) -> Needs:
    """LLM embeddings of items and users, and outputs at all slots, if weight and share are not 0."""
    reconstructs = bool(config.weight and config.hidden_share)
    return Needs(frozenset({"item_llm", "user_llm"} if reconstructs else ()), all_slots=reconstructs)


def hidden_slots(share: float, num_items: int, items_T: Array, key: Array) -> Array:
    """bool (T,): slots whose item is hidden. An item is hidden in all its slots or in none; the mask token never is.

    At least one item is hidden, if there is any: the one with the lowest draw. A draw depends only on the key and the
    item's id.

    Args:
      share: rho.
      num_items: V.
      items_T: int32.
      key: random key.
    """
    real_T = (items_T > 0) & (items_T <= num_items)
    draws_T = words(key, items_T)
    lowest = jnp.min(jnp.where(real_T, draws_T, jnp.uint32(2**32 - 1)))
    return real_T & ((draws_T < jnp.uint32(share * 2**32)) | (draws_T == lowest))


def extra(config: Config, sizes: Sizes, data: Any, tables: Tables, batch: Batch, key: Array) -> dict[str, Ids]:
    """{"hidden": the hidden item of each slot, 0 for none}."""
    if not config.hidden_share:
        return {}
    items_T = batch.students.items_T
    hidden_T = hidden_slots(config.hidden_share, sizes.num_items, items_T, key)
    return {"hidden": Ids(jnp.where(hidden_T, items_T, 0))}


def Method(config: Config, loss, sizes, make_backbone) -> Reconstructing:
    """See `Reconstructing`."""
    return Reconstructing(config, loss, sizes, make_backbone, drawn=config.table_start)


class Reconstructing(SingleView):
    """A `SingleView` that hides items in training, with one more term."""

    def setup(self):
        super().setup()
        self.reconstructs = self.has_variable("tables", "user_llm")  # weight and share are not 0: see `needs`
        width, llm_width = self.config.width, self.sizes.llm_width
        if self.config.hidden_share:
            self.token = self.param("token", nn.initializers.zeros, (width,))
        if self.reconstructs:
            self.decoder = Mapper((width, (width + llm_width) // 2, llm_width))

    def terms(self, batch: Batch, epoch: Array, deterministic: bool = False) -> dict[str, Term]:
        """The terms ranking and reconstruction (if weight and share are not 0)."""
        c, students = self.config, batch.students
        hidden_T = self.hidden(batch)
        x_TxD = self.slot_views(students, deterministic)
        if c.hidden_share:
            x_TxD = jnp.where(hidden_T[:, None], self.token.astype(x_TxD.dtype)[None, :], x_TxD)
        h_TxD = self.encode(x_TxD, students, deterministic, last_only=False)
        vectors = self.items(candidates(self.loss, self.sizes, batch))
        terms = {"ranking": ranking_term(self.loss, self.sizes, h_TxD, batch, vectors)}
        if self.reconstructs:
            terms["reconstruction"] = Term(self.reconstruction(h_TxD, hidden_T, batch), c.weight)
        return terms

    def hidden(self, batch: Batch) -> Array:
        """bool (T,): the slots whose item is hidden; none in a batch made by hand."""
        items_T = batch.students.items_T
        if not batch.extra:
            return jnp.zeros(len(items_T), bool)
        is_hidden = jnp.zeros(len(self.table()), bool).at[batch.extra["hidden"].ids].set(True)
        return take_rows(is_hidden, items_T) & (items_T > 0)

    def reconstruction(self, h_TxD: Array, hidden_T: Array, batch: Batch) -> Array:
        """(): L, users and items in one InfoNCE."""
        students, users = batch.students, batch.users_B
        item_llm, user_llm = (self.get_variable("tables", name) for name in ("item_llm", "user_llm"))
        hidden_B = jnp.zeros(len(users), bool).at[students.row_T].max(hidden_T)
        hidden_B = hidden_B & batch.distils_B & self.config.users
        # A user's pair is the first row of that user; the pairs of items follow those of all users.
        first_U = (
            jnp.full(len(user_llm), len(users), jnp.int32)
            .at[users]
            .min(jnp.where(hidden_B, students.order_R, len(users)))
        )
        found = distinct(len(item_llm), jnp.where(hidden_T, students.items_T, 0), students.items_T[:0])
        llm_MxF = jnp.concatenate([take_rows(user_llm, users), take_rows(item_llm, found.ids_n)])
        pairs_N = jnp.concatenate([students.row_at(take_rows(first_U, users)), len(users) + found.places[0]])
        is_row_N = jnp.concatenate([hidden_B, hidden_T]) & take_rows(jnp.any(llm_MxF != 0, axis=1), pairs_N)
        counts_M = jnp.zeros(len(llm_MxF), jnp.int32).at[pairs_N].add(is_row_N.astype(jnp.int32), mode="drop")
        # Rows of the loss come first, so that G and InfoNCE skip the others.
        order_N = jnp.argsort(~is_row_N, stable=True)
        slots_N = jnp.concatenate([students.last_R, jnp.arange(len(hidden_T), dtype=jnp.int32)])[order_N]
        count, no_dropout = jnp.sum(is_row_N, dtype=jnp.int32), jnp.zeros(2, jnp.uint32)
        made_NxF = map_two_layers(
            jax.nn.leaky_relu, 0.0, h_TxD, self.decoder(), slots_N, count, no_dropout, None, self.sizes.whole
        )
        return alignment.info_nce(
            made_NxF,
            llm_MxF,
            counts_M,
            temperature=self.config.temperature,
            pairs_N=pairs_N[order_N],
            weights_N=is_row_N[order_N],
            whole=self.sizes.whole,
        )
