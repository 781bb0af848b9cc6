"""One system in 64-bit, at parameters none of which is special: what the tests of the gradients share."""

import functools

import jax
import jax.numpy as jnp
import tiny


@functools.cache
def started(backbone="sasrec", method="llmesr", **changes):
    """(case, params, tables, batch); float arrays in 64-bit, so ask inside `tiny.float64()`."""
    with jax.enable_x64(False):
        case = tiny.case(backbone, method, **{"blocks": 1, **changes})
        params, batch = case.drawn_params(), case.batch(step=1)
    params, tables = tiny.as_float64((params, case.tables))
    return case, params, tables, batch


def direction(params, seed=1):
    """A random direction of norm 1."""
    leaves, tree = jax.tree.flatten(params)
    drawn = [
        jax.random.normal(k, x.shape, x.dtype)
        for k, x in zip(jax.random.split(jax.random.key(seed), len(leaves)), leaves)
    ]
    norm = jnp.sqrt(sum(jnp.sum(x * x) for x in drawn))
    return tree.unflatten([x / norm for x in drawn])


def move(params, step, along):
    return jax.tree.map(lambda p, v: p + step * v, params, along)


def dot(a, b):
    return sum(jnp.sum(x * y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))
