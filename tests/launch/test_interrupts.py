"""SIGINT at any moment of a command: one line, status 130, nothing more is sent, and the same command goes on.

What was under way to a server is stored, so nothing is paid twice.

LLMESR_KILLS says how often each test interrupts (default 3 amid imports, 5 amid requests).
"""

import os
import re
import shutil
import signal
import time

import commands
import numpy as np
import pytest
from embedding_server import EmbeddingServer
from forked import Forker

pytestmark = pytest.mark.slow

WIDTH, BATCH, CONCURRENCY = 8, 5, 2
KILLS = int(os.environ.get("LLMESR_KILLS", 0))
# As `python -m launch.embed` is from the moment on at which Python has found the commands.
PROGRAM = """
import sys
sys.argv[0] = "-m"
import launch
print("here", flush=True)
import runpy
runpy.run_module("launch.embed", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def env(environment):
    return {**environment, "NO_PROXY": "127.0.0.1"}


@pytest.fixture(scope="module")
def forker(env, tmp_path_factory):
    with Forker(env, tmp_path_factory.mktemp("forker")) as forker:
        yield forker


def _embed(folder, server):
    width = (f"--dimensions={WIDTH}", f"--batch_size={BATCH}", f"--concurrency={CONCURRENCY}", "--notables")
    place = ("--dataset=tiny", f"--data_dir={folder}", f"--base_url={server.base_url}")
    return (*place, "--encoder=openai", "--model=toy", *width)


def _bytes(folder):
    return [(folder / name).read_bytes() for name in ("item_emb.npy", "user_emb.npy")]


def test_interrupted_at_random_moments(env, forker, data, tmp_path):
    rng, folder = np.random.default_rng(), tmp_path / "tiny"
    shutil.copytree(data, folder, ignore=shutil.ignore_patterns("cache", "*emb*"))
    with EmbeddingServer(WIDTH) as server:
        args = _embed(folder, server)
        server.delay = 0.2  # so slow that no process is done, and leaves Python, before its signal comes
        for _ in range(KILLS or 3):  # imports, and what comes before the first request
            process = commands.start("-c", PROGRAM, *args, cwd=tmp_path, env=env)
            assert process.stdout.readline() == "here\n"
            time.sleep(rng.uniform(0.0, 1.5))
            process.send_signal(signal.SIGINT)
            result = commands.finish(process)
            assert (result.status, result.err) == (130, "interrupted\n")

        server.delay, sent = 0.05, [0]

        def interrupt(pid):
            before, wanted = len(server.requests), rng.integers(1, 4)
            while len(server.requests) - before < wanted:
                time.sleep(0.001)
            time.sleep(rng.uniform(0.0, server.delay))
            os.kill(pid, signal.SIGINT)
            sent[0] = len(server.requests)

        for _ in range(KILLS or 5):
            result = forker.run("launch.embed", *args, cwd=tmp_path, meanwhile=interrupt)
            assert (result.status, result.err) == (130, "interrupted\n"), result
            assert re.search(r"\n\d+ of \d+ texts are done; run the same command again to continue\n$", result.out)
            time.sleep(2 * server.delay)
            assert len(server.requests) - sent[0] <= 2 * CONCURRENCY  # till it looks, an answer may lead to another
            assert (
                "\nsending nothing more; waiting briefly for pending answers; a second signal stops at once\n"
                in result.out
            )
        server.delay = 0.0
        assert forker.run("launch.embed", *args, cwd=tmp_path).status == 0
        assert set(server.paid.values()) == {1}
        continued = _bytes(folder)
        for path in [*folder.glob("*emb*"), *folder.glob("cache/*")]:
            path.unlink()
        assert forker.run("launch.embed", *args, cwd=tmp_path).status == 0
    assert _bytes(folder) == continued


def test_prepare_interrupted_leaves_nothing(forker, env, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    lines = (f"u{n % 5000} i{n % 700}\n" for n in range(400_000))
    (raw / "inter.csv").write_text("user_id,item_id\n" + "".join(line.replace(" ", ",") for line in lines))
    args = ("--dataset=mine", "--importer=table", f"--raw_dir={raw}", f"--out={tmp_path / 'out' / 'mine'}")

    def interrupt(pid):
        while not (tmp_path / "out").exists():
            time.sleep(0.001)
        time.sleep(0.05)
        os.kill(pid, signal.SIGINT)

    result = forker.run("launch.prepare", *args, cwd=tmp_path, meanwhile=interrupt)
    assert (result.status, result.err) == (130, "interrupted\n")
    assert not (tmp_path / "out").exists()
