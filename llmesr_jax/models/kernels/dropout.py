"""Dropout whose masks depend on what an entry is, not on the slot where it is stored.

Whether an entry is kept is a function of (key of the layer, place in the batch, position, channel), and in a map of
items of (key, item, channel). So another layout, another order of rows or a part of a batch drops the same entries.

The function is Threefry-2x32, a hash of two counters: the owner (place, and view or head), and the position and number
of the draw. A draw is 64 bits and decides about neighbouring channels: 64 of them at rate 0.5. For attention weights,
the channel is the key's position.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.extend.random import threefry2x32_p

from llmesr_jax.models.types import Array, Sequences

_MOST_BITS = 16  # random bits per entry, at most: the rate is exact to 2^-17
_DRAW = 64  # bits of a draw
_POSITION_SHIFT = 16  # a counter holds the position in its upper bits and the number of the draw in its lower ones


class Dropout(nn.Module):
    """Inverted dropout of slots, (..., T, D), or of newest positions, (..., R, D)."""

    rate: float

    @nn.compact
    def __call__(self, x: Array, sequences: Sequences, deterministic: bool) -> Array:
        if deterministic or self.rate == 0:
            return x
        last_only = x.shape[-2] != len(sequences.items_T)
        place = sequences.places_R if last_only else sequences.places_T
        index = sequences.newest_R if last_only else sequences.index_T
        part = (_owners(place, x.shape[:-2]), index, x.shape[-1])
        return drop(x, *keeps(self.make_rng("dropout"), self.rate, [part]), self.rate)


def drop_weights(weights: list[Array], key: Array, rate: float, sequences: Sequences, heads: int) -> list[Array]:
    """Inverted dropout of attention weights, one array per row group.

    Args:
      weights: (..., rows, Q, L) each, with more than one head (..., rows, heads, Q, L). Q is L, or 1 for the newest
        position of each row.
      key: the layer's random key.
    """
    parts = [
        (owner, index, weight.shape[-1]) for (owner, index), weight in zip(_queries(weights, sequences, heads), weights)
    ]
    masks = keeps(key, rate, parts)
    if sequences.places.packed or not sequences.items_first:  # from the order of positions to that of slots
        indices = sequences.split(sequences.index_T, -1)
        masks = [
            jnp.take_along_axis(mask, _beside(index[:, None, :], mask, heads), axis=-1)
            for mask, index in zip(masks, indices)
        ]
    return [drop(weight, mask, rate) for weight, mask in zip(weights, masks)]


def drop_left_out(weights: list[Array], key: Array, rate: float, sequences: Sequences, heads: int) -> list[Array]:
    """Inverted dropout of padding that a row leaves out: `left_out_R` equal weights, given as their sum.

    It drops what `drop_weights`, with the same key, drops in a layout that has this padding in slots.

    Args:
      weights: as for `drop_weights`, with L = 1.
    """
    bits, least = _precision(rate)
    queries, last_only = _queries(weights, sequences, heads), _last_only(weights, sequences)
    newest, left_out = (of_queries(sequences, a, last_only) for a in (sequences.newest_R, sequences.left_out_R))
    out = []
    for weight, (owner, index), newest_RxQ, left_out_RxQ in zip(weights, queries, newest, left_out):
        last, count = (_beside(a[:, :, None], weight, heads)[..., 0] for a in (newest_RxQ, left_out_RxQ))
        kept = _count(key, rate, owner, index, last + 1, last + 1 + count)
        share = kept.astype(weight.dtype) * (2**bits / least) / jnp.maximum(count, 1).astype(weight.dtype)
        out.append(weight * share[..., None])
    return out


def drop(x: Array, kept: Array, rate: float) -> Array:
    """x where it is kept, scaled so that the mean stays the same, and zeros elsewhere."""
    bits, least = _precision(rate)
    return jnp.where(kept, x * (2**bits / least), jnp.zeros_like(x))


def keeps(key: Array, rate: float, parts: Sequence[tuple[Array, Array, int]]) -> list[Array]:
    """Which entries dropout keeps: for each part (owner, index, channels) bool (..., channels).

    An entry depends only on the key, its owner, index and channel, neither on the other parts nor on the number of
    channels. All parts are drawn at once, which is faster.

    Args:
      key: the layer's random key.
      rate: of the dropout.
      parts: owner and index are integers with the same number of axes, broadcast against each other; index < 2^16.
    """
    bits, least = _precision(rate)
    counters = [_counters(owner, index, -(-channels * bits // _DRAW)) for owner, index, channels in parts]
    if len(counters) == 1:
        words = [_words(key, *counters[0])]
    else:
        flat = _words(key, *(jnp.concatenate([c.reshape(-1) for c in every]) for every in zip(*counters)))
        split = jax.lax.split(flat, [first.size for first, _ in counters], axis=0)
        words = [w.reshape(*first.shape, 2) for w, (first, _) in zip(split, counters)]
    return [_fields(w, bits)[..., :channels] < least for w, (_, _, channels) in zip(words, parts)]


def words(key: Array, owners_n: Array) -> Array:
    """uint32 (n,): a uniform random word for each owner, a function of the key and the owner alone.

    Args:
      key: a random key, or its key data.
      owners_n: int32.
    """
    owners_n = owners_n.astype(jnp.uint32)
    return _words(key, owners_n, jnp.zeros_like(owners_n))[..., 0]


def _precision(rate: float) -> tuple[int, int]:
    """The number of random bits that decide about an entry, as few as the rate needs; it is kept below which number."""
    bits = next((b for b in (1, 2, 4, 8) if (rate * 2**b).is_integer()), _MOST_BITS)
    return bits, round((1 - rate) * 2**bits)


def _counters(owner: Array, index: Array, draws: int) -> tuple[Array, Array]:
    """uint32 (..., draws) twice: what Threefry hashes for each owner's index."""
    draw = jnp.arange(draws, dtype=jnp.uint32).reshape(*[1] * index.ndim, -1)
    second = (index.astype(jnp.uint32)[..., None] << _POSITION_SHIFT) | draw
    shape = jnp.broadcast_shapes((*owner.shape, 1), second.shape)
    return jnp.broadcast_to(owner.astype(jnp.uint32)[..., None], shape), jnp.broadcast_to(second, shape)


def _words(key: Array, first: Array, second: Array) -> Array:
    """uint32 (..., 2): two random words for each pair of counters."""
    key = jax.random.key_data(key)
    return jnp.stack(threefry2x32_p.bind(key[0], key[1], first, second), axis=-1)


def _fields(words: Array, bits: int) -> Array:
    """uint32 (..., draws, 2) -> (..., draws * 64 / bits), uniform below 2 ** bits."""
    shifts = jnp.arange(0, 32, bits, dtype=jnp.uint32).reshape(*[1] * words.ndim, -1)
    return ((words[..., None] >> shifts) & jnp.uint32(2**bits - 1)).reshape(*words.shape[:-2], -1)


def _count(key: Array, rate: float, owner: Array, index: Array, start: Array, end: Array) -> Array:
    """int32: how many channels from `start` to `end` (exclusive) `keeps` keeps. All have the same number of axes."""
    bits, least = _precision(rate)
    a_draw = _DRAW // bits
    channel = jnp.arange(a_draw, dtype=jnp.int32).reshape(*[1] * owner.ndim, -1)
    shape = jnp.broadcast_shapes(owner.shape, index.shape)
    first, second = _counters(owner, index, 1)

    def one(draw, total):
        kept = _fields(_words(key, first, second | draw.astype(jnp.uint32)), bits) < least
        counts = (channel + draw * a_draw >= start[..., None]) & (channel + draw * a_draw < end[..., None])
        return total + jnp.sum(kept & counts, axis=-1, dtype=jnp.int32)

    return jax.lax.fori_loop(0, (end.max() + a_draw - 1) // a_draw, one, jnp.zeros(shape, jnp.int32))


def of_queries(sequences: Sequences, x_R: Array, last_only: bool) -> list[Array]:
    """(rows, Q) per group: a number of each row, for each of its queries; Q = 1 where all queries of a row share it.

    Args:
      x_R: (R,).
      last_only: queries are each row's newest position.
    """
    if sequences.places.packed and not last_only:
        return sequences.split(jnp.take(x_R, sequences.row_T, mode="clip"), -1)
    return sequences.split_by_bin(x_R, -1)


def _owners(place: Array, lead: tuple[int, ...], heads: tuple[int, ...] = ()) -> Array:
    """int32: each place's number, another for each view and head: (n,) -> (*lead, n), (n, Q) -> (*lead, n, *heads, Q)."""
    count = math.prod((*lead, *heads))
    behind = place.shape[1:]
    within = jnp.arange(count, dtype=jnp.int32).reshape(*lead, 1, *heads, *[1] * len(behind))
    return place.reshape(*[1] * len(lead), -1, *[1] * len(heads), *behind) * count + within


def _last_only(weights: list[Array], sequences: Sequences) -> bool:
    """Whether the queries are each row's newest position, and not all slots."""
    return any(weight.shape[-2] != length for weight, (_, length) in zip(weights, sequences.places.bins))


def _queries(weights: list[Array], sequences: Sequences, heads: int) -> list[tuple[Array, Array]]:
    """Owner and index of the queries of each row group's weights."""
    by_head = (heads,) if heads > 1 else ()
    lead = weights[0].shape[: weights[0].ndim - 3 - len(by_head)]
    last_only = _last_only(weights, sequences)
    places = of_queries(sequences, sequences.places_R, last_only)
    if last_only:
        indices = of_queries(sequences, sequences.newest_R, last_only)
    else:
        indices = sequences.split(sequences.index_T, -1)
    return [
        (_owners(place, lead, by_head), _beside(index[:, :, None], weight, heads)[..., 0])
        for weight, place, index in zip(weights, places, indices)
    ]


def _beside(x: Array, weight: Array, heads: int) -> Array:
    """(rows, Q, L) with as many axes as a row group's weights have."""
    lead = weight.ndim - 3 - (heads > 1)
    return x.reshape(*[1] * lead, len(x), *[1] * (heads > 1), *x.shape[1:])
