"""Cross-entropy of the target among all items: no negatives are drawn, and every item has a gradient."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from llmesr_jax.models.losses import AllItems
from llmesr_jax.models.types import Array, wide

ITEMS = "all"
_BLOCK_SCORES = 2**24  # scores that `softmax` holds at once


@dataclasses.dataclass(frozen=True)
class Config:
    """Nothing to set."""


def value(config: Config, scored: AllItems) -> Array:
    """The ranking loss, see `softmax`."""
    return softmax(scored.h_TxE, scored.items_VxE, scored.targets_T, scored.scale)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def softmax(h_TxE: Array, items_VxE: Array, targets_T: Array, scale: Array, block: int = 0) -> Array:
    """Cross-entropy of the target among all items: mean over positions with a target of log sum_v e^s_v - s+.

    Scores are h . item * scale. It is computed in blocks of positions, each together with its share of the gradients,
    so memory holds (block, V) scores and never (T, V). A position without a target does not count.

    Args:
      h_TxE: (T, E) user vectors after each slot.
      items_VxE: (V, E) item vectors, row 0 = id 1.
      targets_T: int32 (T,) item ids, 0 where there is none.
      scale: (), 1 / temperature; not differentiated.
      block: positions at a time; 0 for as many as fit 64 MiB of float32 scores.
    Returns: (), of at least float32.
    """
    return _softmax(h_TxE, items_VxE, targets_T, scale, block, gradients=False)[0]


def _softmax(h_TxE, items_VxE, targets_T, scale, block, gradients) -> tuple[Array, Any, Any]:
    """The loss, and with `gradients` its gradients in h and items (else None)."""
    num_slots, num_items = len(h_TxE), len(items_VxE)
    block = min(block or max(_BLOCK_SCORES // num_items, 1), num_slots)
    blocks = -(-num_slots // block)
    block = -(-num_slots // blocks)  # equal blocks need the least padding
    padding = blocks * block - num_slots
    dtype = wide(h_TxE)
    count = jnp.maximum(jnp.sum(targets_T > 0), 1).astype(dtype)
    h = jnp.pad(h_TxE, ((0, padding), (0, 0))).reshape(blocks, block, -1)
    targets = jnp.pad(targets_T, (0, padding)).reshape(blocks, block)

    def one(carry, part):
        total, items_gradient = carry
        h_NxE, target_N = part
        scores_NxV = jnp.matmul(h_NxE, items_VxE.T, preferred_element_type=dtype) * scale
        weight_N = (target_N > 0).astype(dtype) / count
        at = jnp.maximum(target_N - 1, 0)
        highest_Nx1 = scores_NxV.max(axis=1, keepdims=True)
        e_NxV = jnp.exp(scores_NxV - highest_Nx1)
        sum_Nx1 = e_NxV.sum(axis=1, keepdims=True)
        target_score_N = jnp.take_along_axis(scores_NxV, at[:, None], axis=1)[:, 0]
        total = total + jnp.sum(weight_N * (jnp.log(sum_Nx1[:, 0]) + highest_Nx1[:, 0] - target_score_N))
        if not gradients:
            return (total, None), None
        p_NxV = (e_NxV * (weight_N[:, None] / sum_Nx1 * scale)).astype(h_NxE.dtype)
        weight_Nx1 = (weight_N * scale)[:, None]
        h_gradient = jnp.matmul(p_NxV, items_VxE, preferred_element_type=dtype)
        h_gradient = h_gradient - weight_Nx1 * jnp.take(items_VxE, at, axis=0, mode="clip").astype(dtype)
        items_gradient = items_gradient + jnp.matmul(p_NxV.T, h_NxE, preferred_element_type=dtype)
        items_gradient = items_gradient.at[at].add(-weight_Nx1 * h_NxE.astype(dtype))
        return (total, items_gradient), h_gradient.astype(h_NxE.dtype)

    start: Any = (jnp.zeros((), dtype), jnp.zeros(items_VxE.shape, dtype) if gradients else None)
    (total, items_gradient), h_gradient = jax.lax.scan(one, start, (h, targets))
    if h_gradient is not None:
        h_gradient = h_gradient.reshape(blocks * block, -1)[:num_slots]
    return total, h_gradient, items_gradient


def _softmax_forward(h_TxE, items_VxE, targets_T, scale, block):
    total, h_gradient, items_gradient = _softmax(h_TxE, items_VxE, targets_T, scale, block, gradients=True)
    return total, (h_gradient, items_gradient.astype(items_VxE.dtype))


def _softmax_backward(block, gradients, upstream):
    h_gradient, items_gradient = gradients
    return (
        upstream.astype(h_gradient.dtype) * h_gradient,
        upstream.astype(items_gradient.dtype) * items_gradient,
        None,
        None,
    )


softmax.defvjp(_softmax_forward, _softmax_backward)
