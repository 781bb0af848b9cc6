"""Pairwise ranking: each target against each of its negatives (LLM-ESR eq. 6; Rendle et al. 2009)."""

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
    """The ranking loss, see `bpr`."""
    return bpr(scored.positive_T, scored.negative_TxK, where=scored.where_T, drawn=scored.drawn_TxK)


def bpr(positive_T: Array, negative_TxK: Array, *, where: Array, drawn: Array | None = None) -> Array:
    """Pairwise ranking: mean of -log sigmoid(s+ - s-) over the pairs of real positions.

    LLM-ESR eq. 6; Rendle et al. 2009.

    >>> import jax.numpy as jnp
    >>> float(bpr(jnp.array([2.0]), jnp.array([[0.0]]), where=jnp.array([True])))  # log(1 + e^-2)
    0.12692801654338837

    Args:
      positive_T: (T,) scores of the targets.
      negative_TxK: (T, K) scores of the sampled negatives.
      where: bool (T,), positions that count.
      drawn: bool (T, K), negatives that count; None for all.
    Returns: ().
    """
    pairs_TxK = jax.nn.softplus(negative_TxK - positive_T[:, None])
    return masked_mean(mean_drawn(pairs_TxK, drawn), where)
