"""A lock that one process at a time holds, and that ends with it."""

import errno
import os
import subprocess
import sys

import commands
import filelock
import pytest

from llmesr_jax.core import locks
from llmesr_jax.core.errors import InputError

HOLDER = """
import sys, time
from pathlib import Path
from llmesr_jax.core import locks
held = locks.take(Path(sys.argv[1]), "taken")
print("held", flush=True)
time.sleep(60)
"""


def test_it_is_freed_by_a_kill(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "lock")]
    env = {**os.environ, "PYTHONPATH": str(commands.PROJECT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="^taken$"):
            locks.take(tmp_path / "lock", "taken")
        process.kill()
    locks.take(tmp_path / "lock", "taken").release()


def test_one_at_a_time_also_where_the_holder_deletes_the_file(tmp_path):
    path = tmp_path / "lock"
    for _ in range(2):
        held = locks.take(path, "taken")
        with pytest.raises(InputError, match="^taken$"):
            locks.take(path, "taken")
        if os.name != "nt":
            path.unlink()
        held.release()
    assert os.name == "nt" or not path.exists()


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOLCK])
def test_where_the_file_system_knows_no_locks_nothing_is_held(tmp_path, monkeypatch, code):
    def refuse(self, **_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    assert not locks.take(tmp_path / "lock", "taken").is_locked


def test_what_the_disk_refuses_is_raised(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises((FileExistsError, NotADirectoryError)):
        locks.take(tmp_path / "file" / "lock", "taken")
