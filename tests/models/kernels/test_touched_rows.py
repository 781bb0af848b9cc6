"""Updates of touched rows: equal to dense ones where Adam has no memory yet, and silent everywhere else."""

import dataclasses
import functools
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.plugins import Plugins
from llmesr_jax.models import recommender
from llmesr_jax.models.kernels import touched_rows
from llmesr_jax.models.layers.dense import take_rows
from llmesr_jax.models.layers.tables import SingleView
from llmesr_jax.models.losses import LossConfig
from llmesr_jax.models.types import Batch, Needs, Sizes
from llmesr_jax.training import config as config_lib
from llmesr_jax.training import experiment, loop, state, steps
from llmesr_jax.training.optimizer import adam

SYSTEMS = [("sasrec", "none"), ("gru4rec", "llmesr"), ("bert4rec", "llmesr"), ("sasrec", "faerec")]
OPTIMIZER = adam(1e-2)
ROWS = 12  # rows of an item table in the property below: ids 0 to 11


@pytest.fixture(autouse=True)
def promotion():
    """optax's bias correction mixes dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@functools.cache
def two_steps(system, touched_only):
    """The states after no step, one and two, and the two batches."""
    case = tiny.case(*system)
    example = steps.example_batch(case.epochs.plan, case.data, case.tables)
    one = state.take(state.create(case.model, OPTIMIZER, case.tables, example, (1,)), 0)
    order = case.epochs.order(0, 1)[:2]
    order[1, 2:] = -1  # two students, so that some items are only in the first step
    keys = jax.random.split(jax.random.key(0))
    batches = [tiny.make_batch(case.epochs.plan, case.data, case.tables, o, key) for o, key in zip(order, keys)]
    states = [one]
    step = jax.jit(steps.train_step, static_argnames=("recommender", "optimizer", "touched_only"))
    for batch in batches:
        arguments = (states[-1], case.tables, batch, jax.random.key(1), jnp.float32(1))
        states.append(step(case.model, OPTIMIZER, *arguments, touched_only=touched_only)[0])
    return jax.device_get(states), batches


def item_leaves(tree):
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path): x for path, x in flat if getattr(path[-1], "key", "") == "items"}


def trained(batch):
    shared = () if batch.shared_K is None else (batch.shared_K,)
    ids = (batch.students.items_T, batch.targets_T, batch.negatives_TxK, *shared)
    return np.unique(np.concatenate([np.asarray(x).ravel() for x in ids]))


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_first_step_is_the_dense_one(system):
    """Without moments yet, a row without a gradient stays under dense Adam too."""
    (_, dense, _), _ = two_steps(system, False)
    (_, touched, _), _ = two_steps(system, True)
    tiny.assert_close(touched, dense, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
def test_rows_that_a_step_does_not_train_stay_as_they_are(system):
    """In tables and in both of Adam's moments, bit for bit; teachers' items among them."""
    states, batches = two_steps(system, True)
    for before, after, batch in zip(states, states[1:], batches):
        ids = trained(batch)
        old, new = item_leaves(before), item_leaves(after)
        assert len(old) == 3  # the table and its two moments
        for name, x in old.items():
            others = np.setdiff1d(np.arange(len(x)), ids)
            assert len(others)
            np.testing.assert_array_equal(new[name][others], x[others])
            assert (new[name][ids[ids > 0]] != x[ids[ids > 0]]).any()


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
def test_the_second_step_differs_from_a_dense_one_only_through_older_moments(system):
    """Rows of both steps, and rows of the second alone, move alike; rows of the first alone move under dense Adam."""
    (_, _, dense), batches = two_steps(system, False)
    (_, once, touched), _ = two_steps(system, True)
    first, second = (trained(batch) for batch in batches)
    table = next(name for name in item_leaves(once) if name.startswith(".params"))
    ours, theirs, before = (item_leaves(x)[table] for x in (touched, dense, once))
    np.testing.assert_allclose(ours[second], theirs[second], atol=2e-5)
    gone = np.setdiff1d(first, [0, *second])
    assert len(gone) and (theirs[gone] != before[gone]).any(axis=1).mean() > 0.9  # a gradient may be zero


ids = st.lists(st.integers(0, ROWS - 1), min_size=4, max_size=4)


@jax.jit
def _touched(students, targets, negatives, teachers):
    laid = lambda items: tiny.lay([[1] * 4], ((1, 4),)).replace(items_T=items)  # noqa: E731
    batch = Batch(laid(students), targets, negatives[:, None], jnp.ones(1, bool), laid(teachers), jnp.zeros((1, 1)))
    return touched_rows.touched(batch, ROWS)


@given(ids, ids, ids, ids)
def test_renumbered_ids_name_the_same_items(students, targets, negatives, teachers):
    parts = [jnp.asarray(part, jnp.int32) for part in (students, targets, negatives, teachers)]
    rows, batch = _touched(*parts)
    ids_n = np.asarray(rows.ids_n)
    found = (batch.students.items_T, batch.targets_T, batch.negatives_TxK[:, 0], batch.teachers.items_T)
    for part, places in zip(parts, found):
        np.testing.assert_array_equal(ids_n[np.asarray(places)], part)
        np.testing.assert_array_equal(np.asarray(places) == 0, np.asarray(part) == 0)
    wanted = {0, *np.concatenate(parts).tolist()}
    assert ids_n[: len(wanted)].tolist() == sorted(wanted) and (ids_n[len(wanted) :] == ROWS).all()
    assert set(ids_n[np.asarray(rows.trained_n)]) == set(np.concatenate(parts[:3]).tolist())


NUM_ITEMS = tiny.ragged(3).num_items


class Fork(SingleView):
    """A plain backbone with a second item table: frozen, or trained under another name than `items`."""

    def setup(self):
        super().setup()
        name, shape = self.config.extra, (NUM_ITEMS + self.config.more, self.config.width)
        frozen = self.has_variable("tables", name)
        self.second = (
            self.get_variable("tables", name) if frozen else self.param(name, nn.initializers.normal(1.0), shape)
        )

    def items(self, ids):
        return super().items(ids) + take_rows(self.second, ids)


@dataclasses.dataclass(frozen=True)
class ForkConfig:
    width: int
    extra: str
    more: int = 2


@pytest.fixture
def fork(monkeypatch):
    """case(name of the second table, its rows beyond the items', its frozen values)."""
    of_project = Plugins.load

    def load(self, name):
        return SimpleNamespace(needs=lambda config: Needs(), Method=Fork) if name == "fork" else of_project(self, name)

    monkeypatch.setattr(Plugins, "load", load)

    def case(extra, more=2, frozen=None):
        plain = tiny.case("sasrec", "none")
        config, backbone = ForkConfig(4, extra, more), tiny.plugin_config("backbone", "sasrec", blocks=1)
        sizes = Sizes(NUM_ITEMS, plain.config.max_len)
        model = recommender.build("fork", config, "sasrec", backbone, LossConfig(), sizes)
        tables = {} if frozen is None else {extra: jnp.asarray(frozen, jnp.float32)}
        return plain._replace(model=model, tables=tables)

    return case


def first_step(case, touched_only):
    one = state.take(state.create(case.model, OPTIMIZER, case.tables, case.batch(), (1,)), 0)
    step = jax.jit(steps.train_step, static_argnames=("recommender", "optimizer", "touched_only"))
    arguments = (one, case.tables, case.batch(), jax.random.key(1), jnp.float32(1))
    return step(case.model, OPTIMIZER, *arguments, touched_only=touched_only)


def test_a_frozen_item_table_of_a_fork_is_cut_by_its_name(fork):
    """`item_mood`: the first step is the dense one. Its rows were read with renumbered ids."""
    case = fork("item_mood", frozen=np.random.default_rng(0).normal(size=(NUM_ITEMS + 2, 4)))
    dense, touched = first_step(case, False), first_step(case, True)
    assert float(touched[1]["total"]) == pytest.approx(float(dense[1]["total"]), rel=1e-6)
    tiny.assert_close(touched[0].params, dense[0].params, 1e-5)


@pytest.mark.parametrize("more", [0, 1, 2])
@pytest.mark.parametrize("frozen", [True, False])
def test_an_item_table_under_an_unknown_name_is_refused(fork, frozen, more):
    case = fork("mood", more, np.zeros((NUM_ITEMS + more, 4)) if frozen else None)
    rule = "a frozen table's name begins with `item_`" if frozen else "a parameter is named `items`"
    message = (
        rf"^config: train.table_updates=touched, and mood of shape \({NUM_ITEMS + more}, 4\) may hold a row for each "
        f"of the {NUM_ITEMS} items, but is not known as an item table: {rule} and has {NUM_ITEMS + 2} rows"
    )
    assert np.isfinite(first_step(case, False)[1]["total"])
    with pytest.raises(InputError, match=message):
        first_step(case, True)


@pytest.mark.parametrize("name, rows", [("item_mood", NUM_ITEMS), ("items", NUM_ITEMS + 1)])
def test_a_known_name_with_other_rows_is_refused(name, rows):
    table = {name: jax.ShapeDtypeStruct((rows, 4), jnp.float32)}
    with pytest.raises(InputError, match=rf"{name} of shape \({rows}, 4\)"):
        touched_rows.check(table if name == "items" else {}, table if name != "items" else {}, NUM_ITEMS)


def test_tables_of_as_many_users_as_items_and_what_has_other_rows_pass():
    shape = lambda *dims: jax.ShapeDtypeStruct(dims, jnp.float32)  # noqa: E731
    params = {
        "table": {"items": shape(102, 4)},
        "users": shape(100, 4),
        "user_bias": {"b": shape(101)},
        "k": shape(99, 4),
    }
    tables = {
        "user_llm": shape(102, 8),
        "similar_users": shape(100, 3),
        "item_llm": shape(102, 8),
        "item_kinds": shape(7, 2),
    }
    touched_rows.check(params | {"scale": shape()}, tables, 100)


def test_an_unknown_table_is_refused_before_anything_is_written(fork, tmp_path):
    case = fork("mood")
    config = config_lib.build(
        flags={"dataset": "demo", "workdir": str(tmp_path / "w"), "method": "none", "train.table_updates": "touched"}
    )
    run = experiment.Experiment(config, (1,), case.corpus, case.tables, "", case.model, case.epochs)
    with pytest.raises(InputError, match="train.table_updates=touched, and mood of shape"):
        loop.train(run)
    assert not (tmp_path / "w").exists()
