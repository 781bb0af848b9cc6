"""Rows of item tables: shares, and what an item gets as input, target and negative."""

import functools

import jax
import jax.numpy as jnp
import loss_parts
import numpy as np
import pytest
import tiny

from llmesr_jax.experiments.gradients import items, terms
from llmesr_jax.models.axes import ITEM, Axes


@functools.partial(jax.jit, static_argnums=(0, 1))
def roles_and_whole(model, axes, params, tables, batch):
    whole = terms.gradients(model, params, tables, batch, None)
    by_role = items.by_role(model, params, tables, batch, None, axes=axes)
    return by_role, items.tables_of(whole["ranking"], axes)


@pytest.mark.slow
def test_roles_sum_to_the_whole_and_are_where_the_batch_says():
    with tiny.float64():
        case, params, tables, batch = loss_parts.started("gru4rec", "llmesr")
        by_role, whole = roles_and_whole(case.model, case.model.axes(tables, batch), params, tables, batch)
        assert set(by_role) == set(whole) == {"table/items"}
        tiny.assert_close(by_role["table/items"].sum(axis=0), whole["table/items"], 1e-12)
        rows = np.abs(by_role["table/items"]).sum(axis=2) > 0
        met = {"input": batch.students.items_T, "target": batch.targets_T, "negative": batch.negatives_TxK}
        for role, row_V in zip(items.ROLES, rows):
            assert set(np.flatnonzero(row_V)) <= set(np.asarray(met[role]).ravel()) - {0}
            assert row_V.sum() > 5


def test_shared_negatives_have_no_role():
    case = tiny.case("gru4rec", "none", negatives="in_batch")
    batch = case.batch()
    assert not items.has_roles(case.model, batch)
    with pytest.raises(ValueError, match="data.negatives=own"):
        items.by_role(
            case.model, case.drawn_params(), case.tables, batch, None, axes=case.model.axes(case.tables, batch)
        )


def test_shares_and_row_products_by_hand():
    table = jnp.array([[9.0, 9.0], [1.0, 0.0], [0.0, 2.0], [2.0, 1.0], [9.0, 9.0]])
    squares = items.row_squares(table)
    np.testing.assert_array_equal(squares, [1, 4, 5])
    assert float(items.share(squares, jnp.array([False, True, False]))) == pytest.approx(0.4)
    assert float(items.share(jnp.zeros(3), jnp.array([True, True, False]))) == 0
    axes = Axes((("table/items", ITEM),), (), 5, 0)
    gram = items.row_gram({"a": {"table": {"items": table}}, "b": {"table": {"items": -table}}}, axes)
    np.testing.assert_array_equal(gram["table/items"][1], [[4, -4], [-4, 4]])
