"""A run that is killed, interrupted or finds a damaged checkpoint ends in the same numbers, bit for bit.

LLMESR_KILLS says how often the run of the first test is killed (default 3).
"""

import os
import shutil
import signal
import time

import commands
import numpy as np
import pytest

pytestmark = pytest.mark.slow

EPOCHS = 12
# 15 steps an epoch, looked at one by one.
SEVERAL_WINDOWS = ("--batch_size=4", "--config.train.window=1")
ARGS = ("--method=none", "--seeds=1,2", f"--epochs={EPOCHS}", *SEVERAL_WINDOWS, "--workdir=w")


@pytest.fixture(scope="module")
def undisturbed(train, tmp_path_factory):
    """The numbers of a run that nothing disturbed."""
    cwd = tmp_path_factory.mktemp("undisturbed")
    result = train(*ARGS, cwd=cwd)
    assert result.status == 0, result.err
    numbers = commands.numbers(cwd / "w")
    assert len(numbers["metrics"]) == 2 * EPOCHS
    return numbers


@pytest.fixture(scope="module")
def half(train, tmp_path_factory):
    """A run interrupted by SIGINT in the middle of its fourth epoch, so with two checkpoints."""
    cwd = tmp_path_factory.mktemp("half")
    program = commands.signalled(3 * 15 + 7, signal.SIGINT)
    return cwd, train(*ARGS, cwd=cwd, program=program)


@pytest.fixture
def half_again(half, tmp_path):
    shutil.copytree(half[0], tmp_path / "copy")
    return tmp_path / "copy"


def damage(checkpoint):
    largest = max((path for path in checkpoint.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    with largest.open("rb+") as file:
        file.truncate(largest.stat().st_size // 2)


def checkpoints(cwd):
    """Newest first."""
    folders = [path for path in (cwd / "w" / "checkpoints").iterdir() if path.name.isdigit()]
    return sorted(folders, key=lambda path: int(path.name), reverse=True)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_killed_at_random_moments(undisturbed, start_train, train, tmp_path):
    """Each kill comes a random while after the line of a random epoch, or after the start."""
    rng, kills = np.random.default_rng(), int(os.environ.get("LLMESR_KILLS", 3))
    for epoch in np.sort(rng.integers(0, EPOCHS + 1, kills)):
        process = start_train(*ARGS, cwd=tmp_path)
        line = next((line for line in process.stdout if line.startswith(f"epoch {epoch:3d} ")), "") if epoch else ""
        wait = rng.uniform(0, 0.3 if line else 6.0)
        time.sleep(wait)
        process.kill()
        process.communicate()
        print(f"killed {wait:.2f} s after {line or 'the start'}")
    assert train(*ARGS, cwd=tmp_path).status == 0
    assert commands.numbers(tmp_path / "w") == undisturbed


def test_an_interrupt_saves_in_the_middle_of_an_epoch(half):
    cwd, result = half
    assert (result.status, result.err) == (130, "interrupted\n")
    stopping, saved = result.out.splitlines()[-2:]
    assert stopping == "stopping after the current steps; a second signal stops at once"
    assert saved == "w: saved after epoch 3, step 7; run the same command again to continue"
    assert [path.name for path in checkpoints(cwd)] == [str(3 * 15 + 7), str(3 * 15)]


def test_continued_after_interrupts(undisturbed, half_again, train):
    program = commands.signalled(4, signal.SIGTERM)
    result = train(*ARGS, cwd=half_again, program=program)
    assert (result.status, result.err) == (130, "interrupted\n")
    assert "w: continuing after epoch 3, step 7\n" in result.out
    assert result.out.endswith("w: saved after epoch 3, step 11; run the same command again to continue\n")
    assert train(*ARGS, cwd=half_again).status == 0
    assert commands.numbers(half_again / "w") == undisturbed


def test_a_truncated_checkpoint_is_left_out(undisturbed, half_again, train):
    newest, before = checkpoints(half_again)
    damage(newest)
    result = train(*ARGS, cwd=half_again)
    assert (result.status, result.err) == (0, "")
    (line,) = [line for line in result.out.splitlines() if "damaged" in line]
    assert f"{newest.parent}: the checkpoint of step {newest.name} is damaged" in line
    wanted = (
        f"; it is renamed to damaged-{newest.name}, and training continues from the checkpoint of step {before.name}"
    )
    assert line.endswith(wanted)
    assert "w: continuing after epoch 3\n" in result.out
    assert commands.numbers(half_again / "w") == undisturbed


def test_without_a_sound_checkpoint_nothing_is_deleted(half_again, train):
    for path in checkpoints(half_again):
        damage(path)
    before = contents(half_again / "w" / "checkpoints")
    result = train(*ARGS, cwd=half_again)
    assert result.status == 2
    folder = half_again / "w" / "checkpoints"
    assert result.err.startswith(f"error: {folder}: all checkpoints are damaged (step ")
    assert (
        result.err.endswith("; delete the run's folder to train again from the start\n") and result.err.count("\n") == 1
    )
    assert contents(folder) == before
