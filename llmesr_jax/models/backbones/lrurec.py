"""LRURec: a diagonal linear recurrence with complex numbers (Yue et al., WSDM 2024), in the form of FAERec's release.

Block: x = LN(x + dropout(Re(W_out h + b_out))) with h[t] = u[t] + lambda * h[t - 1], u = gamma * (W_in x + b_in),
lambda = exp(-nu + i theta); then x = LN(x + dropout(W2 gelu(W1 x))). The state is 2 D complex numbers wide, and nu,
theta, gamma (stored as logarithms) start so that |lambda| is uniform over the area of the ring 0.8 to 0.99, the angle
uniform, and gamma^2 = 1 - |lambda|^2. There are no positions. It is causal and learns from every position.

The recurrence runs as an associative scan that starts anew at each sequence: in pass i every slot takes in the state
2^i slots before it, weighted with lambda^(2^i), if that slot belongs to the same sequence. All rows go through it
flat, whatever their lengths.

Cost per position and block: 16 D^2 multiply-adds (4 D^2 in, 4 D^2 out, 8 D^2 feed-forward), and 2 D log2(L) complex
ones for the scan. With `last_only` the last block's second half runs on newest positions.

With precision=bfloat16 matrix products are narrow, the scan is not; nu, theta and gamma are rounded like every matrix,
and what is computed from them is wide.

Deviations. Only the stem's LayerNorm: FAERec's release has none there, but one behind FAERec's gate. The imaginary part
of b_out, which Re() drops, is not a parameter.
"""

from __future__ import annotations

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from llmesr_jax.core.knobs import knob
from llmesr_jax.models.kernels.dropout import Dropout
from llmesr_jax.models.layers import settings
from llmesr_jax.models.layers.dense import LayerNorm, aligned, newest
from llmesr_jax.models.layers.postnorm import EPSILON, FeedForward, Residual
from llmesr_jax.models.types import Array, Sequences, Sizes, wide

_INIT = nn.initializers.truncated_normal(0.02, lower=-2.0, upper=2.0)

Complex = tuple[Array, Array]  # real part, imaginary part


@dataclasses.dataclass(frozen=True)
class Config:
    blocks: int = settings.blocks("blocks of recurrence and feed-forward")
    dropout: float = settings.dropout(0.4, "embeddings, recurrence, feed-forward")
    least_modulus: float = knob(0.8, "inner radius of the ring where lambda starts", least=0, most=0.9999)
    most_modulus: float = knob(0.99, "outer radius of that ring", least=0.0001, most=0.9999)


def supervision(config: Config) -> str:
    """The positions that a loss may use."""
    return "every"


def needs_padding(config: Config) -> bool:
    """Whether results depend on padding that only a padded layout has: no, a state starts at its sequence."""
    return False


class Backbone(nn.Module):
    config: Config
    sizes: Sizes

    def setup(self):
        c = self.config
        self.norm = None if self.sizes.normed else LayerNorm(EPSILON)
        self.drop = Dropout(c.dropout)
        self.blocks = [Block(c) for _ in range(c.blocks)]

    def stem(self, x_TxD: Array, sequences: Sequences, deterministic: bool) -> Array:
        """Dropout, LayerNorm (unless the method has one): (..., T, D) -> (..., T, D)."""
        x_TxD = self.drop(x_TxD, sequences, deterministic)
        return self.norm(x_TxD) if self.norm else x_TxD

    def __call__(self, x_TxD: Array, sequences: Sequences, deterministic: bool, last_only: bool = False) -> Array:
        """(..., T, D) -> (..., T, D), or each row's newest position, (..., R, D), with `last_only`."""
        for i, block in enumerate(self.blocks):
            x_TxD = block(x_TxD, sequences, deterministic, last_only and i == len(self.blocks) - 1)
        return x_TxD


class Block(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, x_TxD: Array, sequences: Sequences, deterministic: bool, last_only: bool) -> Array:
        change = Recurrence(self.config, name="recurrence")(x_TxD, sequences, last_only)
        x = newest(x_TxD, sequences) if last_only else x_TxD
        x = Residual(self.config.dropout, name="recurrence_residual")(x, change, sequences, deterministic)
        return FeedForward(self.config.dropout, _INIT, name="feedforward")(x, sequences, deterministic)


class Recurrence(nn.Module):
    """Re(W_out h + b_out): (..., T, D), or (..., R, D) with `last_only`.

    Complex parameters are stored as (real, imaginary).
    """

    config: Config

    @nn.compact
    def __call__(self, x_TxD: Array, sequences: Sequences, last_only: bool) -> Array:
        width, zeros = x_TxD.shape[-1], nn.initializers.zeros
        logs = self.param("logs", self._ring, (3, 2 * width))
        nu, theta, gamma = jnp.exp(logs.astype(wide(logs)))
        in_kernel = self.param("in_kernel", _INIT, (2, width, 2 * width)).astype(x_TxD.dtype)
        in_bias = self.param("in_bias", zeros, (2, 2 * width)).astype(x_TxD.dtype)
        out_kernel = self.param("out_kernel", _INIT, (2, 2 * width, width)).astype(x_TxD.dtype)
        out_bias = self.param("out_bias", zeros, (width,)).astype(x_TxD.dtype)

        inward = x_TxD @ jnp.concatenate(in_kernel, axis=1) + aligned(jnp.concatenate(in_bias), x_TxD)
        inward = inward.astype(wide(inward))
        inward = inward * aligned(jnp.concatenate([gamma, gamma]), inward)
        modulus = jnp.exp(-nu)
        longest = max(length for _, length in sequences.buckets)
        h = scan(
            longest,
            (modulus * jnp.cos(theta), modulus * jnp.sin(theta)),
            tuple(jnp.split(inward, 2, axis=-1)),
            sequences.positions_T,
        )
        real, imaginary = (newest(part, sequences) for part in h) if last_only else h
        states = jnp.concatenate([real, imaginary], axis=-1).astype(x_TxD.dtype)
        return states @ jnp.concatenate([out_kernel[0], -out_kernel[1]]) + aligned(out_bias, states)

    def _ring(self, key: Array, shape: tuple[int, int], dtype=jnp.float32) -> Array:
        """log nu, log theta, log gamma of states spread over the ring."""
        u_H, angle_H = jax.random.uniform(key, (2, shape[1]), dtype, minval=1e-7)
        least, most = self.config.least_modulus, self.config.most_modulus
        square_H = u_H * (most**2 - least**2) + least**2  # |lambda|^2
        return jnp.log(jnp.stack([-0.5 * jnp.log(square_H), 2 * jnp.pi * angle_H, jnp.sqrt(1 - square_H)]))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def scan(longest: int, decay_H: Complex, u_TxH: Complex, positions_T: Array) -> Complex:
    """h[t] = u[t] + decay * h[t - 1] within each sequence, (..., T, H); h = u in empty slots.

    Args:
      longest: slots of the longest row.
      positions_T: 1..n along a sequence's n neighbouring slots, 0 in empty ones.
    """
    return _accumulate(longest, decay_H, u_TxH, positions_T, 1)


def _accumulate(longest: int, decay_H: Complex, u_TxH: Complex, positions_T: Array, direction: int) -> Complex:
    """The sum of decay^k u[t - k] over the slots before t in its sequence; `direction=-1`: after t."""
    (a, b), (real, imaginary), reach = decay_H, u_TxH, 1
    while reach < longest:
        # Two slots, `reach` apart, are of one sequence if the later one's position is above `reach`.
        later_T = positions_T if direction > 0 else _moved(positions_T[:, None], -reach)[:, 0]
        together = aligned((later_T > reach)[:, None], real)
        r, i = (jnp.where(together, _moved(x, direction * reach), jnp.zeros_like(x)) for x in (real, imaginary))
        a_, b_ = aligned(a, real), aligned(b, real)
        real, imaginary = real + a_ * r - b_ * i, imaginary + a_ * i + b_ * r
        a, b, reach = a * a - b * b, 2 * a * b, 2 * reach
    return real, imaginary


def _moved(x_TxH: Array, by: int) -> Array:
    """x[t - by], zeros from outside."""
    zero = jnp.zeros((), x_TxH.dtype)
    return jax.lax.pad(x_TxH, zero, [(0, 0, 0)] * (x_TxH.ndim - 2) + [(by, -by, 0), (0, 0, 0)])


def _scan_forward(longest, decay_H, u_TxH, positions_T):
    h_TxH = _accumulate(longest, decay_H, u_TxH, positions_T, 1)
    return h_TxH, (decay_H, h_TxH, positions_T)


def _scan_backward(longest, kept, gradient_TxH):
    """The gradient: the recurrence run backwards with the conjugate of lambda. It needs h, but no pass of the scan."""
    (a, b), h_TxH, positions_T = kept
    real, imaginary = _accumulate(longest, (a, -b), gradient_TxH, positions_T, -1)
    together = aligned((positions_T > 1)[:, None], real)
    r, i = (jnp.where(together, _moved(x, 1), jnp.zeros_like(x)) for x in h_TxH)
    into = lambda x: x.sum(axis=tuple(range(x.ndim - 1)))  # noqa: E731
    return (into(real * r + imaginary * i), into(imaginary * r - real * i)), (real, imaginary), None


scan.defvjp(_scan_forward, _scan_backward)
