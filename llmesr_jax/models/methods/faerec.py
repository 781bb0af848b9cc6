"""FAERec: adaptive fusion of the ID and the LLM view of an item, and alignment of the two (Wei et al., SIGIR 2026).

An item has an ID embedding e_id, trained from the PCA of the LLM embeddings, and an LLM embedding
P(e_llm) = W2 gelu(W1 e_llm + b1) + b2 over the frozen table (eq. 2). The backbone's stem is applied to each view of a
sequence; a gate fuses them per dimension, g = sigmoid(W4 gelu(W3 [e_id : e_llm] + b3) + b4), x = g e_id + (1 - g) e_llm
(eqs. 3, 4), LayerNorm follows, and one encoder reads the result. An item's vector for scoring is
LayerNorm(e_id + P(e_llm)), with the same LayerNorm; the user's is the encoder's newest position.

Loss: ranking (eq. 13) + beta (w_item L_item + w_feature L_feature) (eqs. 12, 14). L_item is InfoNCE from the ID to the
LLM view (eq. 5), L_feature Barlow Twins between the views, for popular items and others separately (eqs. 6 to 10), both
over the inputs and negatives of the batch. In epoch t = 0, 1, ... with a period T (eq. 11):
w_item = w_min + (w_max - w_min) (1 + cos(2 pi t / T)) / 2, w_feature = 1 - w_item.

Every ablation is one setting: w/o AGF `gate=False` (the ID view alone, or with `without_gate=mean` both views in equal
parts: the paper does not say which), w/o ILA `item_alignment=False`, w/o FLA `feature_alignment=False`, w/o CLS
`curriculum=False`, w/o PG `popularity_groups=False`.

Cost: the mapper, F^2 / 2 + F D / 2 multiply-adds, runs once for each distinct item of a step; the gate takes 6 D^2 per
slot; L_item 3 D for each pair of distinct items, in blocks.

Deviations (defaults are the preset `paper`; the preset `release` sets the release's side):
- Training scores items as ranking does, by LayerNorm(e_id + P(e_llm)); the release trains against e_id alone and
  ranks by the sum (`training_scores=id`). Eq. 13 does not say which item representation it means.
- All occurrences of an item in a step share the mapper's dropout mask, in all terms.
- The cloze task's mask token is not an item and takes no part in the alignment.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from llmesr_jax.core.knobs import knob
from llmesr_jax.models import alignment, losses
from llmesr_jax.models.kernels.dropout import Dropout
from llmesr_jax.models.kernels.mapped_rows import TwoLayers, gelu, map_two_layers
from llmesr_jax.models.layers import settings
from llmesr_jax.models.layers.dense import LayerNorm, take_rows, uniform_bias
from llmesr_jax.models.layers.tables import (
    Distinct,
    ItemTable,
    candidates,
    distinct,
    ranking_term,
)
from llmesr_jax.models.types import (
    Array,
    Batch,
    Needs,
    Sequences,
    Sizes,
    Term,
    wide,
)


@dataclasses.dataclass(frozen=True)
class Config:
    width: int = knob(128, "width of each view, and of the encoder", least=1)
    beta: float = knob(0.2, "beta, weight of the sum of the two alignment losses", least=0, traced=True)
    period: float = knob(30.0, "T, epochs of one period of the curriculum", least=1, traced=True)
    w_min: float = knob(0.9, "minimum weight of the item-level alignment", least=0, most=1, traced=True)
    w_max: float = knob(1.0, "maximum weight of the item-level alignment", least=0, most=1, traced=True)
    temperature: float = knob(0.05, "tau, temperature of the item-level alignment", least=1e-3, traced=True)
    redundancy: float = knob(0.005, "lambda, weight of the off-diagonal correlations", least=0, traced=True)
    alignment_rows: str = knob(
        "occurrences",
        "how often an item of the batch counts in the alignment: occurrences, as often as it occurs, or once",
        choices=("occurrences", "once"),
    )
    training_scores: str = knob(
        "fused",
        "item vectors of training scores: fused, as in ranking, or id, the ID view alone (preset release)",
        choices=("fused", "id"),
    )
    head_user_weight: float = settings.head_user_weight("two alignment losses, on inputs,")
    mapper_dropout: float = knob(0.3, "dropout rate inside the map from the LLM's space", least=0, most=0.99)
    gate_dropout: float = knob(0.1, "dropout rate inside the gate", least=0, most=0.99)
    gate: bool = knob(True, "fuse the views by the gate; False is w/o AGF")
    without_gate: str = knob(
        "id",
        "what the encoder reads without the gate: id, the ID view, or mean, the mean of both views",
        choices=("id", "mean"),
    )
    item_alignment: bool = knob(True, "use the item-level alignment; False is w/o ILA")
    feature_alignment: bool = knob(True, "use the feature-level alignment; False is w/o FLA")
    popularity_groups: bool = knob(True, "align features of popular and other items separately; False is w/o PG")
    curriculum: bool = knob(True, "weights that change with the epoch; False is w/o CLS: two fixed weights")
    fixed_item_weight: float = knob(0.5, "weight of the item-level alignment without curriculum", least=0, traced=True)
    fixed_feature_weight: float = knob(
        0.5, "weight of the feature-level alignment without curriculum", least=0, traced=True
    )


def needs(config: Config) -> Needs:
    """LLM embeddings of the items, their PCA, and the items' popularity if anything is aligned."""
    tables = {"item_llm", "item_pca"}
    if config.item_alignment or config.feature_alignment:
        tables |= {"item_popularity"} | ({"tail_user"} if config.head_user_weight != 1 else set())
    return Needs(frozenset(tables), pca_width=config.width, normed=True)


def alignment_weights(config: Config, epoch: Array) -> tuple[Array, Array]:
    """(w_item, w_feature) in epoch 0, 1, ... (eq. 11)."""
    turn = (1 + jnp.cos(2 * math.pi * epoch / config.period)) / 2
    item = config.w_min + (config.w_max - config.w_min) * turn
    fixed = jnp.asarray(config.fixed_item_weight), jnp.asarray(config.fixed_feature_weight)
    return (item, 1 - item) if config.curriculum else fixed


class _Dense(nn.Module):
    """Kernel and bias that start as PyTorch's, uniform in +-1/sqrt(fan_in)."""

    fan_in: int
    features: int
    zero_bias: bool = False

    @nn.compact
    def __call__(self) -> tuple[Array, Array]:
        start = uniform_bias(self.fan_in)
        kernel = self.param("kernel", start, (self.fan_in, self.features))
        return kernel, self.param("bias", nn.initializers.zeros if self.zero_bias else start, (self.features,))


class Mapper(nn.Module):
    """P (eq. 2): linear F -> F / 2, GELU, dropout, linear -> D."""

    llm_width: int
    width: int
    dropout: float
    whole: bool

    def setup(self):
        hidden = self.llm_width // 2
        self.inner, self.outer = _Dense(self.llm_width, hidden), _Dense(hidden, self.width)

    def __call__(
        self, llm_VxF: Array, ids_n: Array, count: Array, owners_n: Array | None, deterministic: bool
    ) -> Array:
        """int32 (n,) -> (n, D): the first `count` ids mapped; later rows are undefined. Arguments: `map_two_layers`."""
        rate = 0.0 if deterministic else self.dropout
        key = jax.random.key_data(self.make_rng("dropout")) if rate else jnp.zeros(2, jnp.uint32)
        layers = TwoLayers(*self.inner(), *self.outer())
        return map_two_layers(gelu, rate, llm_VxF, layers, ids_n, count, key, owners_n, self.whole)


class Gate(nn.Module):
    """Fuses two views, dimension by dimension (eqs. 3, 4): (2, ..., D) -> (..., D)."""

    width: int
    dropout: float

    def setup(self):
        self.inner = _Dense(2 * self.width, 2 * self.width)
        self.outer = _Dense(2 * self.width, self.width, zero_bias=True)
        self.drop = Dropout(self.dropout)

    def __call__(self, x_2xTxD: Array, sequences: Sequences, deterministic: bool) -> Array:
        by_id, by_llm = x_2xTxD
        (kernel_1, bias_1), (kernel_2, bias_2) = self.inner(), self.outer()
        hidden = jnp.concatenate([by_id, by_llm], axis=-1) @ kernel_1 + bias_1[None]
        hidden = self.drop(jax.nn.gelu(hidden, approximate=False), sequences, deterministic)
        gate = jax.nn.sigmoid(hidden @ kernel_2 + bias_2[None])
        return by_llm + gate * (by_id - by_llm)


class Method(nn.Module):
    """The model; `llmesr_jax.models.methods.Model` says what its methods are."""

    config: Config
    loss: losses.LossConfig
    sizes: Sizes
    make_backbone: Callable[[], nn.Module]

    def setup(self):
        c, sizes = self.config, self.sizes
        self.table = ItemTable(sizes.num_items, c.width)
        self.mapper = Mapper(sizes.llm_width, c.width, c.mapper_dropout, sizes.whole)
        self.fusion = {True: "gate", False: c.without_gate}[c.gate]
        if c.gate:
            self.gate = Gate(c.width, c.gate_dropout)
        self.norm = LayerNorm(1e-12)
        self.backbone = self.make_backbone()

    def views(
        self,
        first_n: Array,
        other_n: Array,
        map_other: bool,
        deterministic: bool,
        most: int | None = None,
        catalogue_n: Array | None = None,
    ) -> tuple[Distinct, Array]:
        """The distinct items of `first_n` and `other_n`, and their two views, (2, n, D), ID first.

        The items of `first_n` come first; the others have no LLM view unless `map_other`.

        Args:
          most: no more items are distinct; None if not known.
          catalogue_n: as in `Batch`.
        """
        llm = self.get_variable("tables", "item_llm")
        found = distinct(llm.shape[0], first_n, other_n, most)
        by_id = take_rows(self.table(self.get_variable("tables", "item_pca")), found.ids_n)
        # Padding's row is not trained, even if a backbone reads it.
        by_id = jnp.where(found.ids_n[:, None] > 0, by_id, jax.lax.stop_gradient(by_id))
        count = found.count if map_other else found.trained
        owners_n = None if catalogue_n is None else take_rows(catalogue_n, found.ids_n)
        return found, jnp.stack([by_id, self.mapper(llm, found.ids_n, count, owners_n, deterministic)])

    def fused(self, views_2xnxD: Array) -> Array:
        """(n, D): the vectors by which items are scored."""
        return self.norm(views_2xnxD[0] + views_2xnxD[1])

    def items(self, ids: Array) -> Array:
        """int32 (n,) -> (n, D): item vectors."""
        found, views_2xnxD = self.views(ids, ids[:0], False, True)
        return take_rows(self.fused(views_2xnxD), found.places[0])

    def slot_views(self, sequences: Sequences, deterministic: bool = True) -> Array:
        """(2, T, D): both views of each slot's item, ID first."""
        found, views_2xnxD = self.views(sequences.items_T, sequences.items_T[:0], False, deterministic)
        return jnp.take(views_2xnxD, found.places[0], axis=1, mode="clip")

    def encode(self, x_2xTxD: Array, sequences: Sequences, deterministic: bool, last_only: bool) -> Array:
        """Turns both views of the slots' items into user vectors: (T, D), or (R, D) with `last_only`."""
        if self.fusion == "id":
            x_TxD = self.backbone.stem(x_2xTxD[0], sequences, deterministic)
        else:
            x_2xTxD = self.backbone.stem(x_2xTxD, sequences, deterministic)
            mean = lambda x_2xTxD, *_: (x_2xTxD[0] + x_2xTxD[1]) / 2  # noqa: E731
            x_TxD = (self.gate if self.fusion == "gate" else mean)(x_2xTxD, sequences, deterministic)
        return self.backbone(self.norm(x_TxD), sequences, deterministic, last_only)

    def users(self, sequences: Sequences, deterministic: bool = True) -> Array:
        """(R, D): user vectors. The score of an item is its vector's dot product with this."""
        return self.encode(self.slot_views(sequences, deterministic), sequences, deterministic, last_only=True)

    def parts(self, x_2xnxD: Array) -> dict[str, Array]:
        """{name: (n, D)}: parts that add up to the vectors by which items are scored, from their `slot_views`.

        LayerNorm is linear for a given deviation of the sum, so each view has its own part, and so has the bias.
        """
        total_nxD = self.fused(x_2xnxD)
        bias_nxD = jnp.broadcast_to(
            self.norm.variables["params"]["bias"].astype(total_nxD.dtype)[None], total_nxD.shape
        )
        centred = x_2xnxD - x_2xnxD.mean(axis=-1, keepdims=True)
        variance = jnp.square(centred.sum(axis=0)).mean(axis=-1, keepdims=True)
        scale_D = self.norm.variables["params"]["scale"].astype(total_nxD.dtype)
        by_id = centred[0] * jax.lax.rsqrt(variance + self.norm.epsilon) * scale_D[None]
        return {"id": by_id, "semantic": total_nxD - bias_nxD - by_id, "constant": bias_nxD}

    def less_of_head_users(self, students: Sequences) -> Array:
        """(T,): `head_user_weight` - 1 for the slots of head users, 0 for all others; added to an item's count."""
        users_T = take_rows(students.users_R, students.row_T)
        is_tail_T = take_rows(self.get_variable("tables", "tail_user"), jnp.maximum(users_T, 0))
        return jnp.where(is_tail_T | (users_T < 0), 0.0, self.config.head_user_weight - 1)

    def terms(self, batch: Batch, epoch: Array, deterministic: bool = False) -> dict[str, Term]:
        """The terms ranking, item_alignment and feature_alignment; `epoch` counts from 1."""
        c, students = self.config, batch.students
        slots, fused = len(students.items_T), c.training_scores == "fused"
        negatives = [batch.negatives_TxK.reshape(-1), *([] if batch.shared_K is None else [batch.shared_K])]
        first_n = jnp.concatenate([students.items_T, *negatives])
        scored_n = candidates(self.loss, self.sizes, batch)  # only targets are new in these, or they are all items
        most = None if self.loss.all_items else len(first_n) + slots
        found, views_2xnxD = self.views(first_n, scored_n, fused, deterministic, most, batch.catalogue_n)
        places_n, scored_places_n = found.places
        x_2xTxD = jnp.take(views_2xnxD, places_n[:slots], axis=1, mode="clip")
        h_TxD = self.encode(x_2xTxD, students, deterministic, last_only=batch.newest_only)
        vectors_nxD = self.fused(views_2xnxD) if fused else views_2xnxD[0]
        scored = take_rows(vectors_nxD, scored_places_n)
        terms = {"ranking": ranking_term(self.loss, self.sizes, h_TxD, batch, scored)}
        if not (c.item_alignment or c.feature_alignment):
            return terms

        room = min(len(found.ids_n), len(first_n))  # the distinct items of `first_n` are in these places
        popularity_n = take_rows(self.get_variable("tables", "item_popularity"), found.ids_n[:room])
        counts_n = jnp.zeros(room, jnp.int32).at[places_n].add(1)
        if c.head_user_weight != 1:
            counts_n = counts_n.astype(wide(views_2xnxD)).at[places_n[:slots]].add(self.less_of_head_users(students))
        counts_n = jnp.where(popularity_n > 0, counts_n, 0)  # excludes padding and mask token
        if c.alignment_rows == "once":
            counts_n = jnp.minimum(counts_n, 1)
        by_id, by_llm = views_2xnxD[:, :room]
        w_item, w_feature = alignment_weights(c, jnp.maximum(epoch - 1, 0))
        if c.item_alignment:
            value = alignment.info_nce(by_id, by_llm, counts_n, temperature=c.temperature, whole=self.sizes.whole)
            terms["item_alignment"] = Term(value, c.beta * w_item)
        if c.feature_alignment:
            value = alignment.feature_alignment(
                by_id, by_llm, counts_n, popularity_n, redundancy=c.redundancy, groups=c.popularity_groups
            )
            terms["feature_alignment"] = Term(value, c.beta * w_feature)
        return terms
