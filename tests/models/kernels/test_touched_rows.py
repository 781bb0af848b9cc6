"""Updates of touched rows: equal to dense ones where Adam has no memory yet, and silent everywhere else."""

import dataclasses
import functools
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from llmesr_jax.core.axes import ITEM, USER, Table
from llmesr_jax.core.errors import InputError
from llmesr_jax.core.plugins import Plugins
from llmesr_jax.models import recommender
from llmesr_jax.models.axes import Axes, check_tables, parameter
from llmesr_jax.models.kernels import touched_rows
from llmesr_jax.models.layers.dense import take_rows
from llmesr_jax.models.layers.tables import SingleView
from llmesr_jax.models.losses import LossConfig
from llmesr_jax.models.types import Batch, Ids, Needs, Sizes
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


step = jax.jit(steps.train_step, static_argnames=("recommender", "optimizer", "touched"))


@functools.cache
def two_steps(system, touched):
    """The states after no step, one and two, and the two batches."""
    case = tiny.case(*system)
    example = steps.example_batch(case.epochs.plan, case.data, case.tables)
    one = state.take(state.create(case.model, OPTIMIZER, case.tables, example, (1,)), 0)
    order = case.epochs.order(0, 1)[:2]
    order[1, 2:] = -1  # two students, so that some items are only in the first step
    keys = jax.random.split(jax.random.key(0))
    batches = [tiny.make_batch(case.epochs.plan, case.data, case.tables, o, key) for o, key in zip(order, keys)]
    states = [one]
    axes = case.model.axes(case.tables, example) if touched else None
    for batch in batches:
        arguments = (states[-1], case.tables, batch, jax.random.key(1), jnp.float32(1))
        states.append(step(case.model, OPTIMIZER, *arguments, touched=axes)[0])
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


@functools.partial(jax.jit, static_argnames="whole")
def _touched(students, targets, negatives, teachers, whole=False):
    laid = lambda items: tiny.lay([[1] * 4], ((1, 4),)).replace(items_T=items)  # noqa: E731
    batch = Batch(laid(students), targets, negatives[:, None], jnp.ones(1, bool), laid(teachers), jnp.zeros((1, 1)))
    return touched_rows.touched(batch, Axes((), (), ROWS, 0), whole)


@given(ids, ids, ids, ids)
def test_renumbered_ids_name_the_same_items(students, targets, negatives, teachers):
    parts = [jnp.asarray(part, jnp.int32) for part in (students, targets, negatives, teachers)]
    touched, batch = _touched(*parts)
    tiny.assert_equal(_touched(*parts, whole=True), (touched, batch))
    rows = touched[ITEM]
    ids_n = np.asarray(rows.ids_n)
    found = (batch.students.items_T, batch.targets_T, batch.negatives_TxK[:, 0], batch.teachers.items_T)
    for part, places in zip(parts, found):
        np.testing.assert_array_equal(ids_n[np.asarray(places)], part)
        np.testing.assert_array_equal(np.asarray(places) == 0, np.asarray(part) == 0)
    wanted = {0, *np.concatenate(parts).tolist()}
    assert ids_n[: len(wanted)].tolist() == sorted(wanted) and (ids_n[len(wanted) :] == ROWS).all()
    assert set(ids_n[np.asarray(rows.trained_n)]) == set(np.concatenate(parts[:3]).tolist())


def test_renumbered_users_name_the_same_users():
    """Students 7 and 3, nobody, and teachers 3, 9 and nobody: those of the students are trained."""
    students = tiny.lay([[1], [2], []], ((3, 1),)).replace(user_R=jnp.array([7, 3, -1], jnp.int32))
    teachers = tiny.lay([[1], [2], [3]], ((3, 1),)).replace(user_R=jnp.array([3, 9, -1], jnp.int32))
    none = jnp.zeros(3, jnp.int32)
    batch = Batch(students, none, none[:, None], jnp.ones(3, bool), teachers, users_B=jnp.array([7, 3, 0], jnp.int32))
    of_users = Axes((("x", USER),), (), ROWS, 11)
    rows, found = touched_rows.touched(batch, of_users)
    ids_n = np.asarray(rows[USER].ids_n)
    assert ids_n.tolist() == [0, 3, 7, 9, *[11] * (len(ids_n) - 4)]
    assert ids_n[np.asarray(rows[USER].trained_n)].tolist() == [3, 7]
    assert found.students.user_R.tolist() == [2, 1, -1] and found.teachers.user_R.tolist() == [1, 3, -1]
    assert found.users_B.tolist() == [2, 1, 0]
    untouched = touched_rows.touched(batch, Axes((), (), ROWS, 11))[1]  # nothing is over users
    assert untouched.users_B.tolist() == [7, 3, 0]


def test_ids_that_a_method_adds_are_renumbered_and_trained():
    none = jnp.zeros(1, jnp.int32)
    extra = {"walk": tiny.lay([[9]], ((1, 1),)), "some": Ids(jnp.array([[4, 0]], jnp.int32)), "weight": jnp.ones(2)}
    batch = Batch(tiny.lay([[2]], ((1, 1),)), none, none[:, None], jnp.ones(1, bool), extra=extra)
    rows, found = touched_rows.touched(batch, Axes((), (), ROWS, 0))
    ids_n = np.asarray(rows[ITEM].ids_n)
    assert ids_n[:4].tolist() == [0, 2, 4, 9] and np.asarray(rows[ITEM].trained_n)[:4].all()
    assert found.extra["walk"].items_T.tolist() == [3] and found.extra["some"].ids.tolist() == [[2, 0]]
    np.testing.assert_array_equal(found.extra["weight"], extra["weight"])


NUM_ITEMS = tiny.ragged(3).num_items


class Fork(SingleView):
    """A plain backbone with a second item table: frozen, or trained, which says of its first axis what `axis` is."""

    def setup(self):
        super().setup()
        shape = (NUM_ITEMS + self.config.more, self.config.width)
        if self.has_variable("tables", "mood"):
            self.second = self.get_variable("tables", "mood")
        elif self.config.axis is None:
            self.second = self.param("mood", nn.initializers.normal(1.0), shape)
        else:
            self.second = parameter(self, "mood", nn.initializers.normal(1.0), shape, self.config.axis)

    def items(self, ids):
        return super().items(ids) + take_rows(self.second, ids)


@dataclasses.dataclass(frozen=True)
class ForkConfig:
    width: int
    axis: str | None
    more: int = 2
    frozen: bool = False


@pytest.fixture
def fork(monkeypatch):
    """case(the axis that the second table says it has, its rows beyond the items', its frozen values)."""
    of_project = Plugins.load

    def needs(config):
        return Needs(own={"mood": Table(config.axis)} if config.frozen and config.axis is not None else {})

    def load(self, name):
        return SimpleNamespace(needs=needs, Method=Fork) if name == "fork" else of_project(self, name)

    monkeypatch.setattr(Plugins, "load", load)

    def case(axis, more=2, frozen=None):
        plain = tiny.case("sasrec", "none")
        config = ForkConfig(4, axis, more, frozen is not None)
        sizes = Sizes(NUM_ITEMS, plain.config.max_len, num_users=plain.corpus.num_users)
        backbone = tiny.plugin_config("backbone", "sasrec", blocks=1)
        model = recommender.build("fork", config, "sasrec", backbone, LossConfig(), sizes)
        tables = {} if frozen is None else {"mood": jnp.asarray(frozen, jnp.float32)}
        return plain._replace(model=model, tables=tables)

    return case


def first_step(case, touched):
    one = state.take(state.create(case.model, OPTIMIZER, case.tables, case.batch(), (1,)), 0)
    axes = case.model.axes(case.tables, case.batch()) if touched else None
    arguments = (one, case.tables, case.batch(), jax.random.key(1), jnp.float32(1))
    return step(case.model, OPTIMIZER, *arguments, touched=axes)


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [True, False])
def test_an_item_table_of_a_fork_is_cut_under_any_name(fork, frozen):
    """`mood`: the first step is the dense one. Undeclared, its rows would be read with renumbered ids."""
    case = fork(ITEM, frozen=np.random.default_rng(0).normal(size=(NUM_ITEMS + 2, 4)) if frozen else None)
    dense, touched = first_step(case, False), first_step(case, True)
    assert float(touched[1]["total"]) == pytest.approx(float(dense[1]["total"]), rel=1e-6)
    tiny.assert_close(touched[0].params, dense[0].params, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("more", [0, 1, 2])
@pytest.mark.parametrize("frozen", [True, False])
def test_an_item_table_that_does_not_say_so_is_refused(fork, frozen, more):
    case = fork(None, more, np.zeros((NUM_ITEMS + more, 4)) if frozen else None)
    kind = "table" if frozen else "parameter"
    message = (
        rf"^config: train.table_updates=touched, but {kind} mood of shape \({NUM_ITEMS + more}, 4\) may have a row for "
        rf"each of the {NUM_ITEMS} items and does not declare it; make it by models.axes.parameter"
    )
    assert np.isfinite(first_step(case, False)[1]["total"])
    with pytest.raises(InputError, match=message):
        first_step(case, True)


@pytest.mark.parametrize("axis, more, wanted", [(ITEM, 0, NUM_ITEMS + 2), (USER, 2, 24)])
def test_an_axis_with_other_rows_is_refused(fork, axis, more, wanted):
    case = fork(axis, more)
    with pytest.raises(InputError, match=rf"^parameter mood of shape .* is over {axis}s; expected {wanted} rows"):
        case.model.axes(case.tables, case.batch())
    table = {"mood": jax.ShapeDtypeStruct((NUM_ITEMS, 4), jnp.float32)}
    with pytest.raises(InputError, match=rf"^table mood of shape .* is over {axis}s; expected"):
        check_tables(table, Axes((), (("mood", Table(axis)),), NUM_ITEMS + 2, 24))


def test_what_says_that_it_is_over_neither_passes_and_so_does_what_has_other_rows():
    shape = lambda *dims: jax.ShapeDtypeStruct(dims, jnp.float32)  # noqa: E731
    params = {"table": {"items": shape(102, 4)}, "users": shape(60, 4), "kernel": shape(100, 4), "k": shape(99, 4)}
    named = (("kernel", ""), ("k", None), ("scale", None), ("table/items", ITEM), ("users", USER))
    kinds = (("crowd", Table(USER)), ("mood", Table(ITEM)), ("kinds", Table("")))
    tables = {"crowd": shape(60, 8), "mood": shape(102, 8), "kinds": shape(102, 2), "other": shape(7, 2)}
    touched_rows.check(params | {"scale": shape()}, tables, Axes(named, kinds, 102, 60))
    with pytest.raises(InputError, match="table other of shape .60, 2. may have a row for each of the 60 users"):
        touched_rows.check(params, {"other": shape(60, 2)}, Axes(named, (), 102, 60))
    with pytest.raises(InputError, match="table mood of shape .102, 8. may have a row for each of the 100 items"):
        touched_rows.check(params, {"mood": shape(102, 8)}, Axes(named, (("mood", Table()),), 102, 60))


def test_integers_that_may_be_ids_are_refused():
    batch = Batch(*[None] * 4, extra={"n": jnp.zeros(3, jnp.int32)})
    with pytest.raises(InputError, match=r"integers of shape \(3,\) to a batch.*expected ids as models.types.Ids"):
        touched_rows.check({}, {}, Axes((), (), 102, 60), batch)


def test_a_table_of_ids_is_kept_from_the_model():
    rows = {ITEM: touched_rows.Rows(jnp.array([0, 2]), jnp.ones(2, bool))}
    axes = Axes((), (("graph", Table(ITEM, holds_ids=True)), ("mood", Table(ITEM))), 4, 0)
    tables = {"graph": jnp.zeros((4, 2), jnp.int32), "mood": jnp.arange(4.0), "other": jnp.ones(3)}
    found = touched_rows.cut_tables(tables, rows, axes)
    assert list(found) == ["mood", "other"] and found["mood"].tolist() == [0, 2]


@pytest.mark.parametrize(
    "optimizer, message",
    [
        (optax.adafactor(1e-3, min_dim_size_to_factor=1), r"state for table/items has the shape \(4,\), not the param"),
        (optax.adamw(1e-3), "also moves parameters without a gradient"),
        (OPTIMIZER, None),
        (optax.lion(1e-3, weight_decay=0.0), None),
        (optax.sgd(1e-3, momentum=0.9), None),
    ],
    ids=["adafactor", "adamw", "adam", "lion", "sgd"],
)
def test_an_optimiser_that_does_not_keep_rows_apart_is_refused(optimizer, message):
    params = {"table": {"items": jax.ShapeDtypeStruct((102, 4), jnp.float32)}}
    axes = Axes((("table/items", ITEM),), (), 102, 60)
    if message is None:
        return touched_rows.check_optimizer(optimizer, params, axes)
    with pytest.raises(InputError, match=message):
        touched_rows.check_optimizer(optimizer, params, axes)


def test_arrays_of_a_state_belong_to_the_parameter_with_the_longest_path():
    params = {"items": jnp.zeros((4, 1)), "table": {"items": jnp.zeros((4, 1))}, "k": jnp.zeros(2)}
    axes = Axes((("items", None), ("k", None), ("table/items", ITEM)), (), 4, 0)
    at = [axes.at(path) for path, _ in jax.tree_util.tree_flatten_with_path(OPTIMIZER.init(params))[0]]
    assert at == [None, None, None, ITEM, None, None, ITEM]  # the count, then both moments


def test_an_unknown_table_is_refused_before_anything_is_written(fork, tmp_path):
    case = fork(None)
    config = config_lib.build(
        flags={"dataset": "demo", "workdir": str(tmp_path / "w"), "method": "none", "train.table_updates": "touched"}
    )
    run = experiment.Experiment(config, (1,), case.corpus, case.tables, "", "", case.model, case.epochs)
    with pytest.raises(InputError, match="train.table_updates=touched, but parameter mood of shape"):
        loop.train(run)
    assert not (tmp_path / "w").exists()
