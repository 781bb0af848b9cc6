"""Ranking losses, one file each, found by its name (`--config.loss.ranking=bpr`); pure, differentiable, masked.

Such a file has the members of `Loss`. The package also has functions for methods' own terms.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp

from llmesr_jax.core.knobs import knob
from llmesr_jax.core.plugins import Plugins
from llmesr_jax.models.losses._distillation import soft_contrastive, squared_error
from llmesr_jax.models.losses._means import masked_mean, mean_drawn
from llmesr_jax.models.types import Array

__all__ = [
    "PLUGINS",
    "SCORES",
    "AllItems",
    "Drawn",
    "Loss",
    "LossConfig",
    "masked_mean",
    "mean_drawn",
    "soft_contrastive",
    "squared_error",
]


class Drawn(NamedTuple):
    """The scores of each position's target and of its sampled negatives.

    Attributes:
      positive_T: (T,) scores of the targets.
      negative_TxK: (T, K) scores of the negatives.
      where_T: bool (T,), positions that count.
      drawn_TxK: bool (T, K), negatives that count; None for all.
      log_q: float, log of the probability that a draw gives a negative, broadcasts to (T, K); None in a batch made by
        hand.
      draws: int32 (), number of negatives drawn for a position.
      num_items: V.
      padded: whether some of the K places hold no negative, for any position; then `draws` is less than K.
    """

    positive_T: Array
    negative_TxK: Array
    where_T: Array
    drawn_TxK: Array | None
    log_q: Array | None
    draws: Array
    num_items: int
    padded: bool = False

    def log_draws(self) -> Array:
        """log(K q_k), the log of how many of the K draws give this negative on average; broadcasts to (T, K).

        Raises:
          ValueError: the batch has no `log_q`.
        """
        if self.log_q is None:
            raise ValueError("the batch has no log_q, which log_draws needs; set it, or use make_batch, which does")
        dtype = self.positive_T.dtype
        return self.log_q.astype(dtype) + jnp.log(jnp.maximum(self.draws, 1).astype(dtype))


class AllItems(NamedTuple):
    """The factors of the scores of all items: h . item * scale.

    Attributes:
      h_TxE: (T, E) user vectors after each slot.
      items_VxE: (V, E) item vectors, row 0 = id 1.
      targets_T: int32 (T,) item ids, 0 where there is none.
      scale: (), 1 / temperature; not differentiated.
    """

    h_TxE: Array
    items_VxE: Array
    targets_T: Array
    scale: Array


class Loss(Protocol):
    """What the file of a ranking loss must have."""

    @property
    def Config(self) -> type:
        """Frozen dataclass; every field a `knob(default, help)`, set as `--config.<file>.<field>`."""
        ...

    @property
    def ITEMS(self) -> str:
        """What is scored: "drawn", each position's target and its sampled negatives, or "all" items."""
        ...

    def value(self, config: Any, scored: Any, /) -> Array:
        """The loss, (): a mean over the positions that count, 0 where there are none.

        Args:
          config: the file's `Config`; a traced field is an array.
          scored: `Drawn` or `AllItems`, by `ITEMS`.
        """
        ...


PLUGINS: Plugins[Loss] = Plugins("loss", __name__, Loss, "ITEMS", {"drawn": Loss, "all": Loss})
SCORES = ("dot", "cosine")


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The ranking loss, the same setting for every method and backbone. `data.negatives` says how negatives are drawn.

    Attributes:
      own: the `Config` of the loss's file; None for its defaults.
    """

    ranking: str = knob(
        "bpr",
        "ranking loss: bpr (preset paper) | bce (preset release) | gbce | sampled_softmax | softmax (over all items, "
        "none drawn)",
        choices=PLUGINS.names,
    )
    score: str = knob("dot", "score of user and item vector: dot | cosine, in training and in ranking", choices=SCORES)
    temperature: float = knob(1.0, "temperature: the loss divides scores by it", least=1e-6, traced=True)
    own: Any = None

    @property
    def all_items(self) -> bool:
        """Whether every item is scored at each step."""
        return PLUGINS.load(self.ranking).ITEMS == "all"

    @property
    def settings(self) -> Any:
        """The `Config` of the loss's file."""
        return PLUGINS.load(self.ranking).Config() if self.own is None else self.own
