"""LightSANs: low-rank self-attention against latent interests (Fan et al., SIGIR 2021).

Keys and values of a row are pooled to k interests, each a softmax-weighted mean over its items: K' = softmax(K A)^T K,
V' = softmax(V B)^T V, A and B (D, k), the softmax over items. Positions attend to each other separately, with
queries and keys from LN(position embedding) alone. Block, for each head of width d:
  change = softmax(Q K'^T / sqrt(d)) V' + softmax(Q_p K_p^T / sqrt(d)) V;
  x = LN(x + dropout(W change)); x = LN(x + dropout(W2 gelu(W1 x))).
An interest summarizes the whole row, so every position sees all others, and only the last position has a loss.

Cost per position and block: 12 D^2 multiply-adds and 4 k D for the interests, 2 n D for the positions of n items. The
last block computes queries and feed-forward for newest positions only.

Deviations. RecBole's code takes both softmaxes over queries, pools padding too, and divides the positions' scores by
another sqrt(2 d); here each query's weights sum to one, over real items. Keys have no bias: no softmax would see it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.knobs import knob
from llmesr_jax.models.kernels.dropout import Dropout
from llmesr_jax.models.layers import settings
from llmesr_jax.models.layers.dense import (
    LayerNorm,
    aligned,
    at_newest,
    newest,
    softmax,
    take_rows,
)
from llmesr_jax.models.layers.postnorm import (
    EPSILON,
    NORMAL,
    FeedForward,
    Residual,
    dense,
)
from llmesr_jax.models.types import Array, Sequences, Sizes


@dataclasses.dataclass(frozen=True)
class Config:
    blocks: int = settings.blocks("blocks of attention and feed-forward")
    heads: int = settings.heads(2)
    interests: int = knob(0, "k, latent interests of a row; 0: a tenth of data.max_len, but at least 2", least=0)
    dropout: float = settings.dropout(0.4)


def supervision(config: Config) -> str:
    """The positions that a loss may use: the last one, because an interest summarizes the whole row."""
    return "last"


def needs_padding(config: Config) -> bool:
    """Whether results depend on padding that only a padded layout has."""
    return False


class Backbone(nn.Module):
    config: Config
    sizes: Sizes

    def setup(self):
        c = self.config
        interests = c.interests or max(2, self.sizes.max_len // 10)
        self.norm = None if self.sizes.normed else LayerNorm(EPSILON)
        self.drop = Dropout(c.dropout)
        self.positions = Positions(self.sizes.max_len)
        self.blocks = [Block(c.heads, interests, c.dropout) for _ in range(c.blocks)]

    def stem(self, x_TxD: Array, sequences: Sequences, deterministic: bool) -> Array:
        """LayerNorm (unless the method has one), dropout: (..., T, D) -> (..., T, D). Positions are not added."""
        x_TxD = self.norm(x_TxD) if self.norm else x_TxD
        return self.drop(x_TxD, sequences, deterministic)

    def __call__(self, x_TxD: Array, sequences: Sequences, deterministic: bool, last_only: bool = False) -> Array:
        """(..., T, D) -> (..., T, D), or each row's newest position, (..., R, D), with `last_only`.

        The other positions are zeros, unless `Sizes.all_slots`.
        """
        if x_TxD.shape[-1] % self.config.heads:
            raise InputError(
                f"{self.config.heads} attention heads do not divide a width of {x_TxD.shape[-1]}; expected a multiple "
                "of the heads; change one of the two"
            )
        position_TxD = self.positions(sequences, x_TxD)
        newest_only = last_only or not self.sizes.all_slots
        for i, block in enumerate(self.blocks):
            x_TxD = block(x_TxD, position_TxD, sequences, deterministic, newest_only and i == len(self.blocks) - 1)
        return at_newest(x_TxD, sequences) if newest_only and not last_only else x_TxD


class Positions(nn.Module):
    """(T, D): each slot's position embedding; positions count 1..n from a sequence's oldest item, 0 is padding."""

    length: int

    @nn.compact
    def __call__(self, sequences: Sequences, like: Array) -> Array:
        table = self.param("table", NORMAL, (self.length + 1, like.shape[-1]))
        return take_rows(table, sequences.positions_T).astype(like.dtype)


class Block(nn.Module):
    """Attention to interests and positions, and feed-forward; with `last_only` for newest positions: (..., R, D)."""

    heads: int
    interests: int
    dropout: float

    @nn.compact
    def __call__(
        self, x_TxD: Array, position_TxD: Array, sequences: Sequences, deterministic: bool, last_only: bool
    ) -> Array:
        width = x_TxD.shape[-1]
        asking, place_TxD = x_TxD, LayerNorm(EPSILON, name="position_norm")(position_TxD)
        asking_place = place_TxD
        if last_only:
            asking, asking_place = newest(x_TxD, sequences), newest(place_TxD, sequences)
        query, key_TxD, value_TxD = (
            nn.Dense(width, name != "key", kernel_init=NORMAL, name=name)(x)
            for name, x in (("query", asking), ("key", x_TxD), ("value", x_TxD))
        )
        place_query, place_key_TxD = (
            nn.Dense(width, name != "position_key", kernel_init=NORMAL, name=name)(x)
            for name, x in (("position_query", asking_place), ("position_key", place_TxD))
        )
        pools = {
            name: self.param(f"{name}_pool", nn.initializers.normal(1.0), (width, self.interests)).astype(x_TxD.dtype)
            for name in ("key", "value")
        }
        mixed = [
            interest + place
            for interest, place in zip(
                attend_interests(
                    query,
                    pool(key_TxD, pools["key"], sequences),
                    pool(value_TxD, pools["value"], sequences),
                    sequences,
                    self.heads,
                    lambda weights: Dropout(self.dropout)(weights, sequences, deterministic),
                ),
                attend_positions(place_query, place_key_TxD, value_TxD, sequences, self.heads),
            )
        ]
        mixed = _flat(mixed, sequences, last_only)
        x = Residual(self.dropout, name="attention_residual")(
            asking, dense(width, "out")(mixed), sequences, deterministic
        )
        return FeedForward(self.dropout, name="feedforward")(x, sequences, deterministic)


def pool(x_TxD: Array, pool_Dxk: Array, sequences: Sequences) -> list[Array]:
    """softmax(x pool)^T x over each row's items: one (..., R, k, D) array per row group."""
    out = []
    for x, score, valid_RxL in zip(
        sequences.split(x_TxD), sequences.split(x_TxD @ pool_Dxk), sequences.split(sequences.valid_T, -1)
    ):
        weight = softmax(score, -2, aligned(valid_RxL[..., None], score)).astype(x.dtype)
        out.append(jnp.einsum("...lk,...ld->...kd", weight, x))
    return out


def attend_interests(
    query: Array,
    keys: list[Array],
    values: list[Array],
    sequences: Sequences,
    heads: int,
    drop: Callable[[Array], Array],
) -> list[Array]:
    """softmax(Q K'^T / sqrt(d)) V' of each row group: (..., R, Q, D), Q = 1 where `query` is (..., R, D).

    Args:
      keys, values: (..., R, k, D) per row group.
      drop: dropout of the weights, (..., T or R, heads * k).
    """
    weights = []
    for q, k in zip(_rows(query, sequences), keys):
        q, k = _by_head(q, heads), _by_head(k, heads)
        weights.append(_together(softmax(jnp.einsum("...qhd,...khd->...qhk", q * q.shape[-1] ** -0.5, k), -1)))
    dropped = drop(_flat(weights, sequences, query.shape[-2] != len(sequences.items_T)))
    return [
        _together(jnp.einsum("...qhk,...khd->...qhd", _by_head(w, heads).astype(v.dtype), _by_head(v, heads)))
        for w, v in zip(_rows(dropped, sequences), values)
    ]


def attend_positions(query: Array, key_TxD: Array, value_TxD: Array, sequences: Sequences, heads: int) -> list[Array]:
    """softmax(Q_p K_p^T / sqrt(d)) V over each row's items; one array per row group, as from `attend_interests`.

    Args:
      query: (T, D) or (R, D); key_TxD: (T, D): of positions, so all views share them.
      value_TxD: (..., T, D).
    """
    out = []
    groups = zip(
        _rows(query, sequences),
        sequences.split(key_TxD),
        sequences.split(value_TxD),
        sequences.split(sequences.valid_T, -1),
    )
    for q, k, v, valid_RxL in groups:
        q, k, v = _by_head(q, heads), _by_head(k, heads), _by_head(v, heads)
        score = jnp.einsum("rqhd,rlhd->rhql", q * q.shape[-1] ** -0.5, k)
        weight = softmax(score, -1, valid_RxL[:, None, None, :]).astype(v.dtype)
        out.append(_together(jnp.einsum("rhql,...rlhd->...rqhd", weight, v)))
    return out


def _rows(query: Array, sequences: Sequences) -> list[Array]:
    """(..., T, D) or (..., R, D) -> (..., R, Q, D) per row group."""
    if query.shape[-2] == len(sequences.last_R) != len(sequences.items_T):
        return [q[..., None, :] for q in sequences.split_rows(query)]
    return sequences.split(query)


def _flat(parts: list[Array], sequences: Sequences, last_only: bool) -> Array:
    """Inverse of `_rows`."""
    return sequences.join_rows([part[..., 0, :] for part in parts]) if last_only else sequences.join(parts)


def _by_head(x: Array, heads: int) -> Array:
    return x.reshape(*x.shape[:-1], heads, -1)


def _together(x: Array) -> Array:
    return x.reshape(*x.shape[:-2], -1)
