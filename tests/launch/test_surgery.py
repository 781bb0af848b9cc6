"""Gradient surgery through `launch.train`: killed and continued, its state among what checkpoints keep."""

import signal

import commands
import pytest

pytestmark = pytest.mark.slow
ARGS = ("--method=llmesr", "--seeds=1,2", "--epochs=3", "--config.train.window=2")


def test_a_run_is_killed_and_continued_to_the_same_numbers(train, tmp_path):
    """With touched updates; `tests/training/surgeries` has a step of both kinds, and one under an average."""
    args = (*ARGS, "--config.train.surgery=gradnorm", "--config.train.table_updates=touched")
    undisturbed = train(*args, "--workdir=w", cwd=tmp_path)
    assert (undisturbed.status, undisturbed.err) == (0, "")
    killed = train(*args, "--workdir=v", cwd=tmp_path, program=commands.signalled(5, signal.SIGINT))
    assert killed.status == 130
    assert train(*args, "--workdir=v", cwd=tmp_path).status == 0
    assert commands.numbers(tmp_path / "v") == commands.numbers(tmp_path / "w")


def test_another_surgery_trains_to_other_numbers_and_one_term_wants_none(train, tmp_path):
    found = {}
    for name in ("none", "pcgrad"):
        args = ("--method=none,llmesr", "--epochs=1", f"--config.train.surgery={name}", f"--workdir={name}")
        assert train(*args, cwd=tmp_path).status == 0
        for method in ("llmesr", "none"):
            found[name, method] = commands.numbers(tmp_path / name / method)["arrays"]
    assert found["none", "none"] == found["pcgrad", "none"] and found["none", "llmesr"] != found["pcgrad", "llmesr"]
