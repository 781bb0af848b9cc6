"""Stops a command on SIGINT and SIGTERM.

Python raises KeyboardInterrupt at whatever point the program has reached. Within a callback, such as JAX's at every
garbage collection, or within a `__del__`, the exception is only printed, and the program continues, and continues
spending. So costly work checks a flag (`Stop`), and elsewhere an interrupt that was swallowed is raised again.
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

_AGAIN = 0.02  # seconds until a swallowed interrupt is raised again: by then, the callback has ended
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_HAS_TIMER = hasattr(signal, "setitimer")  # Windows has none


def leave_at_once() -> None:
    """Ends the process at the next signal, with one line and status 130; for the time when a command starts or ends.

    It calls `os._exit`, because nothing handles an exception then: SystemExit raised during the imports was dropped in
    every fourth try, by JAX's callback at a garbage collection, and crashed the process in one. At its exit, Python
    prints any exception and continues. There is nothing to save at either time.
    """
    for number in _SIGNALS:
        signal.signal(number, _leave)


def _leave(*_) -> None:
    os.write(2, b"interrupted\n")
    os._exit(130)


def end_at_once(status: int) -> None:
    """Ends the process without Python's usual cleaning up, which may wait for other processes."""
    os._exit(status)


@contextlib.contextmanager
def passed_on(hear: Callable[[int], Any]) -> Iterator[None]:
    """A block in which SIGINT and SIGTERM only call `hear` with their number; it may be a child's `send_signal`."""
    before = {number: signal.signal(number, lambda given, _: hear(given)) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interruptible(main: Callable[[Sequence[str], Stop], Any]) -> Callable[[Sequence[str]], Any]:
    """`main`, but an interrupt always leaves it as KeyboardInterrupt, whatever a library turns it into."""

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
    """An event that SIGHUP sets from now on, if the system has that signal: then the command reads its files again."""
    found = threading.Event()
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda *_: found.set())
    return found


class Signals(contextlib.AbstractContextManager):
    """Handles SIGINT and SIGTERM in a block, if it runs in the main thread.

    While work checks `stop`, the first signal sets it and prints a line, and the second raises KeyboardInterrupt. At
    other times every signal raises KeyboardInterrupt, again and again if it is swallowed.

    Attributes:
      stop: for the work in the block.
      raised: whether KeyboardInterrupt was raised.
    """

    def __init__(self):
        self.stop, self.raised = Stop(), False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            # Python reports only to this hook that an exception was swallowed. Raising again in any case would disturb
            # the cleaning up after the first exception.
            self._hook, sys.unraisablehook = sys.unraisablehook, self._swallowed
            # An exception that the hook raises is swallowed, too. The timer's signal comes later, even in a blocking
            # call.
            for number in (*_SIGNALS, signal.SIGALRM) if _HAS_TIMER else _SIGNALS:
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, kind, *_) -> None:
        # The timer must end with the block, because outside it its signal ends the process.
        due = self._before and _HAS_TIMER and signal.setitimer(signal.ITIMER_REAL, 0)[0]
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if sys.unraisablehook == self._swallowed:  # else another hook was set after it, and stays
            sys.unraisablehook = self._hook
        if due and kind is None:
            raise KeyboardInterrupt

    def _hear(self, *_) -> None:
        if not self.stop.said or self.stop.requested:
            self.raised = True
            raise KeyboardInterrupt
        self.stop.request()
        line = f"\n{self.stop.said}; a second signal stops at once\n"
        with contextlib.suppress(OSError):  # stdout may be closed
            os.write(1, line.encode())  # not print: the signal may have come during a print

    def _swallowed(self, unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._hook(unraisable)
        elif _HAS_TIMER:
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)
