"""Each user's part of a batch's gradient: `vmap(grad)` in blocks of bounded memory.

A term that is a mean over positions, or over users, splits into one part per user: the gradient of the term on a batch
of this user alone, times the user's share of the positions (or of the users). The parts sum to the batch's gradient.
`splits` finds which of the two means a term is, if any, by summing its values. A term that couples the users of a batch
(InfoNCE, Barlow Twins) has other values for a user alone than among others; it does not split, and is left out. Dropout
is off, as its masks depend on the place in a batch.

A "user" is a row of the batch: under the cloze task a user has two, see `training.epoch_plan.Epochs`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from llmesr_jax.experiments.gradients import terms as terms_lib
from llmesr_jax.models.recommender import Params, Recommender
from llmesr_jax.models.types import Array, Batch, Sequences, Tables

MEANS = ("positions", "users")


def shares(batch: Batch) -> dict[str, Array]:
    """{mean: float (B,)}: each user's share of the positions with a target, and of the users."""
    row_T = batch.students.row_T
    positions_B = jnp.zeros(len(batch.distils_B), jnp.int32).at[row_T].add((batch.targets_T > 0).astype(jnp.int32))
    users_B = batch.distils_B.astype(jnp.int32)
    return {name: x_B / jnp.maximum(jnp.sum(x_B), 1) for name, x_B in zip(MEANS, (positions_B, users_B))}


def alone(batch: Batch) -> Batch:
    """B batches of one user each, with the user's teachers and negatives, stacked: every array has a leading axis B.

    Each is laid out in one row of the batch's longest length, so that one program serves all.
    """
    students, slots_BxL, valid_BxL = _one_row_each(batch.students)
    own = lambda x: jnp.where(_like(valid_BxL, x[slots_BxL]), x[slots_BxL], jnp.zeros((), x.dtype))  # noqa: E731
    count = len(batch.distils_B)
    more = {} if batch.users_B is None else {"users_B": batch.users_B[:, None]}
    if batch.log_q is not None:
        shared = len(batch.log_q) == 1
        more["log_q"] = jnp.broadcast_to(batch.log_q, (count, *batch.log_q.shape)) if shared else own(batch.log_q)
    if batch.shared_K is not None:
        more["shared_K"] = jnp.broadcast_to(batch.shared_K, (count, *batch.shared_K.shape))
        more["shared_targets"] = batch.shared_targets
    if batch.extra is not None:  # belongs to no user, so each batch has all of it, like the shared negatives
        more["extra"] = jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), batch.extra)
    if batch.teachers is not None:
        rows, _, _ = _one_row_each(batch.teachers)
        similar = batch.teacher_rows_BxN.shape[1]
        width = rows.items_T.shape[1]
        rows = jax.tree.map(lambda x: x[batch.teacher_rows_BxN], rows)
        first_N = jnp.arange(similar, dtype=jnp.int32) * width
        more["teachers"] = rows.replace(
            items_T=rows.items_T.reshape(count, -1),
            positions_T=rows.positions_T.reshape(count, -1),
            last_R=rows.last_R[..., 0] + first_N[None],
            left_out_R=None if rows.left_out_R is None else rows.left_out_R[..., 0],
            user_R=None if rows.user_R is None else rows.user_R[..., 0],
            buckets=((similar, width),),
        )
        rows_1xN = jnp.arange(similar, dtype=jnp.int32)[None]
        more["teacher_rows_BxN"] = jnp.broadcast_to(rows_1xN, (count, *rows_1xN.shape))
    return Batch(students, own(batch.targets_T), own(batch.negatives_TxK), batch.distils_B[:, None], **more)


def splits(
    recommender: Recommender,
    params: Params,
    tables: Tables,
    batch: Batch,
    epoch: Array | float = 0.0,
    tolerance: float = 1e-4,
) -> dict[str, str | None]:
    """{term: which of `MEANS` it is, or None if it couples users}; not to be jitted.

    A term is the mean under which the users' values add up to the batch's value, within the relative `tolerance`.
    """
    values, values_B, shares_B = jax.jit(_values, static_argnums=0)(recommender, params, tables, batch, epoch)

    def fits(name, mean):
        added = float(np.sum(np.asarray(shares_B[mean], np.float64) * np.asarray(values_B[name], np.float64)))
        return abs(added - float(values[name])) <= tolerance * max(abs(added), abs(float(values[name])))

    return {name: next((mean for mean in MEANS if fits(name, mean)), None) for name in values}


def _values(recommender, params, tables, batch, epoch):
    of = lambda one: terms_lib.weighted(recommender, params, tables, one, None, epoch)  # noqa: E731
    return of(batch), jax.lax.map(of, alone(batch)), shares(batch)


def map_gradients(
    recommender: Recommender,
    params: Params,
    tables: Tables,
    batch: Batch,
    summarise: Callable[[dict[str, Params]], Any],
    means: Mapping[str, str | None],
    *,
    epoch: Array | float = 0.0,
    block: int = 16,
) -> Any:
    """`summarise` of each user's part of the batch's gradient, stacked along a leading axis B.

    Keeps the gradients of `block` users at a time. Jit it with recommender, summarise, means and block static; with
    `summarise=lambda g: g` it returns the gradients themselves.

    Args:
      summarise: {term: the user's part of the term's gradient, weights included} -> a tree of small arrays.
      means: of `splits`; coupled terms (None) are left out.
      epoch: from 1, for methods whose weights depend on it.
      block: number of users whose gradients are computed at once.
    """
    kept = [name for name, mean in means.items() if mean]

    def one(user):
        single, shares_1 = user

        def values(p):
            found = terms_lib.weighted(recommender, p, tables, single, None, epoch)
            return {name: shares_1[means[name]].astype(found[name].dtype) * found[name] for name in kept}

        found, back = jax.vjp(values, params)
        zeros = {name: jnp.zeros_like(value) for name, value in found.items()}
        return summarise({name: back({**zeros, name: jnp.ones_like(found[name])})[0] for name in kept})

    return jax.lax.map(one, (alone(batch), shares(batch)), batch_size=min(block, len(batch.distils_B)))


def block_size(params: Params, terms: int, budget: int = 2**28) -> int:
    """The number of users whose gradients of `terms` terms fit into `budget` bytes: a power of two, from 1 to 64."""
    size = terms * sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(params))
    return 2 ** min(6, max(0, int(budget // size).bit_length() - 1))


def noise_scale(square_n: np.ndarray, mean_square: float) -> dict[str, float | None]:
    """The gradient noise scale tr(Sigma) / |G|^2: the batch size, in users, at which noise and signal are equal.

    The simple scale of McCandlish et al. 2018, "An Empirical Model of Large-Batch Training" (eq. 2.9), both parts
    without bias: tr(Sigma) = (sum |g_i|^2 - n |m|^2) / (n - 1) and |G|^2 = |m|^2 - tr(Sigma) / n.

    Args:
      square_n: |g_i|^2 of the gradients of n random users.
      mean_square: |m|^2 of their mean m.
    Returns: {"trace": tr(Sigma), "signal": |G|^2, "scale"}; scale is None if the estimate of |G|^2 is not positive.
    """
    count = len(square_n)
    trace = float((np.sum(square_n) - count * mean_square) / max(count - 1, 1))
    signal = mean_square - trace / count
    return {"trace": trace, "signal": signal, "scale": trace / signal if signal > 0 else None}


def alignment(square_n: np.ndarray, with_mean_n: np.ndarray, mean_square: float) -> np.ndarray:
    """(n,) cosine of each user's gradient with the mean of the others'; NaN if either is zero.

    The mean of all would include the user: at n = 100, users with orthogonal gradients would have a cosine of 0.1.

    Args:
      square_n: |g_i|^2.
      with_mean_n: g_i . m, m the mean of all n.
      mean_square: |m|^2.
    """
    count = len(square_n)
    others_n = (count * with_mean_n - square_n) / (count - 1)
    norm_n = np.sqrt(np.maximum(count**2 * mean_square - 2 * count * with_mean_n + square_n, 0)) / (count - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return others_n / (np.sqrt(square_n) * norm_n)


def _one_row_each(sequences: Sequences) -> tuple[Sequences, np.ndarray, np.ndarray]:
    """Each row as `Sequences` of its own, stacked: (R, L) slots; the slot each is taken from; whether the row has it."""
    _, _, first_R, width_R, *_ = sequences.places
    longest = int(width_R.max())
    column_1xL = np.arange(longest, dtype=np.int32)[None]
    valid_RxL = column_1xL < width_R[:, None]
    slots_RxL = np.where(valid_RxL, first_R[:, None] + column_1xL, 0)
    own = lambda x_T: jnp.where(valid_RxL, x_T[slots_RxL], 0)  # noqa: E731
    bag = Sequences(
        own(sequences.items_T),
        own(sequences.positions_T),
        (sequences.last_R - first_R)[:, None],
        ((1, longest),),
        None if sequences.left_out_R is None else sequences.left_out_R[:, None],
        user_R=None if sequences.user_R is None else sequences.user_R[:, None],
    )
    return bag, slots_RxL, valid_RxL


def _like(mask: np.ndarray, x: Array) -> np.ndarray:
    return mask.reshape(*mask.shape, *[1] * (x.ndim - mask.ndim))
