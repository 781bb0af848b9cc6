"""Binary cross-entropy of targets and negatives: the ranking loss of both papers' releases."""

from __future__ import annotations

import dataclasses

import jax

from llmesr_jax.models.losses import Drawn, masked_mean, mean_drawn
from llmesr_jax.models.types import Array

ITEMS = "drawn"


@dataclasses.dataclass(frozen=True)
class Config:
    """Nothing to set."""


def value(config: Config, scored: Drawn) -> Array:
    """The ranking loss, see `bce`."""
    return bce(scored.positive_T, scored.negative_TxK, where=scored.where_T, drawn=scored.drawn_TxK)


def bce(positive_T: Array, negative_TxK: Array, *, where: Array, drawn: Array | None = None) -> Array:
    """Binary cross-entropy: mean of -log sigmoid(s+) plus mean of -log sigmoid(-s-).

    The ranking loss of both papers' releases: each of the two means is over its own entries. Arguments and result as in
    `bpr.bpr`.
    """
    positive = masked_mean(jax.nn.softplus(-positive_T), where)
    return positive + masked_mean(mean_drawn(jax.nn.softplus(negative_TxK), drawn), where)
