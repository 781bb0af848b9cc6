"""Generalised BCE: BCE without the overconfidence of few negatives (gSASRec, Petrov and Macdonald 2023)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from llmesr_jax.core.knobs import knob
from llmesr_jax.models.losses import Drawn, masked_mean, mean_drawn
from llmesr_jax.models.types import Array

ITEMS = "drawn"


@dataclasses.dataclass(frozen=True)
class Config:
    """How far scores are calibrated."""

    calibration: float = knob(
        0.75, "t, from 0 (BCE as it is) to 1 (calibrated probabilities)", least=0, most=1, traced=True
    )


def value(config: Config, scored: Drawn) -> Array:
    """The ranking loss, see `gbce`."""
    return gbce(
        scored.positive_T,
        scored.negative_TxK,
        where=scored.where_T,
        drawn=scored.drawn_TxK,
        num_items=scored.num_items,
        calibration=config.calibration,
        draws=scored.draws if scored.padded else None,
    )


def gbce(
    positive_T: Array,
    negative_TxK: Array,
    *,
    where: Array,
    drawn: Array | None = None,
    num_items: int,
    calibration: float,
    draws: Array | None = None,
) -> Array:
    """Generalised BCE: mean of -(beta log sigmoid(s+) + sum_k log sigmoid(-s-_k)) / (K + 1).

    beta = a (t (1 - 1 / a) + 1 / a), where a = K / (V - 1) is the share of negatives that is drawn: beta undoes the
    overconfidence that few negatives cause. t = 0 is BCE averaged over all K + 1 scores (`bce` averages positives and
    negatives separately), t = 1 calibrates fully (gSASRec, Petrov and Macdonald 2023, eqs. 6 to 9). Other arguments and
    result as in `bpr.bpr`.

    Args:
      num_items: V.
      calibration: t, in [0, 1].
      draws: int (), K where the shape (T, K) also counts places without a negative; None for the K of the shape.
    """
    count = negative_TxK.shape[1]
    share = min(count / (num_items - 1), 1.0)
    if draws is not None:
        count = jnp.maximum(draws, 1).astype(positive_T.dtype)
        share = jnp.minimum(count / (num_items - 1), 1)
    beta = share * (calibration * (1 - 1 / share) + 1 / share)
    total_T = beta * jax.nn.softplus(-positive_T) + count * mean_drawn(jax.nn.softplus(negative_TxK), drawn)
    return masked_mean(total_T / (count + 1), where)
