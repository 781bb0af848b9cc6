"""Commands run in forks of one process that has the imports behind it: quick, for cases that fail before they compile.

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
    from launch import cli
    from llmesr_jax.training import schema

    schema.sections()
    for line in sys.stdin:
        case = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _run(cli, **case)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _run(cli, module: str, args: list[str], cwd: str, out: str, err: str) -> None:
    os.chdir(cwd)
    for stream, name in ((1, out), (2, err)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.argv = [module, *args]
    command = importlib.import_module(module)
    getattr(command, "define_flags", cli.define_flags)()
    try:
        cli.run(command.main)
    except SystemExit as done:  # leaves without the slow tear-down of what it shares with its parent
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(done.code or 0)


if __name__ == "__main__":
    _serve()
