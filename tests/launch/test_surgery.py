"""Gradient surgery through `launch.train`: killed and continued, its state among what checkpoints keep."""

import signal

import commands
import pytest

pytestmark = pytest.mark.slow
ARGS = ("--method=llmesr", "--seeds=1,2", "--epochs=3", "--config.train.window=2")


@pytest.mark.parametrize("updates", ["dense", "touched"])
def test_a_run_is_killed_and_continued_to_the_same_numbers(train, tmp_path, updates):
    args = (*ARGS, "--config.train.surgery=gradnorm", f"--config.train.table_updates={updates}")
    args += ("--config.train.average=0.9",) if updates == "dense" else ()  # an average moves every row
    undisturbed = train(*args, "--workdir=w", cwd=tmp_path)
    assert (undisturbed.status, undisturbed.err) == (0, "")
    killed = train(*args, "--workdir=v", cwd=tmp_path, program=commands.signalled(5, signal.SIGINT))
    assert killed.status == 130
    assert train(*args, "--workdir=v", cwd=tmp_path).status == 0
    assert commands.numbers(tmp_path / "v") == commands.numbers(tmp_path / "w")


def test_another_surgery_trains_to_other_numbers_and_one_term_wants_none(train, tmp_path):
    found = {}
    for name in ("none", "pcgrad"):
        for method in ("llmesr", "none"):
            args = (f"--method={method}", "--epochs=1", f"--config.train.surgery={name}", f"--workdir={name}-{method}")
            assert train(*args, cwd=tmp_path).status == 0
            found[name, method] = commands.numbers(tmp_path / f"{name}-{method}")["arrays"]
    assert found["none", "none"] == found["pcgrad", "none"] and found["none", "llmesr"] != found["pcgrad", "llmesr"]
