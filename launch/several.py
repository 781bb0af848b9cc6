"""One run in several processes: each of them joins the others, or one command starts and watches all on this machine."""

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

_GRACE = 10  # seconds that others have to end by themselves once one has ended badly
_LOOK = 0.2  # seconds between two looks at the processes
_WATCHED = "LLMESR_JAX_WATCHED"  # set for processes that a command watches, which then says what happened
_LOST = 3  # status of a process that ended because another did


@dataclasses.dataclass(frozen=True)
class Options:
    """Which processes train."""

    processes: int = knob(
        1, "processes that this command starts on this machine; docs/scale.md has other ways", least=1
    )
    coordinator: str = knob(
        "",
        "host:port of the first of several processes; auto: from Slurm, Kubernetes or Cloud TPU; empty: there is one process",
    )
    num_processes: int = knob(0, "with --coordinator=host:port: how many processes there are", least=0)
    process_id: int = knob(-1, "with --coordinator=host:port: which of them this is, from 0", least=-1)


@contextlib.contextmanager
def joined(options: Options):
    """A block that this process runs as one of several: the first alone prints, and the end of another ends it.

    Raises:
      InputError: the processes did not find each other.
    """
    from llmesr_jax.training import processes

    processes.initialize(options.coordinator, options.num_processes, options.process_id)
    told = threading.Lock()

    def end(what) -> None:
        told.acquire()  # a second thread waits here until the first has ended the process
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
    """This command in so many processes on this machine; returns once all have ended well.

    What the first prints is shown. Signals go to the first, which tells the others.

    Raises:
      TrainingError: one has ended in another way than the others; these are ended too.
      SystemExit: the first has said what is wrong, or that they were interrupted and have saved.
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
    """One that ended badly, and its status, once all have ended; the others are ended soon after it."""
    while any(child.poll() is None for child in children):
        if (bad := _bad(children)) is not None:
            # One that was killed says nothing, and the others would wait for it; other ends come in all of them.
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
    """Of those that have ended badly, one that was killed, else one that did not end because of another."""
    ended = [(place, child.poll()) for place, child in enumerate(children) if child.poll()]
    return min(ended, key=lambda bad: (bad[1] > 0, bad[1] == _LOST), default=None)


def _end(bad: tuple[int, int], count: int, said: str) -> None:
    """The end of this command after one of its processes has ended badly, `said` being what others than the first said."""
    place, status = bad
    if status == 130 or (place == 0 and status > 0):  # the first has said so
        sys.exit(status)
    how = f"was killed (signal {-status})" if status < 0 else f"ended with status {status}{said and f' ({said})'}"
    raise TrainingError(
        f"process {place} of {count} {how}, and the others were ended; run the same command again to continue from the last save"
    )
