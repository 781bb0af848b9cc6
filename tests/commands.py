"""The commands as processes of their own, on a small data folder: what the tests of the command line share."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import compiling
import numpy as np

PROJECT = Path(__file__).resolve().parents[1]
# A model and batches so small that a run is little more than its start.
SMALL = (
    "--dataset=tiny",
    "--backbone=gru4rec",  # compiles fastest
    "--max_len=8",
    "--batch_size=16",
    "--config.semantic.tfidf_width=8",
    "--config.none.width=8",
    "--config.llmesr.width=4",
    "--config.llmesr.similar=3",
    "--config.sasrec.blocks=1",
    "--config.bert4rec.blocks=1",
)

# launch.train that gets a signal at the start of a window of steps.
_SIGNALLED = """
import itertools, os, signal
from launch import cli, train
from llmesr_jax.training import steps

run_window, windows = steps.run_window, itertools.count(1)

def signalled(*args, **options):
    if next(windows) == 2 * {window} - 1:  # a call for each of two seeds
        os.kill(os.getpid(), {signal:d})
    return run_window(*args, **options)

steps.run_window = signalled
train.define_flags()
cli.run(train.main)
"""


_FORKERS: dict[str, Any] = {}


class Result(NamedTuple):
    status: int
    out: str
    err: str


def write_data(folder: Path, users: int = 60, items: int = 150) -> Path:
    """`inter.txt` and `items.jsonl`: 4 to 12 different items a user, some items popular, every item met."""
    rng = np.random.default_rng(7)
    lengths_U = rng.integers(4, 13, users)
    user_n = np.repeat(np.arange(1, users + 1), lengths_U)
    weights = 1 / np.arange(1, items + 1) ** 0.7
    item_n = np.concatenate([rng.choice(items, n, False, weights / weights.sum()) + 1 for n in lengths_U])
    for item in np.setdiff1d(np.arange(1, items + 1), item_n):
        item_n[np.flatnonzero(np.bincount(item_n)[item_n] > 1)[-1 - item % 40]] = item
    folder.mkdir(parents=True)
    (folder / "inter.txt").write_text("".join(f"{u} {i}\n" for u, i in zip(user_n, item_n)))
    words = "red blue green gold tea milk soap salt lamp rope".split()
    titles = [" ".join(rng.choice(words, 3)) for _ in range(items)]
    records = [{"item_id": i, "title": title, "brand": words[i % 7]} for i, title in enumerate(titles, 1)]
    (folder / "items.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def environment(cache: Path, compiled: Path | None = None) -> dict[str, str]:
    """CPU only; tables are kept in `cache`, compiled code there or in `compiled`, so that a session compiles a program once."""
    changes = {
        "PYTHONPATH": str(PROJECT),
        "JAX_PLATFORMS": "cpu",
        "XDG_CACHE_HOME": str(cache),
        "JAX_COMPILATION_CACHE_DIR": str(compiled or cache / "xla"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_FLAGS": compiling.flags(),  # these runs compile much and compute little
    }
    return {**os.environ, **changes}


def session_environment(tmp_path_factory: Any) -> dict[str, str]:
    """`environment` with a cache of its own, and with the compiled code that all workers of the session share."""
    in_worker = "PYTEST_XDIST_WORKER" in os.environ  # then the folders of all workers have one parent
    compiled = tmp_path_factory.getbasetemp().parent / "xla" if in_worker else None
    return environment(tmp_path_factory.mktemp("cache"), compiled)


def start(*args: str, cwd: Path, env: dict[str, str]) -> subprocess.Popen:
    """`python args`, running."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, *args], cwd=cwd, env=env, text=True, **pipes)


def finish(process: subprocess.Popen) -> Result:
    out, err = process.communicate(timeout=300)
    return Result(process.returncode, out, err)


def run(*args: str, cwd: Path, env: dict[str, str]) -> Result:
    """`python args`, to its end. A command is run in a fork of a process that has imported what commands need.

    What a signal does, and what a command does with other processes, is tested with `start`.
    """
    if args[0] != "-m" or not args[1].startswith("launch."):
        return finish(start(*args, cwd=cwd, env=env))
    from forked import Forker

    key = json.dumps(env, sort_keys=True)
    if key not in _FORKERS:
        _FORKERS[key] = Forker(env, Path(tempfile.mkdtemp()))
        atexit.register(_FORKERS[key].__exit__)
    return _FORKERS[key].run(*args[1:], cwd=cwd)


def signalled(window: int, signal: int) -> tuple[str, str]:
    """Arguments of Python for launch.train with two seeds that gets a signal at the start of a window of steps."""
    return "-c", _SIGNALLED.format(window=window, signal=signal)


def numbers(folder: Path) -> dict[str, Any]:
    """All that a run's folder says about its numbers: results, metrics without their times, ranks, checkpoint."""
    from llmesr_jax.training.checkpoint import Checkpoints, checksum

    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    with np.load(folder / "ranks.npz") as file:
        ranks = {name: file[name].tolist() for name in file}
    with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        tree, progress = checkpoints.restore()
    results = json.loads((folder / "results.json").read_text())
    del results["config"]["workdir"]
    return {
        "results": results,
        "metrics": [{k: v for k, v in line.items() if k != "seconds"} for line in lines],
        "ranks": ranks,
        "arrays": checksum(tree),
        "progress": progress,
    }
