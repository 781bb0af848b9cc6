"""What methods share: item tables, the adapter, one view under a backbone, the ranking term."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from llmesr_jax.backbones.layers import take_rows, uniform_bias
from llmesr_jax.contracts import Array, Batch, Sequences, Sizes, Term
from llmesr_jax.losses import RANKING, LossConfig


def ranking_term(loss: LossConfig, h_TxE: Array, batch: Batch, vectors: Callable[[Array], Array]) -> Term:
    """The ranking loss of the students' slots that have a target.

    Args:
      h_TxE: (T, E) user vectors after each slot.
      vectors: ids (n,) -> (n, E) item vectors.
    """
    negatives = batch.negatives_TxK.shape[1]
    ids = jnp.concatenate([batch.targets_T[:, None], batch.negatives_TxK], axis=1).reshape(-1)
    candidates_TxCxE = vectors(ids).reshape(len(batch.targets_T), 1 + negatives, -1)
    scores_TxC = jnp.einsum("te,tce->tc", h_TxE, candidates_TxCxE)
    value = RANKING[loss.ranking](scores_TxC[:, 0], scores_TxC[:, 1:], where=batch.targets_T > 0)
    return Term(value, 1.0)


class ItemTable(nn.Module):
    """A trainable table (V + 2, D): row 0 padding, row V + 1 the mask token.

    It starts at `start`, (V + 2, D), if that is given (the PCA of the LLM embeddings), else Xavier-normal.
    """

    num_items: int
    width: int

    @nn.compact
    def __call__(self, start: Array | None = None) -> Array:
        def init(key, shape, dtype=jnp.float32):
            if start is None:
                return nn.initializers.xavier_normal()(key, shape, dtype)
            return jnp.array(start, dtype).reshape(shape)

        return self.param("table", init, (self.num_items + 2, self.width))


class Adapter(nn.Module):
    """The map from the LLM's space to a view: W2 (W1 e + b1) + b2 (LLM-ESR eq. 2).

    Nothing non-linear stands between the two, so W2 W1 is formed once and applied as one matrix: the same function
    and gradients, far fewer operations. `layers=1` is one matrix from the start.
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
    """One item table under one backbone: the plain sequential recommender, and what most methods start from."""

    config: Any
    loss: LossConfig
    sizes: Sizes
    make_backbone: Callable[[], nn.Module]
    start: str = ""

    def setup(self):
        self.table = ItemTable(self.sizes.num_items, self.config.width)
        self.backbone = self.make_backbone()

    def items(self, ids: Array) -> Array:
        """int32 (n,) -> (n, E): item vectors."""
        start = self.get_variable("tables", self.start) if self.start else None
        return take_rows(self.table(start), ids)

    def encode(self, sequences: Sequences, deterministic: bool, last_only: bool) -> Array:
        """(T, E), or (R, E) with `last_only`: user vectors after each slot, or after the newest."""
        x_TxD = self.backbone.stem(self.items(sequences.items_T), sequences, deterministic)
        return self.backbone(x_TxD, sequences, deterministic, last_only)

    def users(self, sequences: Sequences, deterministic: bool = True) -> Array:
        """(R, E): user vectors. The score of an item is its vector's dot product with this."""
        return self.encode(sequences, deterministic, last_only=True)

    def terms(self, batch: Batch, clock: Array, deterministic: bool = False) -> dict[str, Term]:
        """The loss's terms by name; `clock` is the epoch, as a float, for methods whose weights move."""
        h_TxE = self.encode(batch.students, deterministic, last_only=False)
        return {"ranking": ranking_term(self.loss, h_TxE, batch, self.items)}
