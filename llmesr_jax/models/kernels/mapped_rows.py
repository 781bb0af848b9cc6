"""Frozen rows through a small network, for the few distinct rows that a step uses.

How many distinct items a step has is known only on the device. On a CPU the functions here work in blocks and stop
after the last item, in the forward and the backward pass, so unused rows cost nothing. An accelerator computes all rows
at once (`turns`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from llmesr_jax.models.kernels import turns
from llmesr_jax.models.kernels.dropout import drop, keeps
from llmesr_jax.models.layers.dense import take_rows
from llmesr_jax.models.types import Array, wide

_BLOCK = 256  # rows at a time: few, because the last block is padded
_LARGE = 4  # blocks at a time in the backward pass, where each turn adds to sums as large as the kernels


def gelu(x: Array) -> Array:
    """Exact GELU, by the error function: PyTorch's default."""
    return jax.nn.gelu(x, approximate=False)


class TwoLayers(NamedTuple):
    """x -> dropout(f(x W1 + b1)) W2 + b2.

    Attributes:
      inner, inner_bias: (F, H), (H,).
      outer, outer_bias: (H, D), (D,).
    """

    inner: Array
    inner_bias: Array
    outer: Array
    outer_bias: Array


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 8))
def map_two_layers(
    activation: Callable[[Array], Array],
    rate: float,
    table_VxF: Array,
    layers: TwoLayers,
    ids_n: Array,
    count: Array,
    key: Array,
    owners_n: Array | None = None,
    whole: bool = False,
) -> Array:
    """`layers` over table[ids] for the first `count` ids: (n, D).

    The other rows of the result are undefined and get no gradient. `layers.tables.map_rows` is the same for one matrix.

    Args:
      activation: f, entry by entry; static.
      rate: of the dropout, exact to 2^-17; static.
      table_VxF: frozen; if it is differentiated, its gradient is computed too.
      layers: the network.
      ids_n: int32 rows of the table.
      count: int32 ().
      key: uint32 key data; not used at rate 0.
      owners_n: int32, the id that each row's dropout depends on; None: its own. A step that renumbers ids passes the
        catalogue's ids.
      whole: all n rows at once, see `turns`; static.
    """
    return _forward(activation, rate, False, whole, table_VxF, layers, ids_n, count, key, owners_n)[0]


def _forward(activation, rate, for_back, whole, table_VxF, layers, ids_n, count, key, owners_n):
    run = functools.partial(_forward_blocks, activation, rate, for_back, whole)
    # On a CPU, seeds run one after the other under vmap, so that each stops at its own count.
    run = run if whole else jax.custom_batching.sequential_vmap(run)
    return run(table_VxF, layers, ids_n, count, key, ids_n if owners_n is None else owners_n)


def _forward_blocks(activation, rate, for_back, whole, table_VxF, layers, ids_n, count, key, owners_n):
    """The mapped rows; and, with `for_back`, a list of f's inputs and of which entries dropout kept."""
    n, size = len(ids_n), turns.size(len(ids_n), _BLOCK, table_VxF.shape[1], whole)
    ids_n, owners_n = (jnp.pad(x, (0, -n % size)) for x in (ids_n, owners_n))
    hidden, width = layers.outer.shape
    dtype = layers.inner.dtype

    def one(i, arrays):
        rows = take_rows(table_VxF, jax.lax.dynamic_slice_in_dim(ids_n, i * size, size)).astype(dtype)
        before = rows @ layers.inner + layers.inner_bias[None]
        after = activation(before)
        parts = [before]
        if rate:
            owners = jax.lax.dynamic_slice_in_dim(owners_n, i * size, size)
            (kept,) = keeps(key, rate, [(owners, jnp.zeros_like(owners), hidden)])
            after = drop(after, kept, rate)
            parts.append(kept)
        parts = [after @ layers.outer + layers.outer_bias[None], *(parts if for_back else [])]
        return [jax.lax.dynamic_update_slice_in_dim(a, p, i * size, 0) for a, p in zip(arrays, parts)]

    kinds = [(width, dtype), *([(hidden, dtype), *([(hidden, bool)] if rate else [])] if for_back else [])]
    start = [jnp.zeros((len(ids_n), columns), kind) for columns, kind in kinds]
    out, *kept = turns.run(len(ids_n) // size if whole else (count + size - 1) // size, one, start)
    return out[:n], kept


def _gradients(activation, rate, wants_rows, whole, table_VxF, layers, ids_n, count, before, kept, out_gradient):
    """The gradients of the layers, and with `wants_rows` of the rows, (n, F)."""
    hidden, dtype = layers.inner.shape[1], wide(out_gradient)
    size = turns.size(len(ids_n), _BLOCK, table_VxF.shape[1], whole)
    padding = ((0, -len(ids_n) % size),)
    ids_n = jnp.pad(ids_n, padding[0])
    real_n = jnp.arange(len(ids_n), dtype=jnp.int32) < count
    out_gradient = jnp.pad(out_gradient, (*padding, (0, 0)))

    def block(start, size, carry):
        sums, rows_gradient = carry
        cut = lambda a: jax.lax.dynamic_slice_in_dim(a, start, size)  # noqa: E731
        rows = take_rows(table_VxF, cut(ids_n)).astype(before.dtype)
        g = jnp.where(cut(real_n)[:, None], cut(out_gradient), 0)
        after, pull = jax.vjp(activation, cut(before))
        dropped = lambda x: drop(x, cut(kept[0]), rate) if rate else x  # noqa: E731
        (inner_gradient,) = pull(dropped(g @ layers.outer.T).astype(before.dtype))
        # This way round the factor that is transposed is the narrower one.
        more = (
            jnp.matmul(inner_gradient.T, rows, preferred_element_type=dtype),
            jnp.sum(inner_gradient, axis=0, dtype=dtype),
            jnp.matmul(g.T, dropped(after), preferred_element_type=dtype),
            jnp.sum(g, axis=0, dtype=dtype),
        )
        if wants_rows:
            rows_gradient = jax.lax.dynamic_update_slice_in_dim(
                rows_gradient, inner_gradient @ layers.inner.T, start, 0
            )
        return tuple(a + b for a, b in zip(sums, more)), rows_gradient

    width, llm_width = out_gradient.shape[1], table_VxF.shape[1]
    sums = tuple(jnp.zeros(s, dtype) for s in ((hidden, llm_width), hidden, (width, hidden), width))
    carry = sums, jnp.zeros((len(ids_n) if wants_rows else 0, llm_width), before.dtype)
    if whole:
        sums, rows_gradient = turns.run(len(ids_n) // size, lambda i, c: block(i * size, size, c), carry)
    else:
        large = size * min(_LARGE, len(ids_n) // size)
        first = count // large
        carry = turns.run(first, lambda i, c: block(i * large, large, c), carry)
        rest = (count - first * large + size - 1) // size
        sums, rows_gradient = turns.run(rest, lambda i, c: block(first * large + i * size, size, c), carry)
    inner, inner_bias, outer, outer_bias = (a.astype(before.dtype) for a in sums)
    return TwoLayers(inner.T, inner_bias, outer.T, outer_bias), rows_gradient


def _map_two_layers_forward(activation, rate, table, layers, ids_n, count, key, owners_n, whole):
    value = jax.tree.map(lambda a: a.value, layers, is_leaf=lambda a: hasattr(a, "perturbed"))
    rest = (x if x is None else x.value for x in (ids_n, count, key, owners_n))
    out, (before, *kept) = _forward(activation, rate, True, whole, table.value, value, *rest)
    # Whether the table needs a gradient is known here; a pytree that is () or None tells the backward pass.
    return out, (table.value, value, ids_n.value, count.value, before, kept, () if table.perturbed else None)


def _map_two_layers_backward(activation, rate, whole, kept_for_back, out_gradient):
    table_VxF, layers, ids_n, count, before, kept, wants = kept_for_back
    wants_rows = wants is not None
    run = functools.partial(_gradients, activation, rate, wants_rows, whole)
    run = run if whole else jax.custom_batching.sequential_vmap(run)
    by_layers, by_rows = run(table_VxF, layers, ids_n, count, before, kept, out_gradient)
    by_table = jnp.zeros_like(table_VxF).at[ids_n].add(by_rows[: len(ids_n)]) if wants_rows else None
    return by_table, by_layers, None, None, None, None


map_two_layers.defvjp(_map_two_layers_forward, _map_two_layers_backward, symbolic_zeros=True)
