"""The mesh of a run: what names one, what it cannot split, and that a dealt batch is the same batch."""

from types import SimpleNamespace

import batch_worlds
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llmesr_jax.core.errors import InputError
from llmesr_jax.models.types import Sequences, join
from llmesr_jax.training import config as config_lib
from llmesr_jax.training import dealing, mesh


@pytest.mark.parametrize(
    "text, shape", [("", (1, 1)), ("data:8", (1, 8)), ("lane:3, data:4", (3, 4)), ("lane:2", (2, 1)), ("auto", None)]
)
def test_what_names_a_mesh(text, shape):
    assert mesh.parse(text) == shape


@pytest.mark.parametrize("text", ["data", "data:0", "rows:2", "data:2,data:2", "8", "data:-1", "data:2.5", "data:2:3"])
def test_what_names_none_is_refused_by_one_line(text):
    with pytest.raises(InputError, match=r"--mesh=.*expected data:N") as found:
        mesh.parse(text)
    assert "\n" not in str(found.value)


def settings(monkeypatch, text="auto", batch_size=12, seeds="1,2,3"):
    sections = {"train": SimpleNamespace(mesh=text), "data": SimpleNamespace(batch_size=batch_size)}
    monkeypatch.setattr(config_lib, "section", lambda config, name: sections[name])
    return SimpleNamespace(seeds=seeds)


@pytest.mark.parametrize("devices, shape", [(1, (1, 1)), (3, (3, 1)), (6, (3, 2)), (8, (1, 6)), (16, (1, 12))])
def test_auto_takes_devices_for_seeds_then_what_divides_a_batch(monkeypatch, devices, shape):
    assert mesh.shape_of(settings(monkeypatch), devices) == shape


def test_a_mesh_that_does_not_fit_is_refused(monkeypatch):
    with pytest.raises(InputError, match="needs 8 devices, but there is 1"):
        mesh.shape_of(settings(monkeypatch, "data:8"), 1)
    with pytest.raises(InputError, match="batch_size=12 users cannot be divided among 8 devices"):
        mesh.shape_of(settings(monkeypatch, "data:8"), 8)


@pytest.mark.parametrize(
    "text, devices, splits",
    [("auto", 8, True), ("auto", 3, False), ("data:2", 2, True), ("data:2", 1, False), ("lane:3", 8, False)],
)
def test_tables_are_split_where_there_are_the_devices(monkeypatch, text, devices, splits):
    """A run of a larger mesh is read on one device too."""
    assert mesh.splits_rows(settings(monkeypatch, text), devices) == splits


@pytest.mark.parametrize("count, lanes, places", [(3, 2, [0, 1, 2, 0]), (4, 2, [0, 1, 2, 3]), (1, 3, [0, 0, 0])])
def test_lanes_fill_all_devices(count, lanes, places):
    assert mesh.filled(count, lanes).tolist() == places


@pytest.mark.parametrize("one, shards", [(((2, 3), (1, 1)), 1), (((2, 3), (1, 1)), 3), (((1, 2),), 4)])
def test_split_and_join_are_inverses_on_any_number_of_parts(one, shards):
    rows, slots = shards * sum(r for r, _ in one), shards * sum(r * w for r, w in one)
    nothing = np.zeros(slots, np.int32)
    bag = Sequences(nothing, nothing, np.zeros(rows, np.int32), one * shards, shards=shards)
    x_2xTx3, x_Rx3 = jnp.arange(2 * slots * 3).reshape(2, slots, 3), jnp.arange(rows * 3).reshape(rows, 3)
    parts = bag.split(x_2xTx3)
    assert [p.shape for p in parts] == [(2, n, width, 3) for n, width in bag.groups]
    np.testing.assert_array_equal(bag.join(parts), x_2xTx3)
    np.testing.assert_array_equal(bag.join_rows(bag.split_rows(x_Rx3)), x_Rx3)
    row_T = bag.row_T  # a row of a group is one row
    for group in bag.split(jnp.asarray(row_T), -1):
        assert (np.asarray(group) == np.asarray(group)[:, :1]).all()
    order_R = np.asarray(bag.order_R)
    assert sorted(order_R.tolist()) == list(range(rows))
    np.testing.assert_array_equal(bag.row_at(jnp.asarray(order_R)), np.arange(rows))
    if shards == 1:
        np.testing.assert_array_equal(join(parts), x_2xTx3)


def facts(batch):
    """What a batch says of each (place, position), whatever the layout."""
    found = {}
    for name, bag in (("students", batch.students), ("teachers", batch.teachers)):
        place_T, at_T = np.asarray(bag.places_T), np.asarray(bag.index_T)
        for slot in np.flatnonzero(np.asarray(bag.valid_T)):
            key = name, int(place_T[slot]), int(at_T[slot])
            assert key not in found
            found[key] = [int(bag.items_T[slot]), int(bag.positions_T[slot])]
            if name == "students":
                found[key] += [int(batch.targets_T[slot]), *np.asarray(batch.negatives_TxK[slot]).tolist()]
                found[key] += [float(batch.log_q[slot, 0])]
    for row, place in enumerate(np.asarray(batch.students.places_R)):
        taught = np.asarray(batch.teacher_rows_BxN)[row]
        teachers = [int(batch.teachers.places_R[t]) for t in taught]
        newest = int(batch.students.items_T[batch.students.last_R[row]])
        left_out = None if batch.students.left_out_R is None else int(batch.students.left_out_R[row])
        who = int(batch.users_B[row]), int(batch.students.users_R[row]), bool(batch.distils_B[row])
        found["row", int(place)] = [*who, newest, left_out, teachers]
    return found


@pytest.mark.parametrize("shards, layout", [(2, "bucketed"), (8, "bucketed"), (4, "padded")])
def test_a_dealt_batch_says_the_same_of_every_place(monkeypatch, shards, layout):
    monkeypatch.setattr(dealing, "dealt", lambda x: x)  # there is one device
    _, _, epochs, make = batch_worlds.world(layout=layout)
    order = epochs.order(0, 1)[-1]  # nobody stands in some places
    batch = make(order, jax.random.key(3))
    other = dealing.deal(batch, shards)
    assert facts(other) == facts(batch)
    assert other.students.shards == shards and len(other.students.items_T) % shards == 0
    each = np.asarray(other.students.valid_T).reshape(shards, -1).sum(axis=1)
    widest = max(width for _, width in batch.students.buckets)
    assert each.max() - each.min() <= widest  # as cards: no device has a row more than another


def test_rows_that_no_parts_divide_are_refused():
    with pytest.raises(ValueError, match="cannot be divided into 2 parts"):
        dealing.Moves.of(((3, 4),), 2)


MODEL = SimpleNamespace(make_backbone=SimpleNamespace(method="mood"), extra=None, plugin=SimpleNamespace())


@pytest.mark.parametrize(
    "changes, model, named",
    [
        ({"loss": {"all_items": True}}, {}, "loss.ranking=softmax scores every item"),
        ({"train": {"watch_gradients": 5}}, {}, "train.watch_gradients"),
        ({}, {"extra": print}, "method 'mood' adds to batches"),
        ({"train": {"watch_gradients": 0, "interactions": "streamed"}}, {}, "train.interactions=streamed"),
        ({"data": {"layout": "packed"}}, {}, "data.layout=packed"),
    ],
)
def test_what_is_not_split_is_refused_by_name(monkeypatch, changes, model, named):
    sections = {"loss": {"all_items": False}, "train": {"watch_gradients": 0, "interactions": "auto"}}
    sections |= {"data": {"layout": "auto"}}
    sections = {name: SimpleNamespace(**(values | changes.get(name, {}))) for name, values in sections.items()}
    monkeypatch.setattr(config_lib, "section", lambda config, name: sections[name])
    config = SimpleNamespace(train=SimpleNamespace(mesh="data:2"), loss=SimpleNamespace(ranking="softmax"))
    with pytest.raises(InputError, match=named) as found:
        mesh.check(config, mesh.Shape(1, 2), SimpleNamespace(**(vars(MODEL) | model)))
    assert "--mesh=data:2" in str(found.value) and "data:1" in str(found.value)
    if "streamed" not in str(changes):
        mesh.check(config, mesh.Shape(3, 1), SimpleNamespace(**(vars(MODEL) | model)))  # lanes alone split nothing
