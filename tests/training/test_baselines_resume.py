"""The other systems of the papers' tables: stopped within an epoch and resumed, each ends in the same numbers."""

import commands
import jax
import pytest
import tiny

from llmesr_jax.core.interrupts import Stop
from llmesr_jax.training import config, experiment, loop, runs, steps

pytestmark = pytest.mark.slow

SMALL = {
    "dataset": "tiny",
    "backbone": "gru4rec",
    "data.max_len": 8,
    "data.batch_size": 24,
    "train.epochs": 2,
    "train.monitor_after": 1,
    "train.learning_rate": 0.02,
    "train.window": 1,
    "loggers": "none",
    "cities.window": 1,  # one width of contexts compiles fastest
    "cities.shots": 2,
    "cities.head_items": 16,
    "cities.most_contexts": 4,
    "melt.context_len": 4,
}


@pytest.fixture(autouse=True)
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """prepared(method, folder, **settings): an experiment on the small data."""
    data = {"data_dir": str(commands.write_data(tmp_path_factory.mktemp("data") / "tiny"))}

    def made(method, folder, **changes):
        own = {f"{method}.width": 4, "method": method, "workdir": str(folder)}
        return experiment.prepare(config.build({**SMALL, **data, **own, **changes}))

    return made


@pytest.fixture(scope="module")
def plain(prepared, tmp_path_factory):
    """A finished run of `none`."""
    folder = tmp_path_factory.mktemp("start") / "none"
    with jax.numpy_dtype_promotion("standard"):
        loop.train(prepared("none", folder))
    return str(folder)


@pytest.mark.parametrize("method", ["rlmrec_gen", "cities", "melt", "loam"])
def test_a_stopped_run_ends_in_the_same_numbers(method, plain, prepared, tmp_path, monkeypatch):
    start = {"start": plain} if method in ("cities", "melt") else {}
    whole = loop.train(prepared(method, tmp_path / "whole", **start))
    stop, run_window, calls = Stop(), steps.run_window, []

    def counted(*args, **options):
        calls.append(None)
        if len(calls) == 5:  # in the second of two epochs of three steps
            stop.request()
        return run_window(*args, **options)

    monkeypatch.setattr(steps, "run_window", counted)
    one = prepared(method, tmp_path / "stopped", **start)
    assert one.epochs.steps == 3
    with pytest.raises(KeyboardInterrupt):
        loop.train(one, stop=stop)
    assert len(calls) == 5
    resumed = loop.train(one)
    assert len(calls) == 6
    assert resumed["test"] == whole["test"] and resumed["best_epoch"] == whole["best_epoch"] == [2]
    tiny.assert_equal(*(runs.load(tmp_path / name).params_S for name in ("stopped", "whole")))
