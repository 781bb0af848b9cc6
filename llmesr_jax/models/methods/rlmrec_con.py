"""RLMRec-Con: the plain backbone, whose users and items are aligned with their LLM embeddings (Ren et al., WWW 2024).

M(e_llm) = W2 leaky_relu(W1 e_llm + b1) + b2 is one network for the frozen embeddings of users and items, (F + D) / 2
wide inside. Loss: ranking + weight (L_users + L_targets + L_negatives). Each of the three is InfoNCE from vectors to
their M(e_llm), with cosine over a temperature and the other rows of the same part as negatives. The parts are the
users' vectors (after the newest item), the targets' ID embeddings, and the ID embeddings of the ranking loss's
negatives. Scores are those of `none` and do not use the LLM. `weight=0` is `none`.

Cost: M, F (F + D) / 2 + D (F + D) / 2 multiply-adds forward and twice that backward, runs once for each distinct
target, each distinct negative and each student of a step; InfoNCE takes 3 D for each pair within a part.

Deviations. RLMRec enhances graph models and aligns the embeddings of users and items after the graph's layers, a user
once for each interaction of a batch of 4,096. Here a user is the encoder's vector of the sequence, dropout included,
once per step, and an item is its row of the table. A user's negatives are those of the batch; the release takes all
users. Other occurrences of an item are not its negatives. Users and items without an embedding (a row of zeros: an
empty text, the mask token) are left out, and so are users without input. Under the cloze task, where a user may be in a
batch twice, the first row counts. The embeddings are of the data set's own texts and not of profiles written by an LLM,
as in LLM-ESR's comparison; the release's penalty on all parameters is left out.
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from llmesr_jax.core.knobs import knob
from llmesr_jax.models import alignment
from llmesr_jax.models.kernels.mapped_rows import TwoLayers, map_two_layers
from llmesr_jax.models.layers import settings
from llmesr_jax.models.layers.dense import newest, take_rows, uniform_bias
from llmesr_jax.models.layers.tables import (
    SingleView,
    candidates,
    distinct,
    ranking_term,
)
from llmesr_jax.models.types import Array, Batch, Needs, Term


@dataclasses.dataclass(frozen=True)
class Config:
    width: int = knob(128, "width of the item table and the encoder", least=1)
    table_start: str = settings.table_start()
    weight: float = knob(0.01, "weight of the alignment with the LLM embeddings; 0 is none", least=0, traced=True)
    temperature: float = knob(0.2, "temperature of the alignment", least=1e-3, traced=True)


def needs(config: Config) -> Needs:
    """LLM embeddings of items and users, if the weight is not 0."""
    return Needs(frozenset({"item_llm", "user_llm"} if config.weight else ()))


class Mapper(nn.Module):
    """The parameters of M: Xavier-uniform matrices, PyTorch's biases. `widths`: of input, hidden layer and output."""

    widths: tuple[int, int, int]

    @nn.compact
    def __call__(self) -> TwoLayers:
        arrays = []
        for i, (fan_in, fan_out) in enumerate(zip(self.widths[:-1], self.widths[1:])):
            arrays.append(self.param(f"kernel_{i}", nn.initializers.xavier_uniform(), (fan_in, fan_out)))
            arrays.append(self.param(f"bias_{i}", uniform_bias(fan_in), (fan_out,)))
        return TwoLayers(*arrays)


def Method(config: Config, loss, sizes, make_backbone) -> Aligned:
    """See `Aligned`."""
    return Aligned(config, loss, sizes, make_backbone, drawn=config.table_start)


class Aligned(SingleView):
    """A `SingleView` with one more term, the alignment."""

    def setup(self):
        super().setup()
        self.aligns = self.has_variable("tables", "user_llm")  # the weight is not 0: see `needs`
        if self.aligns:
            width, llm_width = self.config.width, self.sizes.llm_width
            self.mapper = Mapper((llm_width, (llm_width + width) // 2, width))

    def terms(self, batch: Batch, epoch: Array, deterministic: bool = False) -> dict[str, Term]:
        """The terms ranking and alignment (if its weight is not 0)."""
        students = batch.students
        h_TxD = self.encode(self.slot_views(students, deterministic), students, deterministic, last_only=False)
        vectors = self.items(candidates(self.loss, self.sizes, batch))
        terms = {"ranking": ranking_term(self.loss, self.sizes, h_TxD, batch, vectors)}
        if self.aligns:
            terms["alignment"] = Term(self.alignment(newest(h_TxD, students), batch), self.config.weight)
        return terms

    def llm_views(self, ids: Array) -> Array:
        """int32 (n,) -> (n, D): M(e_llm) of items, to which training aligns their vectors."""
        llm, count = self.get_variable("tables", "item_llm"), jnp.asarray(len(ids), jnp.int32)
        return map_two_layers(
            jax.nn.leaky_relu, 0.0, llm, self.mapper(), ids, count, jnp.zeros(2, jnp.uint32), None, self.sizes.whole
        )

    def alignment(self, users_BxD: Array, batch: Batch) -> Array:
        """(): L_users + L_targets + L_negatives."""
        item_llm, user_llm = (self.get_variable("tables", name) for name in ("item_llm", "user_llm"))
        layers, no_dropout, whole = self.mapper(), jnp.zeros(2, jnp.uint32), self.sizes.whole

        def part(vectors_nxD, llm, ids_n, count, counts_n):
            embedded_n = jnp.any(take_rows(llm, ids_n) != 0, axis=1)
            mapped_nxD = map_two_layers(jax.nn.leaky_relu, 0.0, llm, layers, ids_n, count, no_dropout, None, whole)
            counts_n = jnp.where(embedded_n, counts_n, 0)
            return alignment.info_nce(
                vectors_nxD, mapped_nxD, counts_n, temperature=self.config.temperature, whole=whole
            )

        at_B = batch.students.order_R
        there_B = batch.distils_B & batch.students.valid_R
        first_U = jnp.full(len(user_llm), len(at_B), jnp.int32)
        first_U = first_U.at[batch.users_B].min(jnp.where(there_B, at_B, len(at_B)))
        once_B = (take_rows(first_U, batch.users_B) == at_B).astype(jnp.int32)
        total = part(users_BxD, user_llm, batch.users_B, jnp.asarray(len(at_B), jnp.int32), once_B)
        shared = [] if batch.shared_K is None else [batch.shared_K]
        for ids in (batch.targets_T, jnp.concatenate([batch.negatives_TxK.reshape(-1), *shared])):
            found = distinct(len(item_llm), ids, ids[:0])
            counts_n = jnp.zeros(len(found.ids_n), jnp.int32).at[found.places[0]].add(1)
            # Neither padding, id 0, which has no embedding, nor places after the last distinct id count.
            total += part(self.items(found.ids_n), item_llm, found.ids_n, found.count, counts_n)
        return total
