"""Products with the Gauss-Newton matrix, whose curvature is never negative if the loss is convex in the outputs.

A loss is `loss(outputs(params))`, and the matrix is J^T H J: J the Jacobian of the outputs in the parameters, H the
Hessian of the loss in the outputs (Schraudolph 2002, "Fast Curvature Matrix-Vector Products"). It is the Hessian with
the outputs linearised in the parameters, so it depends on the choice of outputs. `ranking` takes the scores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from llmesr_jax.experiments.gradients import terms as terms_lib
from llmesr_jax.models import losses
from llmesr_jax.models.layers.tables import candidates, scored
from llmesr_jax.models.losses import AllItems, masked_mean
from llmesr_jax.models.recommender import Params, Recommender
from llmesr_jax.models.types import Array, Batch, Tables


class Split(NamedTuple):
    """A loss in two parts: `loss(outputs(params))`.

    Attributes:
      outputs: params -> a tree of arrays; this part is linearised.
      loss: that tree -> (); this part is not.
    """

    outputs: Callable[[Params], Any]
    loss: Callable[[Any], Array]


def gnvp(split: Split, params: Params, direction: Params) -> Params:
    """J^T H J times a direction: a forward pass, two derivatives along the direction, a backward pass.

    Args:
      direction: a tree like the parameters.
    """
    # Through vjp, as jvp alone is not defined for functions with a custom_vjp.
    outputs, along = jax.jvp(lambda p: jax.vjp(split.outputs, p)[0], (params,), (direction,))
    curved = jax.jvp(jax.grad(split.loss), (outputs,), (along,))[1]
    return jax.vjp(split.outputs, params)[1](curved)[0]


def ranking(recommender: Recommender, params: Params, tables: Tables, batch: Batch) -> Split:
    """The ranking term, without dropout, as a function of scores.

    The outputs are the scores that the loss gets, user vector . item vector / temperature: (T, 1 + K), each slot's target
    and its negatives; or (T, V) for a loss over all items, which is assumed to be the cross-entropy. So everything from
    the parameters to the scores is linearised, the inner product included. bpr, bce and the softmaxes are convex in the
    scores. `is_ranking` tests whether a method's ranking term is this function.

    Args:
      params: parameters or tracers of their shapes; their values have no influence.
    """
    model, loss, sizes = recommender, recommender.loss, recommender.sizes

    def parts(p):
        students = batch.students
        views = model.apply(p, tables, students, True, method="slot_views")
        h_TxE = model.apply(p, tables, views, students, True, False, method="encode")
        vectors = model.apply(p, tables, candidates(loss, sizes, batch), method="items")
        return scored(loss, sizes, h_TxE, batch, vectors)

    def outputs(p):
        found = parts(p)
        if isinstance(found, AllItems):
            return jnp.matmul(found.h_TxE, found.items_VxE.T) * found.scale
        return jnp.concatenate([found.positive_T[:, None], found.negative_TxK], axis=1)

    around = jax.tree.map(jax.lax.stop_gradient, parts(params))  # masks and counts, which no parameter changes
    if loss.all_items:
        return Split(outputs, lambda scores_TxV: _cross_entropy(scores_TxV, around.targets_T))
    own = losses.PLUGINS.load(loss.ranking)

    def of_scores(scores_TxC):
        return own.value(loss.settings, around._replace(positive_T=scores_TxC[:, 0], negative_TxK=scores_TxC[:, 1:]))

    return Split(outputs, of_scores)


def is_ranking(
    recommender: Recommender,
    params: Params,
    tables: Tables,
    batch: Batch,
    epoch: Array | float = 0.0,
    tolerance: float = 1e-4,
) -> bool:
    """Whether the method's ranking term has the value of `ranking` here, within a relative tolerance; on the host."""

    @jax.jit
    def both(params, tables, batch):
        split = ranking(recommender, params, tables, batch)
        found = terms_lib.weighted(recommender, params, tables, batch, None, epoch)
        return split.loss(split.outputs(params)), found.get("ranking", jnp.nan)

    ours, theirs = map(float, both(params, tables, batch))
    return abs(ours - theirs) <= tolerance * abs(theirs)


def ranking_gnvp(recommender: Recommender, params: Params, tables: Tables, batch: Batch, direction: Params) -> Params:
    """`gnvp` of `ranking`: the ranking term's Gauss-Newton matrix in the scores, times a direction."""
    return gnvp(ranking(recommender, params, tables, batch), params, direction)


def _cross_entropy(scores_TxV: Array, targets_T: Array) -> Array:
    of_target_T = jnp.take_along_axis(scores_TxV, jnp.maximum(targets_T - 1, 0)[:, None], axis=1)[:, 0]
    return masked_mean(jax.nn.logsumexp(scores_TxV, axis=1) - of_target_T, targets_T > 0)
