"""Frozen rows through one matrix, once per occurrence: what an accelerator does in place of `map_rows`.

`map_rows` maps each distinct row once, and must first find the distinct ones. On a CPU this leaves a third of the work;
on an accelerator the product is cheap, and finding the distinct rows costs more.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from llmesr_jax.models.kernels import turns
from llmesr_jax.models.layers.dense import take_rows
from llmesr_jax.models.types import Array, wide


@jax.custom_vjp
def map_each(table_VxF: Array, kernel_FxD: Array, trained_n: Array, other_m: Array) -> tuple[Array, Array]:
    """table[trained] @ kernel and table[other] @ kernel: (n, D), (m, D). No gradient passes through the second.

    If the table has no more rows than there are ids, it is mapped as a whole, and rows of the result are taken.

    Args:
      table_VxF, kernel_FxD: float arrays.
      trained_n, other_m: int32, rows of the table; they may repeat.
    """
    return _mapped(table_VxF, kernel_FxD, trained_n, other_m)


def _mapped(table_VxF: Array, kernel_FxD: Array, trained_n: Array, other_m: Array) -> tuple[Array, Array]:
    count, (rows, width) = len(trained_n), table_VxF.shape
    ids = jnp.concatenate([trained_n, other_m])
    if rows <= len(ids):
        mapped = take_rows(table_VxF.astype(kernel_FxD.dtype) @ kernel_FxD, ids)
    else:
        size = turns.size(len(ids), len(ids), width, True)
        padded = jnp.pad(ids, (0, -len(ids) % size))

        def one(i, out):
            found = take_rows(table_VxF, jax.lax.dynamic_slice_in_dim(padded, i * size, size))
            return jax.lax.dynamic_update_slice_in_dim(out, found.astype(out.dtype) @ kernel_FxD, i * size, 0)

        start = jnp.zeros((len(padded), kernel_FxD.shape[1]), kernel_FxD.dtype)
        mapped = turns.run(len(padded) // size, one, start)[: len(ids)]
    return mapped[:count], mapped[count:]


def _kernel_gradient(table_VxF: Array, trained_n: Array, gradient_nxD: Array) -> Array:
    """(F, D): the kernel's gradient, by the trained rows, or by the whole table if that has fewer."""
    rows, width = table_VxF.shape
    dtype = wide(gradient_nxD)
    product = lambda g, x: jnp.matmul(g.T, x.astype(g.dtype), preferred_element_type=dtype)  # noqa: E731
    if not len(trained_n):
        return jnp.zeros((width, gradient_nxD.shape[1]), gradient_nxD.dtype)
    if rows <= len(trained_n):
        by_row = jnp.zeros((rows, gradient_nxD.shape[1]), dtype).at[trained_n].add(gradient_nxD.astype(dtype))
        return product(by_row.astype(gradient_nxD.dtype), table_VxF).T.astype(gradient_nxD.dtype)
    size = turns.size(len(trained_n), len(trained_n), width, True)
    behind = -len(trained_n) % size
    ids, gradient = jnp.pad(trained_n, (0, behind)), jnp.pad(gradient_nxD, ((0, behind), (0, 0)))
    cut = lambda x, i: jax.lax.dynamic_slice_in_dim(x, i * size, size)  # noqa: E731

    def one(i, total):
        return total + product(cut(gradient, i), take_rows(table_VxF, cut(ids, i)))

    start = jnp.zeros((gradient_nxD.shape[1], width), dtype)
    return turns.run(len(ids) // size, one, start).T.astype(gradient_nxD.dtype)


def _forward(table, kernel, trained_n, other_m):
    into_table = kernel.value if table.perturbed else None  # a frozen table gets no gradient, and none is computed
    found = _mapped(table.value, kernel.value, trained_n.value, other_m.value)
    return found, (table.value, into_table, trained_n.value)


def _backward(kept, gradients):
    table_VxF, kernel_FxD, trained_n = kept
    gradient_nxD, into_table = gradients[0], None
    if isinstance(gradient_nxD, jax.custom_derivatives.SymbolicZero):
        gradient_nxD = jnp.zeros(gradient_nxD.shape, gradient_nxD.dtype)
    if kernel_FxD is not None:
        rows = (gradient_nxD @ kernel_FxD.T).astype(table_VxF.dtype)
        into_table = jnp.zeros_like(table_VxF).at[trained_n].add(rows)
    return into_table, _kernel_gradient(table_VxF, trained_n, gradient_nxD), None, None


map_each.defvjp(_forward, _backward, symbolic_zeros=True)
