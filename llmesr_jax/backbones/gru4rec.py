"""GRU4Rec: one GRU layer (Hidasi et al., ICLR 2016), in the form of LLM-ESR's release: no bias, no positions.

r = sigmoid(W_r x + U_r h); z = sigmoid(W_z x + U_z h); n = tanh(W_n x + r * (U_n h)); h' = (1 - z) n + z h.
It learns from the last position only.

Deviations. In LLM-ESR's release the GRU also runs over the padding on the left, which changes its start state:
`through_padding=True`, preset `release`. It needs rows that are padded on the left (`data.layout=padded`, which
`auto` then chooses).
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from llmesr_jax.backbones.layers import newest
from llmesr_jax.contracts import Array, Sequences, Sizes, join, knob

SUPERVISION = "last"


@dataclasses.dataclass(frozen=True)
class Config:
    layers: int = knob(1, "GRU layers", least=1)
    through_padding: bool = knob(False, "the GRU runs over the padding before a sequence too")


def needs_padding(config: Config) -> bool:
    """Whether results depend on padding that only a padded layout has."""
    return config.through_padding


class Backbone(nn.Module):
    config: Config
    sizes: Sizes

    def stem(self, x_TxD: Array, sequences: Sequences, deterministic: bool) -> Array:
        """Nothing: GRU4Rec neither scales nor adds positions."""
        return x_TxD

    @nn.compact
    def __call__(self, x_TxD: Array, sequences: Sequences, deterministic: bool, last_only: bool = False) -> Array:
        """(..., T, D) -> (..., T, D), or each row's newest position, (..., R, D), with `last_only`."""
        width = x_TxD.shape[-1]
        init = nn.initializers.xavier_normal()
        for i in range(self.config.layers):
            inward = self.param(f"input_kernel_{i}", init, (width, 3 * width)).astype(x_TxD.dtype)
            recurrent = self.param(f"recurrent_kernel_{i}", init, (width, 3 * width)).astype(x_TxD.dtype)
            parts = zip(sequences.split(x_TxD @ inward), sequences.split(sequences.real_T, -1))
            through = self.config.through_padding
            x_TxD = join([_scan(gates, recurrent, real_RxL | through) for gates, real_RxL in parts])
        return newest(x_TxD, sequences) if last_only else x_TxD


def _scan(gates: Array, recurrent_Dx3D: Array, moves_RxL: Array) -> Array:
    """The recurrence over one group: gates (..., rows, length, 3D) = W x -> h (..., rows, length, D).

    Where `moves_RxL` is false the state stays as it was.
    """
    width = recurrent_Dx3D.shape[0]
    start = jnp.zeros((*gates.shape[:-2], width), gates.dtype)

    def step(h, inputs):
        gate, moves_R = inputs
        recurrent = h @ recurrent_Dx3D
        r, z = jnp.split(jax.nn.sigmoid(gate[..., : 2 * width] + recurrent[..., : 2 * width]), 2, axis=-1)
        n = jnp.tanh(gate[..., 2 * width :] + r * recurrent[..., 2 * width :])
        h = jnp.where(moves_R.reshape(*[1] * (h.ndim - 2), -1, 1), (1 - z) * n + z * h, h)
        return h, h

    _, states = jax.lax.scan(step, start, (jnp.moveaxis(gates, -2, 0), moves_RxL.T))
    return jnp.moveaxis(states, 0, -2)
