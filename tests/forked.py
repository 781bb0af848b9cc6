"""Commands run in forks of one process that has the imports behind it, which take a second and a half each time.

As a program it reads cases as JSON lines and answers each with its exit status.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import commands

# What commands import as they run. None of it may start threads or ask for devices: neither survives a fork.
_BEFORE = ("launch.cli", "llmesr_jax.training.loop", "llmesr_jax.training.experiment", "llmesr_jax.ranking.evaluate")


class Forker:
    """run(module, *args, cwd) -> Result; close it, or use it in a `with` statement."""

    def __init__(self, env: dict[str, str], folder: Path):
        self._out, self._err = folder / "out", folder / "err"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [sys.executable, "-W", "ignore", __file__]
        self._server = subprocess.Popen(command, cwd=commands.PROJECT, env=env, **pipes)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()

    def run(
        self, module: str, *args: str, cwd: Path, meanwhile: Callable[[int], None] = lambda pid: None
    ) -> commands.Result:
        """`meanwhile` gets the number of the process, once it has started."""
        case = {"module": module, "args": args, "cwd": str(cwd), "out": str(self._out), "err": str(self._err)}
        self._server.stdin.write(json.dumps(case) + "\n")
        self._server.stdin.flush()
        meanwhile(int(self._server.stdout.readline()))
        status = int(self._server.stdout.readline())
        return commands.Result(status, self._out.read_text(), self._err.read_text())


def _serve() -> None:
    for name in _BEFORE:
        importlib.import_module(name)
    importlib.import_module("llmesr_jax.training.schema").sections()
    for line in sys.stdin:
        case = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _run(**case)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _run(module: str, args: list[str], cwd: str, out: str, err: str) -> None:
    os.chdir(cwd)
    for stream, name in ((1, out), (2, err)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.argv = [module, *args]
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # the cases are not for it to read
    try:
        importlib.import_module(module).run()
    except SystemExit as done:  # leaves without the slow tear-down of what it shares with its parent
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(done.code or 0)


if __name__ == "__main__":
    _serve()
