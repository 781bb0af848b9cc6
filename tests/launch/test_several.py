"""Several processes train one run: the end of one ends the others with one line, and any number of devices goes on."""

import json
import os
import re
import signal
import subprocess
import time

import commands
import compiling
import pytest

pytestmark = pytest.mark.slow

SETTINGS = (
    "--dataset=small --method=none --backbone=sasrec --seeds=1 --epochs=4 --batch_size=32 --max_len=10 --loggers=none "
    "--config.none.width=4 --config.train.window=1"
).split()


def command(data, folder, *more):
    return "-m", "launch.train", f"--data_dir={data}", f"--workdir={folder}", *SETTINGS, *more


def losses(folder):
    return [json.loads(line)["loss/total"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def child_of(parent, place):
    """The process of this place that a command has started."""
    found = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(parent)], capture_output=True, text=True
    ).stdout
    return int(re.search(rf"^\s*(\d+) .*--process_id={place}$", found, re.MULTILINE)[1])


def test_a_killed_process_ends_the_others_and_one_device_goes_on(tmp_path):
    data, folder, alone = commands.write_data(tmp_path / "data"), tmp_path / "several", tmp_path / "alone"
    env = commands.environment(tmp_path / "cache")
    on_four = env | {"XLA_FLAGS": f"{compiling.flags()} --xla_force_host_platform_device_count=4"}
    arguments = {"cwd": commands.PROJECT, "env": on_four}
    process = commands.start(*command(data, folder, "--mesh=data:8", "--processes=2"), **arguments)
    told = []
    for line in process.stdout:
        told.append(line)
        if line.startswith("epoch   3"):  # the save after the first epoch is whole before the second's begins
            break
    else:
        pytest.fail(f"ended before an epoch did: {told}, {process.stderr.read()}")
    os.kill(child_of(process.pid, 1), signal.SIGKILL)
    killed = time.monotonic()
    ended = commands.finish(process)
    assert time.monotonic() - killed < 60
    assert ended.status == 2, (told, ended)
    (line,) = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert (
        line.startswith("error: process 1 of 2 was killed (signal 9)")
        and "run the same command again to continue" in line
    )
    assert "Traceback" not in ended.err

    arguments = {"cwd": commands.PROJECT, "env": env}
    continued = commands.finish(commands.start(*command(data, folder), **arguments))
    assert continued.status == 0 and "continuing after epoch" in continued.out, continued
    assert commands.finish(commands.start(*command(data, alone), **arguments)).status == 0
    assert losses(folder) == pytest.approx(losses(alone), rel=1e-5)
    assert json.loads((folder / "results.json").read_text())["epochs"] == 4


def test_processes_that_are_not_named_whole_are_refused(tmp_path):
    env = commands.environment(tmp_path / "cache")
    for given in (["--num_processes=2"], ["--coordinator=localhost:1234", "--num_processes=2", "--process_id=2"]):
        wrong = command(tmp_path, tmp_path / "run", *given)
        ended = commands.finish(commands.start(*wrong, cwd=commands.PROJECT, env=env))
        assert ended.status == 2 and len(ended.err.splitlines()) == 1, ended
        assert "--process_id" in ended.err
