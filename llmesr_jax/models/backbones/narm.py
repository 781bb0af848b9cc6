"""NARM: a GRU with attention from its last state (Li et al., CIKM 2017).

h = GRU(dropout(x)), one layer as in GRU4Rec; weights a[t, j] = softmax over j <= t of v . sigmoid(A1 h[t] + A2 h[j]);
user vector B dropout([sum over j of a[t, j] h[j] ; h[t]]), local and global purpose side by side. No positions.
It is causal. By default it learns from the last position, like GRU4Rec; `supervision=every` takes the loss at every
position, which is the paper's training on all prefixes, at an additional cost of L D per position.

Cost per position: 6 D^2 multiply-adds for the GRU, step by step, and D^2 for A2; per row: A1, B and n D sigmoids.

Deviations. The weights are normalised, as in the authors' code; in the paper's equation (and RecBole) they are not:
`normalize=False`. There are no biases, and a sigmoid replaces the code's piecewise linear function.
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from llmesr_jax.core.knobs import knob
from llmesr_jax.models.backbones.gru4rec import recur
from llmesr_jax.models.kernels.dropout import Dropout
from llmesr_jax.models.layers.dense import aligned, at_newest, newest, softmax
from llmesr_jax.models.types import Array, Sequences, Sizes, wide


@dataclasses.dataclass(frozen=True)
class Config:
    supervision: str = knob("last", "positions with a loss: last or every", choices=("last", "every"))
    normalize: bool = knob(True, "attention weights are a softmax; False: they are not normalised")
    embedding_dropout: float = knob(0.25, "dropout rate before the GRU", least=0, most=0.99)
    dropout: float = knob(0.5, "dropout rate of the two states before their projection", least=0, most=0.99)


def supervision(config: Config) -> str:
    """The positions that a loss may use; the encoder is causal, so neither choice leaks a target."""
    return config.supervision


def needs_padding(config: Config) -> bool:
    """Whether results depend on padding that only a padded layout has."""
    return False


class Backbone(nn.Module):
    config: Config
    sizes: Sizes

    def setup(self):
        self.drop = Dropout(self.config.embedding_dropout)
        self.reader = Reader(self.config)

    def stem(self, x_TxD: Array, sequences: Sequences, deterministic: bool) -> Array:
        """Dropout: (..., T, D) -> (..., T, D)."""
        return self.drop(x_TxD, sequences, deterministic)

    def __call__(self, x_TxD: Array, sequences: Sequences, deterministic: bool, last_only: bool = False) -> Array:
        """(..., T, D) -> (..., T, D), or each row's newest position, (..., R, D), with `last_only`.

        With `supervision=last` all other positions are zeros, unless `Sizes.all_slots`.
        """
        newest_only = last_only or (self.config.supervision == "last" and not self.sizes.all_slots)
        out = self.reader(x_TxD, sequences, deterministic, newest_only)
        return at_newest(out, sequences) if newest_only and not last_only else out


class Reader(nn.Module):
    """The GRU, the attention over its states, the projection of both."""

    config: Config

    @nn.compact
    def __call__(self, x_TxD: Array, sequences: Sequences, deterministic: bool, last_only: bool) -> Array:
        width, init = x_TxD.shape[-1], nn.initializers.xavier_normal()
        matrix = lambda name, *shape: self.param(name, init, shape).astype(x_TxD.dtype)  # noqa: E731
        inward, recurrent = matrix("input_kernel", width, 3 * width), matrix("recurrent_kernel", width, 3 * width)
        h_TxD = recur(x_TxD @ inward, recurrent, sequences.valid_T, sequences, False)
        last = newest(h_TxD, sequences) if last_only else h_TxD
        query = last @ matrix("query_kernel", width, width)
        key_TxD = h_TxD @ matrix("key_kernel", width, width)
        local = purpose(query, key_TxD, h_TxD, matrix("score_kernel", width, 1), sequences, self.config.normalize)
        both = jnp.concatenate([local, last], axis=-1)
        both = Dropout(self.config.dropout)(both, sequences, deterministic)
        return both @ matrix("out_kernel", 2 * width, width)


def purpose(
    query: Array, key_TxD: Array, state_TxD: Array, score_Dx1: Array, sequences: Sequences, normalize: bool
) -> Array:
    """The sum of a[j] state[j] over a row's slots up to the query's, a = v . sigmoid(query + key[j]) or its softmax.

    Args:
      query: (..., T, D), or (..., R, D): one query a row, its newest position.
      key_TxD, state_TxD: (..., T, D).
    Returns: an array like `query`.
    """
    last_only = query.shape[-2] != key_TxD.shape[-2]
    queries = sequences.split_rows(query) if last_only else sequences.split(query)
    slots, outputs = sequences.split(jnp.arange(key_TxD.shape[-2], dtype=jnp.int32), -1), []
    ends = sequences.split_rows(sequences.last_R, -1) if last_only else slots
    parts = zip(queries, sequences.split(key_TxD), sequences.split(state_TxD), sequences.split(sequences.valid_T, -1))
    for (q, k, h, valid_RxL), slot_RxL, end in zip(parts, slots, ends):
        q, end = (q[..., None, :], end[:, None]) if last_only else (q, end)  # (..., R, Q, D), (R, Q)
        meeting = jax.nn.sigmoid(q[..., :, None, :] + k[..., None, :, :])  # (..., R, Q, L, D)
        score = (meeting @ score_Dx1)[..., 0].astype(wide(q))
        seen = aligned(valid_RxL[:, None, :] & (slot_RxL[:, None, :] <= end[:, :, None]), score)
        weight = softmax(score, -1, seen) if normalize else jnp.where(seen, score, 0)
        outputs.append(jnp.einsum("...ql,...ld->...qd", weight.astype(h.dtype), h, preferred_element_type=wide(h)))
    if last_only:
        return sequences.join_rows([out[..., 0, :] for out in outputs]).astype(query.dtype)
    return sequences.join(outputs).astype(query.dtype)
