"""A method that brings all that one may, in a file of its own outside of the library: `tests/own_methods/mood.py`."""

import functools
import importlib
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from llmesr_jax.core.axes import ITEM, USER
from llmesr_jax.experiments.gradients import items, terms, users
from llmesr_jax.models import methods
from llmesr_jax.ranking import inference
from llmesr_jax.training import config as config_lib
from llmesr_jax.training import optimizer, schema, state, steps

FOLDER = str(Path(__file__).parents[2] / "own_methods")
OURS = {"crowd": USER, "mood": ITEM, "scale": None, "table/items": ITEM}


@pytest.fixture(scope="module", autouse=True)
def found():
    """The method is found by its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(methods, "__path__", [*methods.__path__, FOLDER])
        schema.sections.cache_clear()
        yield
    schema.sections.cache_clear()
    sys.modules.pop(f"{methods.__name__}.mood", None)


@pytest.fixture(autouse=True)
def promotion():
    """optax mixes dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@functools.cache
def case(backbone="gru4rec"):
    return tiny.case(backbone, "mood", blocks=1)


def axes():
    return case().model.axes(case().tables, case().batch())


def optimizer_of_run(**changes):
    config = config_lib.build({"method": "mood", **changes})
    return optimizer.of_run(config, case().model, [name for name, _ in axes().params])


@functools.cache
def stepped(touched):
    """(before, after one step, the batch, the loss's values)."""
    c, adam = case(), optimizer_of_run()
    batch = c.batch()
    batch = batch.replace(students=batch.students.replace(user_R=batch.students.user_R.at[-1].set(-1)))
    before = state.take(state.create(c.model, adam, c.tables, batch, (1,)), 0)
    run = jax.jit(steps.train_step, static_argnames=("recommender", "optimizer", "touched"))
    arguments = (c.model, adam, before, c.tables, batch, jax.random.key(1), jnp.float32(1))
    after, values = run(*arguments, touched=axes() if touched else None, numbers={"mood.pull": 0.5, **RATE})
    return jax.device_get((before, after, batch, values))


RATE = {"train.learning_rate": 0.1}


def test_its_arrays_say_what_they_are_over():
    found = axes()
    assert {name: axis for name, axis in found.params if not name.startswith("backbone/")} == OURS
    assert {name: found.of_table(name) for name in case().tables} == {
        "rarity": ITEM, "follower": ITEM, "tail_user": USER
    }  # fmt: skip
    assert dict(found.tables)["follower"].holds_ids and (found.items, found.users) == (
        case().corpus.num_items + 2,
        case().corpus.num_users,
    )


def test_the_first_touched_step_is_the_dense_one():
    """Losses to 1e-6, parameters and momentum to 1e-5."""
    (before, dense, _, said), (_, touched, batch, told) = stepped(False), stepped(True)
    assert said.keys() == told.keys() == {"ranking", "pull", "total"}
    tiny.assert_close(told, said, 1e-6)
    tiny.assert_close(touched, dense, 1e-5)
    moved = set(np.flatnonzero((touched.params["crowd"] != before.params["crowd"]).any(axis=1)))
    assert moved == set(batch.extra["pairs"].user_R.tolist())  # the batch's users, one of whom no student names
    followers, pairs = batch.extra["followers"].ids, batch.extra["pairs"].items_T
    for ids in (followers, pairs):  # what the method adds is trained too
        rows = np.setdiff1d(ids, [0])
        assert (touched.params["mood"][rows] != before.params["mood"][rows]).any(axis=1).all()


def test_what_it_does_not_train_stays_and_has_no_moments():
    before, after, _, _ = stepped(True)
    np.testing.assert_array_equal(after.params["scale"], before.params["scale"])
    assert (after.params["table"]["items"] != before.params["table"]["items"]).any()
    sizes = [x.size for x in jax.tree.leaves(after.opt_state)]
    trained = [x.size for path, x in jax.tree_util.tree_leaves_with_path(after.params) if "scale" not in str(path)]
    assert sorted(sizes) == sorted(trained)  # SGD's momentum, and no more


def test_its_optimiser_is_the_one_of_the_run_unless_another_is_named():
    assert optimizer_of_run() is optimizer_of_run() is not optimizer_of_run(**{"train.optimizer": "adam"})
    gradient, (before, _, _, _) = {}, stepped(False)
    adam = optimizer_of_run(**{"train.optimizer": "adam"})
    gradient = jax.tree.map(jnp.ones_like, before.params)
    updates, _ = adam.update(gradient, adam.init(before.params), before.params, learning_rate=0.1)
    np.testing.assert_allclose(updates["mood"], -0.1, rtol=1e-5)
    assert not np.asarray(updates["scale"]).any()


def test_a_user_who_is_not_known_is_served_without_a_row():
    c, params = case(), case().drawn_params()
    students = c.batch().students
    unknown = tiny.user_vectors(c.model, params, c.tables, students.replace(user_R=None))
    known = tiny.user_vectors(c.model, params, c.tables, students)
    rows = jnp.where(c.tables["tail_user"][:, None], 0.5, 1.0) * params["crowd"]
    there = np.asarray(students.user_R) >= 0
    assert there.any()
    np.testing.assert_allclose((known - unknown)[there], rows[students.user_R[there]], atol=1e-6)
    np.testing.assert_array_equal(known[~there], unknown[~there])


def test_ranking_knows_whose_history_it_encodes(monkeypatch):
    """Batches of 5 rows, some of nobody: each user's vector is the one with the row of that user."""
    monkeypatch.setattr(inference, "_ROWS", 5)
    c, params = case(), case().drawn_params()
    rows_E = np.arange(c.corpus.num_users)[::-1].copy()
    histories = inference.histories(c.corpus, rows_E, c.corpus.train_lengths_U[rows_E], c.config, "every")
    zeroed = {**params, "crowd": jnp.zeros_like(params["crowd"])}
    known, unknown = (inference.user_vectors(c.model, p, c.tables, histories) for p in (params, zeroed))
    rows = jnp.where(c.tables["tail_user"][:, None], 0.5, 1.0) * params["crowd"]
    np.testing.assert_allclose(known - unknown, rows[rows_E], atol=1e-6)


def test_hooks_before_an_epoch_and_for_serving():
    c, params = case(), case().drawn_params()
    grown = jax.jit(c.model.before_epoch)(params, c.tables, c.data, 1.0)
    np.testing.assert_allclose(grown["mood"], params["mood"] * 1.01, rtol=1e-6)
    served = jax.jit(c.model.for_serving)(params, c.tables, c.data)
    half = 0.5 if c.tables["tail_user"][0] else 1.0
    np.testing.assert_allclose(served["mood"][1], params["crowd"][0] * half, rtol=1e-6)
    tiny.assert_equal(served["mood"][2:], params["mood"][2:])


@pytest.mark.slow
def test_roles_of_items_are_found_in_both_of_its_item_tables():
    c, batch, params = case(), case().batch(), case().drawn_params()
    by_role = items.by_role(c.model, params, c.tables, batch, None, axes=axes())
    whole = items.tables_of(terms.gradients(c.model, params, c.tables, batch, None)["ranking"], axes())
    assert set(by_role) == set(whole) == {"mood", "table/items"}
    tiny.assert_close({name: x.sum(axis=0) for name, x in by_role.items()}, whole, 1e-4)


def test_rows_that_it_adds_couple_no_users():
    """Each user alone has all of what the method adds, so the pull is no mean over users; the ranking is one."""
    c = case()
    means = users.splits(c.model, c.drawn_params(), c.tables, c.batch())
    assert means["ranking"] is not None


def test_a_batch_has_its_pairs():
    batch, c = jax.device_get(case().batch()), case()
    pairs, newest = tiny.items_by_row(batch.extra["pairs"]), tiny.items_by_row(batch.students)
    follower = np.asarray(c.tables["follower"])
    for pair, row, after in zip(pairs, newest, batch.extra["followers"].ids):
        assert (len(pair), pair[-1:]) == ((2, row[-1:]) if row else (1, pair[-1:]))
        assert after == (follower[row[-1]] if row else 0)
    np.testing.assert_array_equal(batch.extra["pairs"].user_R, batch.students.user_R)
    assert len(batch.extra["pairs"].row_T) == 2 * len(pairs)


@pytest.mark.slow
@pytest.mark.parametrize(
    "contract",
    [
        "test_every_pair_has_the_shapes_of_the_contract",
        "test_results_do_not_depend_on_padding",
        "test_users_are_the_encoders_of_the_views",
        "test_the_losss_score_is_users_dot_items",
        "test_every_parameter_learns_and_no_table_is_one",
    ],
)
def test_it_holds_to_the_contract_of_methods(contract):
    """The assertions are those of `models/test_contract.py`, on this method too."""
    with jax.numpy_dtype_promotion("strict"):
        getattr(importlib.import_module("models.test_contract"), contract)("gru4rec", "mood")


@pytest.mark.slow
def test_its_settings_are_all_read(monkeypatch):
    contract = importlib.import_module("models.test_contract")
    assert contract.unread_settings("method", "mood", monkeypatch) == set()
