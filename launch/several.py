"""Trains one run in several processes: each joins the others, or one command starts and monitors all of them."""

import contextlib
import dataclasses
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time

from llmesr_jax.core.errors import TrainingError
from llmesr_jax.core.knobs import knob

from . import peers, signals

_GRACE = 10  # seconds in which the other processes may end by themselves after one has failed
_LOOK = 0.2  # seconds between two checks of the processes
_WATCHED = "LLMESR_JAX_WATCHED"  # set for processes that a command monitors, which then reports what happened
_LOST = 3  # exit status of a process that ended because another did


@dataclasses.dataclass(frozen=True)
class Options:
    """In how many processes to train."""

    processes: int = knob(
        1, "number of processes that this command starts on this machine; docs/scale.md has other ways", least=1
    )
    coordinator: str = knob(
        "",
        "host:port of the first of several processes that you start; auto: as Slurm, Kubernetes or Cloud TPU say; "
        "empty: there is one process",
    )
    num_processes: int = knob(0, "with --coordinator=host:port: number of processes", least=0)
    process_id: int = knob(-1, "with --coordinator=host:port: number of this process, from 0", least=-1)


@contextlib.contextmanager
def joined(options: Options):
    """A block that this process runs as one of several. Only the first prints; if another process ends, this one ends.

    Raises:
      InputError: the processes did not find each other.
    """
    from llmesr_jax.training import processes

    processes.initialize(options.coordinator, options.num_processes, options.process_id)
    ending = threading.Lock()

    def end(what) -> None:
        ending.acquire()  # a second thread waits here until the first has ended the process
        if _WATCHED not in os.environ:
            print(f"error: {what}", file=sys.stderr, flush=True)
        signals.end_at_once(_LOST)  # JAX would wait for the others

    with contextlib.ExitStack() as stack:
        if options.coordinator and _WATCHED not in os.environ and processes.place()[1] > 1:
            host = options.coordinator.rpartition(":")[0]  # none for `auto`
            lost = lambda index: end(processes.ended(f"process {index} of this run has ended"))  # noqa: E731
            stack.enter_context(peers.watched(processes.place(), host, processes.of_first, lost))
        if not processes.is_first():
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        try:
            yield
        except Exception as error:
            if (what := processes.lost(error)) is None:
                raise
            end(what)


def start(count: int) -> None:
    """Runs this command in `count` processes on this machine; returns when all have ended without an error.

    The output of the first is shown. Signals are passed on to the first, which tells the others.

    Raises:
      TrainingError: a process was killed or failed; the others are ended too.
      SystemExit: the first process has reported an error, or an interrupt after which all have saved.
    """
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    more = ["--processes=1", f"--coordinator=127.0.0.1:{port}", f"--num_processes={count}"]
    with tempfile.TemporaryFile() as unseen:
        children = []
        for place in range(count):
            where = {} if place == 0 else {"stdout": subprocess.DEVNULL, "stderr": unseen}
            # A group of its own: a terminal's Ctrl-C reaches the first through this command alone.
            command = [*sys.orig_argv, *more, f"--process_id={place}"]
            env = {**os.environ, _WATCHED: "1"}
            children.append(subprocess.Popen(command, env=env, start_new_session=True, **where))
        with signals.passed_on(children[0].send_signal):
            bad = _watched(children)
        unseen.seek(0)
        said = [line for line in unseen.read().decode(errors="replace").splitlines() if line.startswith("error: ")]
    if bad is not None:
        _end(bad, count, said[-1].removeprefix("error: ") if said else "")


def _watched(children: list[subprocess.Popen]) -> tuple[int, int] | None:
    """Waits until all have ended. Returns one that failed, and its status; the others are ended soon after it."""
    while any(child.poll() is None for child in children):
        if (bad := _bad(children)) is not None:
            # A process that was killed reports nothing, and the others would wait for it; other errors reach all.
            deadline = time.monotonic() + (_GRACE if bad[1] > 0 else 0)
            while time.monotonic() < deadline and any(child.poll() is None for child in children):
                time.sleep(_LOOK)
            for child in children:
                child.kill()
                child.wait()
            return bad
        time.sleep(_LOOK)
    return _bad(children)


def _bad(children: list[subprocess.Popen]) -> tuple[int, int] | None:
    """Of the processes that have failed, one that was killed, else one that did not end because of another."""
    ended = [(place, child.poll()) for place, child in enumerate(children) if child.poll()]
    return min(ended, key=lambda bad: (bad[1] > 0, bad[1] == _LOST), default=None)


def _end(bad: tuple[int, int], count: int, said: str) -> None:
    """Ends this command after one of its processes failed; `said`: the last error that any but the first printed."""
    place, status = bad
    if status == 130 or (place == 0 and status > 0):  # the first process has reported it
        sys.exit(status)
    how = f"was killed (signal {-status})" if status < 0 else f"ended with status {status}{said and f' ({said})'}"
    raise TrainingError(
        f"process {place} of {count} {how}, and the others were ended; run the same command again to continue from the "
        "last save"
    )
