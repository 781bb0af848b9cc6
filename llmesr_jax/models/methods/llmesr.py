"""LLM-ESR: dual-view modelling and retrieval-augmented self-distillation (Liu et al., NeurIPS 2024).

Items have two vectors: semantic, e_se = W2 (W1 e_llm + b1) + b2 over the frozen LLM embedding (eq. 2), and
collaborative, e_co, a trainable table that starts at the PCA of the LLM embeddings. A user's two sequences of
vectors exchange information by cross-attention, once each way (eq. 4), then one shared encoder reads each (eq. 3).
The score is [e_co : e_se] . [u_co : u_se] (eq. 5). Loss: ranking (eq. 6) plus alpha times the distance between the
user and the mean of the similar users, whose gradient is stopped (eqs. 8 to 10).

Every variant of the paper is one setting: w/o co-view `views=semantic`, w/o se-view `views=collaborative`,
w/o SD `alpha=0`, w/o share `share=False`, w/o CA `cross_attention=False`, `adapter_layers=1`, random init
`collaborative_start=random`, w/o F `freeze_semantic=False`. `head_user_weight` is from HSUGA, see `layers.settings`.

Deviations (defaults are the preset `paper`; where a setting is named, the preset `release` sets the release's side):
- Cross-attention has one head and no output projection, and is causal, so that no position sees its own target. The
  release has two heads and an output projection, and is not causal (`cross_heads`, `cross_output`, `cross_causal`).
- The distillation's student is the newest position of the ranking pass; the release encodes the student a second time
  under fresh dropout (`second_pass`), and its teachers run with dropout on (`teacher_dropout`).
- The squared error is averaged over components, as in the release: alpha = 0.1 belongs to that mean.
- `share=False` keeps one position table for both encoders, as the shared model has.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from llmesr_jax.core.knobs import knob
from llmesr_jax.models import losses
from llmesr_jax.models.kernels.attention import CrossAttention, cross_attend
from llmesr_jax.models.kernels.each_row import map_each
from llmesr_jax.models.layers import settings
from llmesr_jax.models.layers.dense import newest, take_rows
from llmesr_jax.models.layers.tables import (
    Adapter,
    ItemTable,
    candidates,
    distinct,
    map_rows,
    ranking_term,
)
from llmesr_jax.models.types import Array, Batch, Needs, Sequences, Sizes, Term

_VIEWS = {"both": ("collaborative", "semantic"), "collaborative": ("collaborative",), "semantic": ("semantic",)}


@dataclasses.dataclass(frozen=True)
class Config:
    width: int = knob(64, "width of one view", least=1)
    alpha: float = knob(0.1, "weight of the distillation; 0 is w/o SD", least=0, traced=True)
    similar: int = knob(10, "N, number of similar users that teach a student", least=1)
    views: str = knob(
        "both", "views of an item: both, collaborative (w/o se-view) or semantic (w/o co-view)", choices=tuple(_VIEWS)
    )
    share: bool = knob(True, "one encoder for both views; False is w/o share")
    cross_attention: bool = knob(True, "the views attend to each other before the encoder; False is w/o CA")
    cross_heads: int = knob(1, "heads of the cross-attention", least=1)
    cross_causal: bool = knob(True, "cross-attention sees only earlier positions (never under the cloze task)")
    cross_output: bool = knob(False, "output projection after the cross-attention (preset release)")
    adapter_layers: int = knob(2, "number of matrices of the adapter: 1 or 2", choices=(1, 2))
    collaborative_start: str = knob("pca", "start of the collaborative table: pca or random", choices=("pca", "random"))
    freeze_semantic: bool = knob(True, "keep the LLM embeddings frozen; False is w/o F")
    distillation: str = knob(
        "mse",
        "loss of the distillation: mse, or contrastive (the release's user_sim_func=cl)",
        choices=("mse", "contrastive"),
    )
    distillation_reduction: str = knob(
        "mean", "how mse combines the squared errors of a user's components: mean or sum", choices=("mean", "sum")
    )
    head_user_weight: float = settings.head_user_weight("distillation")
    second_pass: bool = knob(
        False, "encode the student again, under fresh dropout, for the distillation (preset release)"
    )
    teacher_dropout: bool = knob(False, "use dropout in the teachers (preset release)")
    item_regularizer: float = knob(
        0.0,
        "beta, weight of the contrastive loss between an item's two views (not under the cloze task); 0 is off",
        least=0,
    )


def needs(config: Config) -> Needs:
    """LLM embeddings of the items, their PCA, and similar users: each only if a switch uses it."""
    tables = set()
    if "semantic" in _VIEWS[config.views]:
        tables.add("item_llm")
    if "collaborative" in _VIEWS[config.views] and config.collaborative_start == "pca":
        tables.add("item_pca")
    if config.alpha:
        tables.add("similar_users")
        if config.head_user_weight != 1:
            tables.add("tail_user")
    return Needs(frozenset(tables), config.width, config.similar if config.alpha else 0)


def side_by_side(x_VxnxD: Array) -> Array:
    """(views, n, D) -> (n, E): the concatenation of an item's vectors in all views."""
    return jnp.concatenate(list(x_VxnxD), axis=-1)


class Method(nn.Module):
    """The model; `llmesr_jax.models.methods.Model` says what its methods are."""

    config: Config
    loss: losses.LossConfig
    sizes: Sizes
    make_backbone: Callable[[], nn.Module]

    def setup(self):
        c, sizes = self.config, self.sizes
        self.views = _VIEWS[c.views]
        if "collaborative" in self.views:
            self.table = ItemTable(sizes.num_items, c.width)
        if "semantic" in self.views:
            self.adapter = Adapter(sizes.llm_width, c.width, c.adapter_layers)
            if not c.freeze_semantic:
                self.llm_table = ItemTable(sizes.num_items, sizes.llm_width)
        if len(self.views) == 2 and c.cross_attention:
            self.cross_collaborative, self.cross_semantic = (CrossAttention(c.cross_output) for _ in self.views)
        self.backbone = self.make_backbone()
        if len(self.views) == 2 and not c.share:
            self.semantic_backbone = self.make_backbone()

    def vectors(self, trained_n: Array, other_n: Array | None = None) -> tuple[Array, Array]:
        """int32 (n,), (m,) -> (views, n, D), (views, m, D): items' vectors in each view, collaborative first.

        No gradient passes through the second part. The adapter maps each distinct item once, or, with `Sizes.whole`,
        once per occurrence.
        """
        other_n = jnp.zeros(0, jnp.int32) if other_n is None else other_n
        views = []
        if "collaborative" in self.views:
            start = self.get_variable("tables", "item_pca") if self.config.collaborative_start == "pca" else None
            table = self.table(start)
            views.append((take_rows(table, trained_n), take_rows(jax.lax.stop_gradient(table), other_n)))
        if "semantic" in self.views:
            kernel_FxD, bias_D = self.adapter()
            llm = self.get_variable("tables", "item_llm")
            llm = llm if self.config.freeze_semantic else self.llm_table(llm)
            if self.sizes.whole:
                trained, other = map_each(llm, kernel_FxD, trained_n, other_n)
                rows = (trained + bias_D[None, :], jax.lax.stop_gradient(other + bias_D[None, :]))
            else:
                found = distinct(llm.shape[0], trained_n, other_n)
                mapped = map_rows(llm, kernel_FxD, found.ids_n, found.count, found.trained) + bias_D[None, :]
                rows = (mapped[: len(trained_n)], jax.lax.stop_gradient(mapped))
                rows = tuple(take_rows(x, place) for x, place in zip(rows, found.places))
            views.append(rows)
        return tuple(jnp.stack(part) for part in zip(*views))

    def items(self, ids: Array) -> Array:
        """int32 (n,) -> (n, E): item vectors."""
        return side_by_side(self.vectors(ids)[0])

    def slot_views(self, sequences: Sequences, deterministic: bool = True) -> Array:
        """(views, T, D): the vectors of each slot's item, collaborative first."""
        return self.vectors(sequences.items_T)[0]

    def encode(self, x_VxTxD: Array, sequences: Sequences, deterministic: bool, last_only: bool) -> Array:
        """Turns the item vectors of all views into user vectors: (T, E), or (R, E) with `last_only`."""
        x_VxTxD = self.backbone.stem(x_VxTxD, sequences, deterministic)
        if len(self.views) == 2 and self.config.cross_attention:
            causal = self.config.cross_causal and not self.sizes.bidirectional
            modules = (self.cross_collaborative, self.cross_semantic)
            x_VxTxD = cross_attend(x_VxTxD, sequences, modules, heads=self.config.cross_heads, causal=causal)
        if len(self.views) == 2 and not self.config.share:
            encoders = (self.backbone, self.semantic_backbone)
            h = [f(x, sequences, deterministic, last_only) for f, x in zip(encoders, x_VxTxD)]
        else:
            h = list(self.backbone(x_VxTxD, sequences, deterministic, last_only))
        return jnp.concatenate(h, axis=-1)

    def users(self, sequences: Sequences, deterministic: bool = True) -> Array:
        """(R, E): user vectors. The score of an item is its vector's dot product with this."""
        return self.encode(self.slot_views(sequences, deterministic), sequences, deterministic, last_only=True)

    def parts(self, x_VxnxD: Array) -> dict[str, Array]:
        """{name: (n, E)}: parts that add up to the vectors by which items are scored, from their `slot_views`."""
        names = {"collaborative": "id", "semantic": "semantic"}
        apart = [
            jnp.stack([x if i == n else jnp.zeros_like(x) for i, x in enumerate(x_VxnxD)]) for n in range(len(x_VxnxD))
        ]
        return {names[view]: side_by_side(part) for view, part in zip(self.views, apart)}

    def terms(self, batch: Batch, epoch: Array, deterministic: bool = False) -> dict[str, Term]:
        """The terms ranking, distillation (if alpha is not 0) and item_regularizer (if beta is not 0)."""
        c, students = self.config, batch.students
        learnt = jnp.concatenate([students.items_T, candidates(self.loss, self.sizes, batch)])
        distils = batch.teachers is not None  # alpha is not 0: see `needs`
        x_VxnxD, x_teachers_VxTxD = self.vectors(learnt, batch.teachers.items_T if distils else None)
        x_VxTxD, candidates_VxnxD = jnp.split(x_VxnxD, [len(students.items_T)], axis=1)
        h_TxE = self.encode(x_VxTxD, students, deterministic, last_only=batch.newest_only)
        terms = {"ranking": ranking_term(self.loss, self.sizes, h_TxE, batch, side_by_side(candidates_VxnxD))}
        if distils:
            student_BxE = h_TxE if batch.newest_only else newest(h_TxE, students)
            if c.second_pass:
                student_BxE = self.encode(x_VxTxD, students, deterministic, last_only=True)
            rows_RxE = self.encode(
                x_teachers_VxTxD, batch.teachers, deterministic or not c.teacher_dropout, last_only=True
            )
            # eq. 8: the mean of each student's similar users
            teacher_BxE = jax.lax.stop_gradient(jnp.mean(take_rows(rows_RxE, batch.teacher_rows_BxN), axis=1))
            where, weights_B = batch.distils_B, None
            if c.head_user_weight != 1:
                is_tail_B = take_rows(self.get_variable("tables", "tail_user"), batch.users_B)
                weights_B = jnp.where(is_tail_B, 1.0, c.head_user_weight)
            if c.distillation == "mse":
                value = losses.squared_error(
                    student_BxE, teacher_BxE, where=where, reduction=c.distillation_reduction, weights_B=weights_B
                )
            else:
                value = losses.soft_contrastive(student_BxE, teacher_BxE, where=where, weights_N=weights_B)
            terms["distillation"] = Term(value, c.alpha)
        if c.item_regularizer and len(self.views) == 2 and not self.sizes.bidirectional:
            value = losses.soft_contrastive(x_VxTxD[1], x_VxTxD[0], where=students.valid_T)
            terms["item_regularizer"] = Term(value, c.item_regularizer)
        return terms
