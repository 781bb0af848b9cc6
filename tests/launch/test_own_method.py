"""A method with tables, an optimiser and rows of its own (`tests/own_methods/mood.py`) through the commands."""

import json
import signal

import commands
import pytest

pytestmark = pytest.mark.slow

# A command with the folder of the method, which perhaps gets a signal at the start of a window of steps.
PROGRAM = """
import itertools, os
from llmesr_jax.models import methods
methods.__path__.append({folder!r})
from launch import cli, {command}
from llmesr_jax.training import steps

run_window, windows = steps.run_window, itertools.count(1)

def signalled(*args, **options):
    if next(windows) == {window}:
        os.kill(os.getpid(), {signal:d})
    return run_window(*args, **options)

steps.run_window = signalled
{command}.define_flags() if hasattr({command}, "define_flags") else cli.define_flags()
cli.run({command}.main)
"""
FOLDER = str(commands.PROJECT / "tests" / "own_methods")
# 4 steps an epoch, in windows of 2, a call for each of two seeds: 4 calls an epoch.
ARGS = ("--method=mood", "--seeds=1,2", "--epochs=4", "--config.train.window=2", "--workdir=w")


def program(window=-1, signal=signal.SIGKILL, command="train"):
    return "-c", PROGRAM.format(folder=FOLDER, window=window, signal=signal, command=command)


@pytest.mark.parametrize("updates", ["dense", "touched"])
def test_a_method_of_ones_own_is_killed_and_continued_to_the_same_numbers(train, tmp_path, updates):
    """Interrupted amid the second epoch; continued from its steps, and killed amid the third."""
    args = (*ARGS, f"--config.train.table_updates={updates}")
    undisturbed, again = tmp_path / "undisturbed", tmp_path / "again"
    for folder in (undisturbed, again):
        folder.mkdir()
    done = train(*args, cwd=undisturbed, program=program())
    assert (done.status, done.err) == (0, "")
    assert train(*args, cwd=again, program=program(4 + 1, signal.SIGINT)).status == 130
    killed = train(*args, cwd=again, program=program(2 + 3))
    assert killed.status == -signal.SIGKILL and "continuing after epoch 1, step 2\n" in killed.out
    last = train(*args, cwd=again, program=program())
    assert last.status == 0 and "continuing after epoch" in last.out
    wanted = commands.numbers(undisturbed / "w")
    assert commands.numbers(again / "w") == wanted
    losses = [line["loss/pull"] for line in wanted["metrics"] if line["seed"] == 1]
    assert len(losses) == 4 and losses[-1] < losses[0]
    assert json.loads((undisturbed / "w" / "config.json").read_text())["config"]["train"]["optimizer"] == "auto"
    assert "embeddings" not in done.out  # of texts it reads nothing


@pytest.mark.parametrize(
    "flags, message",
    [
        (
            ("--config.train.optimizer=adamw", "--config.train.table_updates=touched"),
            "config: train.table_updates=touched, but the optimiser also moves parameters without a gradient",
        ),
        (("--config.train.optimizer=adm",), "config: train.optimizer='adm' is not known; expected one of: auto, adam,"),
    ],
    ids=["adamw", "unknown"],
)
def test_an_optimiser_that_does_not_fit_is_refused_before_anything_is_written(train, tmp_path, flags, message):
    found = train("--method=none", "--workdir=w", *flags, cwd=tmp_path)
    assert found.status == 2 and found.err.startswith(f"error: {message}") and found.err.count("\n") == 1
    assert not (tmp_path / "w").exists()


def test_another_optimiser_trains_to_other_numbers(train, tmp_path):
    for name in ("auto", "adam", "lion"):
        flags = ("--method=none", "--epochs=1", f"--workdir={name}", f"--config.train.optimizer={name}")
        assert train(*flags, cwd=tmp_path).status == 0
    first, same, other = (commands.numbers(tmp_path / name)["arrays"] for name in ("auto", "adam", "lion"))
    assert first == same != other
