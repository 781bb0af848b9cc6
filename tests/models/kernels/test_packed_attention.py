"""Attention over packed rows: what it is over rows apart, whatever else stands in the bin."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from llmesr_jax.models.kernels.attention import attend
from llmesr_jax.ranking import layout

pytestmark = pytest.mark.slow

ROWS = [[5, 1, 2, 7, 9, 3], [3, 8, 1, 6], [4, 4, 2], [6, 1], [9]]
BUCKETS = ((1, 6), (2, 4), (2, 2))
ENDS, LENGTHS = np.cumsum([len(row) for row in ROWS]), [len(row) for row in ROWS]
VIEWS, WIDTH = 2, 4


def laid(widths):
    flat = jnp.asarray(np.concatenate(ROWS), jnp.int32)
    found = layout.lay_out(flat, tiny.ints(ENDS), tiny.ints(LENGTHS), BUCKETS, False, 9, bin_widths=widths)[0]
    return found.replace(place_R=tiny.ints([3, 0, 4, 1, 2]))


def items_in(sequences):
    """The slots of all items, row after row."""
    where = np.flatnonzero(np.asarray(sequences.valid_T))
    return where[np.argsort(sequences.row_T[where], kind="stable")]


def attended(sequences, heads, last_only, mask_padding, rate):
    """(V, n or R, D) for items or rows, and the gradient in the vectors of all items."""
    slots = items_in(sequences)
    padding = None if mask_padding else (jnp.linspace(0.0, 1.0, WIDTH), jnp.linspace(1.0, -1.0, WIDTH))
    options = {"causal": not last_only, "mask_padding": mask_padding, "padding": padding}

    def value(x_VxnxD):
        # What reads an empty slot is seen by its 7.
        x_VxTxD = jnp.full((VIEWS, len(sequences.items_T), WIDTH), 7.0).at[:, slots].set(x_VxnxD)
        query = x_VxTxD[:, sequences.last_R] if last_only else x_VxTxD
        dropout = (jax.random.key(5), rate)
        found = attend(query, jnp.tanh(x_VxTxD), jnp.sin(x_VxTxD), sequences, heads=heads, dropout=dropout, **options)
        return [part if last_only else part[:, slots] for part in found]

    def both(x_VxnxD):
        found, back = jax.vjp(value, x_VxnxD)
        (gradient,) = back([jnp.cos(jnp.arange(part.size, dtype=jnp.float32)).reshape(part.shape) for part in found])
        return found, gradient

    x_VxnxD = np.random.default_rng(1).normal(size=(VIEWS, sum(LENGTHS), WIDTH)).astype(np.float32)
    return jax.jit(both)(x_VxnxD)


@pytest.mark.parametrize(
    "widths, heads, last_only, mask_padding, rate",
    [((8,), 1, False, True, 0.5), ((4, 7), 2, False, False, 0.4), ((4, 7), 1, True, False, 0.5)],
)
def test_a_row_does_not_see_the_others_of_its_bin(widths, heads, last_only, mask_padding, rate):
    """Values, gradients, and the masks of dropout."""
    ours, wanted = (attended(laid(w), heads, last_only, mask_padding, rate) for w in (widths, ()))
    tiny.assert_close(ours, wanted, 2e-5)
