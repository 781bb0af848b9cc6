"""Sequences made on the device, laid out as the students of a batch are."""

import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from llmesr_jax.models.types import from_rows

ROWS = [[5, 6, 7], [8], [], [1, 2]]


def table(width):
    return jnp.asarray([row + [0] * (width - len(row)) for row in ROWS], jnp.int32)


@pytest.mark.parametrize("left", [False, True])
def test_rows_are_laid_out_as_the_students_are(left):
    """Items first in rows of their own width, or last in rows as long as the longest sequence."""
    students = tiny.lay([[1, 2]], ((1, 6),), left).replace(items_first=not left, left_out_R=None)
    found = from_rows(table(4), students, 6, jnp.arange(4, dtype=jnp.int32))
    wanted = tiny.lay(ROWS, ((4, 6 if left else 4),), left)
    for name in ("items_T", "positions_T", "last_R"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
        assert getattr(found, name).dtype == jnp.int32
    assert (found.buckets, found.items_first, found.left_out_R) == (wanted.buckets, not left, None)
    assert tiny.items_by_row(found) == ROWS and found.users_R.tolist() == [0, 1, 2, 3]


def test_what_a_layout_leaves_out_is_counted_where_the_students_count_it():
    students = tiny.lay([[1, 2]], ((1, 2),)).replace(items_first=True, left_out_R=jnp.array([4], jnp.int32))
    assert from_rows(table(3), students, 6).left_out_R.tolist() == [3, 5, 6, 4]


def test_users_that_are_not_named_are_nobody():
    assert tiny.lay(ROWS, ((4, 3),)).users_R.tolist() == [-1] * 4
