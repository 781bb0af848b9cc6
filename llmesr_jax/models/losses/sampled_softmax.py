"""Cross-entropy of the target among itself and the sampled negatives (Bengio and Senecal 2008)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from llmesr_jax.core.knobs import knob
from llmesr_jax.models.losses import Drawn, masked_mean
from llmesr_jax.models.types import Array

ITEMS = "drawn"
_NEVER = -1e30  # the score of a negative that does not count; finite, so that no gradient is NaN


@dataclasses.dataclass(frozen=True)
class Config:
    """How negatives are weighted."""

    log_q: bool = knob(
        False, "weight a negative by 1 / (K times its probability), so that with many negatives the loss is softmax"
    )


def value(config: Config, scored: Drawn) -> Array:
    """The ranking loss, see `sampled_softmax`."""
    return sampled_softmax(
        scored.positive_T,
        scored.negative_TxK,
        where=scored.where_T,
        drawn=scored.drawn_TxK,
        log_draws=scored.log_draws() if config.log_q else None,
    )


def sampled_softmax(
    positive_T: Array, negative_TxK: Array, *, where: Array, drawn: Array | None = None, log_draws: Array | None = None
) -> Array:
    """Cross-entropy of the target among itself and the negatives: mean of log(e^s+ + sum_k w_k e^s-_k) - s+.

    w_k = 1, or 1 / (K q_k) with `log_draws`: then the sum is an unbiased estimate of that over all other items, and the
    loss tends to that of `softmax` as K grows. The target is not corrected, because it is not drawn (Bengio and Senecal
    2008). Other arguments and result as in `bpr.bpr`.

    Args:
      log_draws: log(K q_k), the log of how many of the K draws give this negative on average; broadcasts to (T, K).
    """
    if log_draws is not None:
        negative_TxK = negative_TxK - log_draws
    if drawn is not None:
        negative_TxK = jnp.where(drawn, negative_TxK, jnp.asarray(_NEVER, negative_TxK.dtype))
    scores_TxC = jnp.concatenate([positive_T[:, None], negative_TxK], axis=1)
    return masked_mean(jax.nn.logsumexp(scores_TxC, axis=1) - positive_T, where)
