"""A run that keeps a running average of its parameters, from training to the study of its gradients."""

import json
import shutil
import signal

import commands
import numpy as np
import pytest

from llmesr_jax.training.checkpoint import Checkpoints

pytestmark = pytest.mark.slow

ARGS = ("--method=none", "--epochs=3", "--batch_size=4", "--config.train.window=1", "--workdir=w")
AVERAGE = "--config.train.average=0.9"
SEEDS = "--seeds=1,2"


@pytest.fixture(scope="module")
def averaged(train, tmp_path_factory):
    cwd = tmp_path_factory.mktemp("averaged")
    result = train(*ARGS, AVERAGE, SEEDS, cwd=cwd)
    assert result.status == 0, result.err
    return cwd


def newest(cwd):
    with Checkpoints(cwd / "w" / "checkpoints", read_only=True) as checkpoints:
        return checkpoints.restore()


def flat(tree):
    return {name: x for name, x in _leaves(tree, "")}


def _leaves(tree, prefix):
    for name, value in tree.items():
        yield from _leaves(value, f"{prefix}/{name}") if isinstance(value, dict) else [(f"{prefix}/{name}", value)]


def test_the_training_does_not_see_it_and_the_test_does(train, tmp_path):
    (tmp_path / "without").mkdir()
    args = (*ARGS, SEEDS, "--config.train.monitor_after=9")  # the newest counts as best
    assert train(*args, AVERAGE, cwd=tmp_path).status == train(*args, cwd=tmp_path / "without").status == 0
    (with_it, _), (without, _) = newest(tmp_path), newest(tmp_path / "without")
    raw, average = flat(with_it["state"]["params"]), flat(with_it["state"]["opt_state"]["average"])
    for name, value in flat(without["state"]["params"]).items():
        np.testing.assert_allclose(raw[name], value, atol=1e-5)
    best = flat(with_it["best"])
    assert all(np.array_equal(best[name], average[name]) for name in best)
    assert all(np.abs(average[name] - raw[name]).max() > 1e-4 for name in raw)


def test_interrupted_and_continued(averaged, train, tmp_path):
    program = commands.signalled(15 + 7, signal.SIGTERM)
    assert train(*ARGS, AVERAGE, SEEDS, cwd=tmp_path, program=program).status == 130
    result = train(*ARGS, AVERAGE, SEEDS, cwd=tmp_path)
    assert result.status == 0 and "w: continuing after epoch 1, step 7\n" in result.out
    assert commands.numbers(tmp_path / "w") == commands.numbers(averaged / "w")


def test_it_is_evaluated(averaged, evaluate):
    result = evaluate("--workdir=w", cwd=averaged)
    assert result.status == 0 and "equal to w/results.json in all" in result.out


def test_a_study_over_training_comes_by_the_run_and_measures_what_the_study_of_the_best_does(
    averaged, environment, tmp_path
):
    shutil.copytree(averaged / "w", tmp_path / "w")
    best = json.loads((tmp_path / "w" / "results.json").read_text())["best_epoch"][0]
    measured = {}
    for name, more in (("best", ()), ("training", (f"--epochs={best}",))):
        small = ("--steps=2", "--users=30", "--eigenvalues=0", f"--out={name}")
        args = ("-m", "launch.gradients", "--workdir=w", *small, *more)
        result = commands.run(*args, cwd=tmp_path, env=environment)
        assert (result.status, result.err) == (0, "")
        assert "train.average=0.9: measured at the running average, which validation and test use\n" in result.out
        measured[name] = json.loads((tmp_path / name / "gradients.json").read_text())["epochs"]
    assert "the parameters are those of w, bit for bit\n" in result.out
    assert measured["best"] == measured["training"]
