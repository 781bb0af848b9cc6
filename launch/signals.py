"""SIGINT and SIGTERM: how a command stops.

Python raises KeyboardInterrupt wherever the program happens to be. Within a callback, such as JAX's at every garbage
collection, or within a `__del__`, it is only printed, and the program continues, and continues spending. So costly work
checks a flag (`Stop`), and elsewhere an interrupt that was swallowed is raised again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llmesr_jax.core.interrupts import Stop

_AGAIN = 0.02  # seconds until a swallowed interrupt comes again: by then, the callback is left
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_HAS_TIMER = hasattr(signal, "setitimer")  # not so on Windows


def leave_at_once() -> None:
    """Ends the process at the next signal, with one line and status 130: while a command starts, and while it ends.

    By `os._exit`, because an exception has no good place then: SystemExit raised amid the imports was dropped in every
    fourth try, by JAX's callback at a garbage collection, and crashed the process in one. When Python tears itself
    down, it prints any exception and goes on. There is nothing to save at either time.
    """
    for number in _SIGNALS:
        signal.signal(number, _leave)


def _leave(*_) -> None:
    os.write(2, b"interrupted\n")
    os._exit(130)


def end_at_once(status: int) -> None:
    """Ends the process without any of the usual cleaning up, which may wait for others."""
    os._exit(status)


@contextlib.contextmanager
def passed_on(hear: Callable[[int], Any]) -> Iterator[None]:
    """SIGINT and SIGTERM in a block are passed on to `hear`, such as a child's `send_signal`, and do nothing here."""
    before = {number: signal.signal(number, lambda given, _: hear(given)) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interruptible(main: Callable[[Sequence[str], Stop], Any]) -> Callable[[Sequence[str]], Any]:
    """`main`, out of which an interrupt comes as KeyboardInterrupt, whatever libraries and native code make of it."""

    def interruptible(argv: Sequence[str]) -> Any:
        with Signals() as signals:
            try:
                return main(argv, signals.stop)
            except Exception as error:
                if signals.raised:
                    raise KeyboardInterrupt from error
                raise

    return interruptible


def hang_ups() -> threading.Event:
    """An event that SIGHUP sets from now on, where the system has that signal: what a command is to read again."""
    found = threading.Event()
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda *_: found.set())
    return found


class Signals(contextlib.AbstractContextManager):
    """Handles SIGINT and SIGTERM in a block, if it runs in the main thread.

    While work checks `stop`, the first signal sets it and prints a line, and the second raises KeyboardInterrupt.
    Elsewhere every signal raises it, again and again if it is swallowed.

    Attributes:
      stop: for the work in the block.
      raised: whether KeyboardInterrupt was raised.
    """

    def __init__(self):
        self.stop, self.raised = Stop(), False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            # Only this hook is told that an exception was swallowed. To raise again without knowing would break into
            # the cleaning up after the first.
            self._hook, sys.unraisablehook = sys.unraisablehook, self._swallowed
            # What the hook raises is swallowed, too. The timer raises a moment later, and ends a call that waits.
            for number in (*_SIGNALS, signal.SIGALRM) if _HAS_TIMER else _SIGNALS:
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, kind, *_) -> None:
        # The timer ends with the block, as by default its signal ends the process.
        due = self._before and _HAS_TIMER and signal.setitimer(signal.ITIMER_REAL, 0)[0]
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if sys.unraisablehook == self._swallowed:  # else another has been put on top of it, and stays
            sys.unraisablehook = self._hook
        if due and kind is None:
            raise KeyboardInterrupt

    def _hear(self, *_) -> None:
        if not self.stop.said or self.stop.requested:
            self.raised = True
            raise KeyboardInterrupt
        self.stop.request()
        with contextlib.suppress(OSError):  # nobody listens
            os.write(
                1, f"\n{self.stop.said}; a second signal stops at once\n".encode()
            )  # a signal may come amid a print

    def _swallowed(self, unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._hook(unraisable)
        elif _HAS_TIMER:
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)
