"""What a method may do before an epoch and before it serves, in training as a run goes through it."""

import dataclasses

import jax
import numpy as np
import pytest

from llmesr_jax.core.interrupts import Stop
from llmesr_jax.models.recommender import Recommender
from llmesr_jax.training import config, experiment, loop, optimizer, runs, steps

pytestmark = pytest.mark.slow

ROW = 5
SMALL = {
    "dataset": "demo",
    "method": "none",
    "backbone": "gru4rec",
    "none.width": 4,
    "data.max_len": 8,
    "data.batch_size": 512,
    "train.epochs": 3,
    "train.eval_users": 8,
    "train.window": 1,
    "train.learning_rate": 1e-12,  # so that nothing but the hook moves a row
    "loggers": "none",
    "seeds": "1,2",
}


@pytest.fixture(autouse=True)
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"):
        yield


def raised(params, tables, data, epoch):
    """A row that is the number of the epoch."""
    return {**params, "table": {"items": params["table"]["items"].at[ROW].set(epoch)}}


def zeroed(params, tables, data):
    return {**params, "table": {"items": 0 * params["table"]["items"]}}


def prepared(folder, before_epoch=None, for_serving=None, **changes):
    found = experiment.prepare(config.build({**SMALL, "workdir": str(folder), **changes}))
    hooks = {"before_epoch": before_epoch, "for_serving": for_serving}
    # A class of its own, so that no compiled code of other hooks is taken for its own.
    hooked = type("Hooked", (Recommender,), {name: hook and staticmethod(hook) for name, hook in hooks.items()})
    plain = found.recommender
    fields = {field.name: getattr(plain, field.name) for field in dataclasses.fields(plain)}
    return found._replace(recommender=hooked(**fields))


def trained_row(monkeypatch, one, stop_at=0):
    """Row `ROW` in the steps' input, step by step, of the first seed; trained until the end, or stopped and resumed."""
    rows, run_window = [], steps.run_window
    stop = Stop()

    def looked_at(*args, **options):
        states = args[3]
        rows.append(float(states.params["table"]["items"][0, ROW, 0]))
        if len(rows) == 2 * stop_at - 1:  # a call for each of two seeds
            stop.request()
        return run_window(*args, **options)

    monkeypatch.setattr(steps, "run_window", looked_at)
    if stop_at:
        with pytest.raises(KeyboardInterrupt):
            loop.train(one, stop=stop)
    results = loop.train(one)
    return np.asarray(rows[::2]), results


def test_an_epoch_begins_with_it_also_after_an_interrupt_within_one(monkeypatch, tmp_path):
    one = prepared(tmp_path / "a", raised)
    total = one.epochs.steps
    rows, whole = trained_row(monkeypatch, one)
    np.testing.assert_allclose(rows, np.repeat([1, 2, 3], total), atol=1e-6)
    again = prepared(tmp_path / "b", raised)
    rows, resumed = trained_row(monkeypatch, again, stop_at=total + 2)
    np.testing.assert_allclose(rows, np.repeat([1, 2, 3], total), atol=1e-6)
    assert resumed["test"] == whole["test"]


def test_it_is_not_done_again_within_an_epoch(monkeypatch, tmp_path):
    """The call before the epoch doubles a row: once more after a resume would show."""

    def doubled(params, tables, data, epoch):
        return {**params, "table": {"items": params["table"]["items"].at[ROW].mul(2.0)}}

    rows = {}
    for name, stop_at in (("whole", 0), ("stopped", 3)):
        rows[name], _ = trained_row(monkeypatch, prepared(tmp_path / name, doubled), stop_at)
        monkeypatch.undo()
    np.testing.assert_array_equal(rows["whole"], rows["stopped"])
    assert rows["whole"][-1] == pytest.approx(4 * rows["whole"][0])


def test_vectors_are_made_from_what_is_served(tmp_path):
    one = prepared(tmp_path / "a", for_serving=zeroed)
    results = loop.train(one)
    assert results["test"]["full"]["overall"]["N@10"][0] < 0.02  # all items are tied: the mean over their orders
    assert results["valid"]["full"]["overall"]["N@10"][0] < 0.02
    read = runs.load(tmp_path / "a")
    assert np.abs(read.params_S["table"]["items"]).max() > 0.01  # what is kept is what was trained


def test_an_average_takes_what_was_set_as_it_is():
    inner = optimizer.averaging(optimizer.adam(1e-3), 0.9)
    old, new = {"w": jax.numpy.asarray([1.0, 2.0])}, {"w": jax.numpy.asarray([1.0, 9.0])}
    state = inner.init(old)._replace(average={"w": jax.numpy.asarray([5.0, 6.0])})
    np.testing.assert_array_equal(optimizer.renewed(state, old, new).average["w"], [5.0, 9.0])
    plain = optimizer.adam(1e-3).init(old)
    assert optimizer.renewed(plain, old, new) is plain
