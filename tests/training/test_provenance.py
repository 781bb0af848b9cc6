"""What a run's folder says of each time it was started."""

import json
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from llmesr_jax.training import provenance


@pytest.fixture
def run(tmp_path):
    """An experiment, as far as `origin` looks at it."""
    return SimpleNamespace(config=SimpleNamespace(workdir=str(tmp_path)), identity=lambda: {"interactions": "ab"})


def read(folder):
    return [json.loads(line) for line in (folder / "starts.jsonl").read_text().splitlines() if line]


def test_a_line_for_each_start(run, tmp_path):
    provenance.write(run)
    provenance.write(run)
    lines = read(tmp_path)
    assert len(lines) == 2
    for line in lines:
        assert line["data"] == {"interactions": "ab"}
        assert (line["python"], line["versions"]["jax"]) == (platform.python_version(), jax.__version__)
        assert line["device"]["platform"] == "cpu" and line["time"].endswith("+00:00")
        assert sys.orig_argv[-1] in line["command"]


def test_a_line_that_a_kill_cut_off_does_not_swallow_the_next(run, tmp_path):
    (tmp_path / "starts.jsonl").write_text('{"time": "2026')
    provenance.write(run)
    whole = (tmp_path / "starts.jsonl").read_text().splitlines()[-1]
    assert json.loads(whole)["data"] == {"interactions": "ab"}


def git(*args, cwd):
    command = ("git", "-c", "user.name=a", "-c", "user.email=a@b", *args)
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout.strip()


def test_git_says_the_commit_and_whether_the_code_has_changed(tmp_path, monkeypatch):
    code = tmp_path / "package" / "origin.py"
    code.parent.mkdir()
    code.write_text("x = 1\n")
    monkeypatch.setattr(provenance, "__file__", str(code))
    state = lambda: provenance.git_state.__wrapped__()  # noqa: E731
    assert state() is None
    git("init", "-q", cwd=tmp_path)
    assert state() is None  # a repository that does not know the code
    git("add", "-A", cwd=tmp_path)
    git("commit", "-qm", "first", cwd=tmp_path)
    commit = git("rev-parse", "HEAD", cwd=tmp_path)
    assert state() == {"commit": commit, "dirty": False}
    (tmp_path / "notes.txt").touch()
    assert state() == {"commit": commit, "dirty": False}
    code.write_text("x = 2\n")
    assert state() == {"commit": commit, "dirty": True}


def test_without_git_there_is_no_state(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert provenance.git_state.__wrapped__() is None
    assert Path(provenance.__file__).name == "provenance.py"
