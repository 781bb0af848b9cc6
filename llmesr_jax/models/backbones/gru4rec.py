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

from llmesr_jax.core.knobs import knob
from llmesr_jax.models.types import Array, Sequences, Sizes, wide


@dataclasses.dataclass(frozen=True)
class Config:
    layers: int = knob(1, "GRU layers", least=1)
    through_padding: bool = knob(False, "the GRU also runs over the padding before a sequence (preset release)")


def supervision(config: Config) -> str:
    """The positions that a loss may use."""
    return "last"


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
            moves_T = sequences.valid_T | self.config.through_padding
            only_last = last_only and i == self.config.layers - 1
            if only_last:  # a row stops at its newest slot, so its final state is the one to return
                row_T = sequences.row_T
                moves_T = moves_T & (jnp.arange(len(row_T)) <= sequences.last_R[row_T])
            x_TxD = recur(x_TxD @ inward, recurrent, moves_T, sequences, only_last)
        return x_TxD


def recur(gates_Tx3D: Array, recurrent_Dx3D: Array, moves_T: Array, sequences: Sequences, last_only: bool) -> Array:
    """The recurrence over all rows: gates W x (..., T, 3D) -> h (..., T, D), or (..., R, D) after the last slot.

    Rows of all lengths advance side by side, in stages: the first takes all rows to the end of the shortest, the next
    takes all longer rows to the end of the second shortest, and so on. So the number of sequential steps is the length
    of the longest row.

    Args:
      moves_T: bool, where false the state stays as it was.
    """
    gates, moves = sequences.split(gates_Tx3D), sequences.split(moves_T, -1)
    groups, rows = sequences.groups, len(sequences.last_R)
    h = jnp.zeros((*gates_Tx3D.shape[:-2], rows, recurrent_Dx3D.shape[0]), wide(gates_Tx3D))
    start, last, states = 0, [], [[] for _ in gates]
    for g in reversed(range(len(gates))):  # groups are in order of length, longest first
        rows, length = groups[g]
        if length > start:
            stage = jnp.concatenate([x[..., start:length, :] for x in gates[: g + 1]], axis=-3)
            moving = jnp.concatenate([x[:, start:length] for x in moves[: g + 1]], axis=0)
            h, found = _scan(h, stage, recurrent_Dx3D, moving, keep=not last_only)
            if not last_only:
                of_groups = jax.lax.split(found, [n for n, _ in groups[: g + 1]], axis=found.ndim - 3)
                for kept, part in zip(states, of_groups):
                    kept.append(part)
        h, done = jax.lax.split(h, [h.shape[-2] - rows, rows], axis=h.ndim - 2)
        last.insert(0, done)
        start = length
    if last_only:
        return sequences.join_rows(last).astype(gates_Tx3D.dtype)
    return sequences.join([jnp.concatenate(kept, axis=-2) for kept in states])


def _scan(h: Array, gates: Array, recurrent_Dx3D: Array, moves_RxL: Array, keep: bool) -> tuple[Array, Array | None]:
    """h (..., R, D) and gates (..., R, L, 3D) -> the last h, and with `keep` every h, (..., R, L, D), else None."""
    width = recurrent_Dx3D.shape[0]

    def step(h, inputs):
        gate, moves_R = inputs
        recurrent = (h.astype(recurrent_Dx3D.dtype) @ recurrent_Dx3D).astype(h.dtype)
        gate = gate.astype(h.dtype)
        r, z = jnp.split(jax.nn.sigmoid(gate[..., : 2 * width] + recurrent[..., : 2 * width]), 2, axis=-1)
        n = jnp.tanh(gate[..., 2 * width :] + r * recurrent[..., 2 * width :])
        h = jnp.where(moves_R.reshape(*[1] * (h.ndim - 2), -1, 1), (1 - z) * n + z * h, h)
        return h, h.astype(gates.dtype) if keep else None

    h, states = jax.lax.scan(step, h, (jnp.moveaxis(gates, -2, 0), moves_RxL.T))
    return h, jnp.moveaxis(states, 0, -2) if keep else None
