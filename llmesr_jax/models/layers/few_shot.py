"""CITIES' few-shot network, HiCE's (Hu et al., ACL 2019) without characters: contexts of an item -> its embedding."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from llmesr_jax.models.kernels import dropout as masks
from llmesr_jax.models.layers.dense import softmax, take_rows, uniform_bias
from llmesr_jax.models.types import Array

_HEADS, _LAYERS = 4, 2


def sines(slots: int, width: int, form: str) -> np.ndarray:
    """float32 (slots, width): sine and cosine of each slot in alternating columns.

    Args:
      slots: number of slots.
      width: number of columns, even.
      form: usual: frequencies 10000^(-2k / width); release: width / 10000^(2k), by a misplaced bracket.
    """
    with np.errstate(over="ignore"):
        frequency = 10000.0 ** -(np.arange(0, width, 2) / width)
        if form == "release":
            frequency = 1 / (10000.0 ** np.arange(0, width, 2) / width)
    angle = np.arange(slots)[:, None] * frequency[None]
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(slots, width).astype(np.float32)


class Norm(nn.Module):
    """a (x - mean) / (std + 1e-6) + b over the last axis, with the unbiased std."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:]).astype(x.dtype)
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:]).astype(x.dtype)
        lead = (1,) * (x.ndim - 1)
        x = x - x.mean(axis=-1, keepdims=True)
        square = jnp.sum(jnp.square(x), axis=-1, keepdims=True) / (x.shape[-1] - 1)
        # The square root has no gradient at 0, where x is 0 too.
        std = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
        return x / (std + 1e-6) * scale.reshape(*lead, -1) + bias.reshape(*lead, -1)


class Dropout(nn.Module):
    """Inverted dropout of (..., L, C); its bits are drawn for many entries at once, which Flax's are not."""

    rate: float

    @nn.compact
    def __call__(self, x: Array, deterministic: bool) -> Array:
        if deterministic or self.rate == 0:
            return x
        rows = x.reshape(-1, *x.shape[-2:])
        owner_nx1 = jnp.arange(rows.shape[0], dtype=jnp.int32)[:, None]
        index_1xL = jnp.arange(rows.shape[1], dtype=jnp.int32)[None]
        part = (owner_nx1, index_1xL, rows.shape[2])
        return masks.drop(rows, *masks.keeps(self.make_rng("dropout"), self.rate, [part]), self.rate).reshape(x.shape)


class Layer(nn.Module):
    """x = N(x + MHA(x)); x = N(x + W2 relu(W1 x))."""

    dropout: float
    attention_dropout: float

    @nn.compact
    def __call__(self, x_mxwxD: Array, real_mxw: Array, deterministic: bool) -> Array:
        width, init = x_mxwxD.shape[-1], nn.initializers.xavier_uniform()
        dense = lambda name, features, fan_in: nn.Dense(  # noqa: E731
            features, name != "key", kernel_init=init, bias_init=uniform_bias(fan_in), name=name
        )
        drop = lambda x: Dropout(self.dropout)(x, deterministic)  # noqa: E731
        split = lambda x: x.reshape(*x.shape[:-1], _HEADS, width // _HEADS)  # noqa: E731
        query, key, value = (split(dense(name, width, width)(x_mxwxD)) for name in ("query", "key", "value"))
        score = jnp.einsum("mqhd,mkhd->mhqk", query * (width // _HEADS) ** -0.5, key)
        weight = softmax(score, -1, real_mxw[:, None, None, :]).astype(value.dtype)
        weight = Dropout(self.attention_dropout)(weight, deterministic)
        mixed = jnp.einsum("mhqk,mkhd->mqhd", weight, value).reshape(x_mxwxD.shape)
        x = Norm(name="attention_norm")(x_mxwxD + drop(dense("out", width, width)(mixed)))
        inner = drop(jax.nn.relu(dense("inner", 2 * width, width)(x)))
        return Norm(name="feedforward_norm")(x + drop(dense("outer", width, 2 * width)(inner)))


class Inference(nn.Module):
    """F in its two parts: `read` for each context by itself, `aggregate` for an item's contexts.

    Attributes:
      width: D.
      window: slots on either side of a context's place.
      dropout, attention_dropout: rates.
      positions: form of the sine, see `sines`.
      own_target: whether a trained vector of this network stands at a context's place.
    """

    width: int
    window: int
    dropout: float
    attention_dropout: float
    positions: str
    own_target: bool

    def setup(self):
        layers = lambda: [Layer(self.dropout, self.attention_dropout) for _ in range(_LAYERS)]  # noqa: E731
        self.slot_scale = self.param("slot_scale", nn.initializers.ones, (2 * self.window + 1,))
        if self.own_target:
            self.target = self.param("target", nn.initializers.normal(0.02), (self.width,))
        self.readers, self.aggregators = layers(), layers()
        self.drop = Dropout(self.dropout)
        init = nn.initializers.xavier_uniform()
        self.out = nn.Dense(self.width, kernel_init=init, bias_init=uniform_bias(self.width))

    def read(self, x_mxwxD: Array, slots_mxw: Array, deterministic: bool) -> Array:
        """Encodes each context: item vectors (m, w, D), int32 slots (m, w) with -1 for none -> r_k (m, D)."""
        real_mxw, slots_mxw = slots_mxw >= 0, jnp.maximum(slots_mxw, 0)
        if self.own_target:
            x_mxwxD = jnp.where((slots_mxw == self.window)[..., None], self.target.astype(x_mxwxD.dtype), x_mxwxD)
        sine_SxD = sines(2 * self.window + 1, self.width, self.positions) / np.sqrt(self.width)
        sine_SxD = jnp.asarray(sine_SxD, x_mxwxD.dtype)
        x = x_mxwxD * take_rows(self.slot_scale.astype(x_mxwxD.dtype), slots_mxw)[..., None]
        x = self.drop(x + take_rows(sine_SxD, slots_mxw), deterministic)
        for layer in self.readers:
            x = layer(x, real_mxw, deterministic)
        return masked_mean(x, real_mxw)

    def aggregate(self, r_nxKxD: Array, real_nxK: Array, deterministic: bool) -> Array:
        """(n, K, D), bool (n, K) -> (n, D): each item's embedding, inferred from its real contexts."""
        for layer in self.aggregators:
            r_nxKxD = layer(r_nxKxD, real_nxK, deterministic)
        return self.out(masked_mean(r_nxKxD, real_nxK))


def masked_mean(x_nxKxD: Array, real_nxK: Array) -> Array:
    """(n, D): the mean over the real entries of the second axis, 0 if there are none."""
    count_nx1 = jnp.maximum(jnp.sum(real_nxK, axis=1, keepdims=True), 1).astype(x_nxKxD.dtype)
    return jnp.sum(jnp.where(real_nxK[..., None], x_nxKxD, 0), axis=1) / count_nx1
