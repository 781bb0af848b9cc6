"""A study that is continued with more epochs, and one of a run that starts from another."""

import csv
from types import SimpleNamespace

import commands
import jax
import numpy as np
import pytest

from llmesr_jax.experiments.gradients import probe, study, summary, teachers
from llmesr_jax.training import config as config_lib
from llmesr_jax.training import experiment, loop, runs, state

pytestmark = pytest.mark.slow
HEADER = ["user", "head", "positions", "ranking on tail items"]


def flags(folder, name, **more):
    small = {"none.width": 4, "data.max_len": 8, "sasrec.blocks": 1, "train.epochs": 1, "loggers": "none"}
    return small | {"dataset": "tiny", "data_dir": str(folder / "tiny"), "workdir": str(folder / name), **more}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    commands.write_data(folder / "tiny")
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam
        loop.train(experiment.prepare(config_lib.build(flags=flags(folder, "run"))))
    return folder / "run"


@pytest.fixture
def measured(monkeypatch):
    """The epochs whose influence was measured; every one is 1000 times the rate."""
    epochs = []

    def influence(of, params, epoch, options, rate):
        epochs.append(epoch)
        return HEADER, [[1, 0, 3, 1000 * rate]]

    monkeypatch.setattr(study, "_trained", lambda *_: {})
    monkeypatch.setattr(study, "_against", lambda *_: "")
    monkeypatch.setattr(probe, "measure", lambda *_: SimpleNamespace(terms=["ranking"]))
    monkeypatch.setattr(summary, "user_rows", lambda *_: (["user"], [[1]]))
    monkeypatch.setattr(summary, "summarise", lambda *_: {})
    monkeypatch.setattr(summary, "table", lambda *_: "")
    monkeypatch.setattr(teachers, "measure", influence)
    return epochs


def influence_of(run, out, kind, epochs):
    folder = study.study(str(run), str(out), probe.Options(influence=kind), epochs)
    with (folder / study.INFLUENCE).open() as file:
        return float(list(csv.DictReader(file))[0][HEADER[-1]])


def test_more_epochs_change_what_the_measured_ones_stand_for(run, measured, tmp_path):
    assert influence_of(run, tmp_path / "a", "tracin", (1, 2)) == 2  # epoch 1 stands for itself
    assert influence_of(run, tmp_path / "a", "tracin", (1, 2, 5)) == 5  # epoch 2 also for 3 and 4
    assert influence_of(run, tmp_path / "a", "tracin", (1, 5)) == 5
    assert measured == [1, 2, 5]


def test_gauss_newton_is_measured_at_the_last_epoch_of_each_command(run, measured, tmp_path):
    for epochs in ((1, 2), (1, 2, 5), (1,)):
        assert influence_of(run, tmp_path / "a", "gauss_newton", epochs) == 1
    assert measured == [2, 5, 1]


def test_epoch_0_of_a_run_that_starts_from_another_has_the_others_best_parameters(run, tmp_path):
    made = config_lib.build(flags=flags(run.parent, "second", start=str(run)))
    prepared = experiment.prepare(made)
    with jax.numpy_dtype_promotion("standard"):
        found = study._trained(study._of_one_seed(prepared, prepared.seeds[0], tmp_path / "run"), 0, None)
    best = state.take(runs.load(run).params_S, 0)
    for one, other in zip(*map(jax.tree.leaves, (found, best)), strict=True):
        np.testing.assert_array_equal(one, other)
