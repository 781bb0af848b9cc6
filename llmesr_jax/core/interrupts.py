"""SIGINT and SIGTERM: where a command stops, and that it does.

Python raises KeyboardInterrupt wherever the program happens to be. Within a callback, such as JAX's at every garbage
collection, or within a `__del__`, it is only printed, and the program goes on, and on spending. So what costs something
looks at a flag, and elsewhere an interrupt that was swallowed comes again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import Any

_AGAIN = 0.02  # seconds until a swallowed interrupt comes again: by then, the callback is left


class Interrupts(contextlib.AbstractContextManager):
    """Hears SIGINT and SIGTERM in a block, if that runs in the main thread.

    Attributes:
      heard: whether a signal came.
    """

    def __init__(self, said: str = ""):
        """With `said`, the first signal sets `heard` and says so, for the block to look at, and only the second raises
        KeyboardInterrupt. Without, every signal raises it, again and again if it is swallowed."""
        self.heard = False
        self._said = said
        self._signals = [signal.SIGINT, signal.SIGTERM]
        if not said and hasattr(signal, "setitimer"):
            self._signals.append(signal.SIGALRM)
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._hook = sys.unraisablehook
            if not self._said:
                sys.unraisablehook = self._swallowed
            for number in self._signals:
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if sys.unraisablehook == self._swallowed:  # else another has been put on top of it, and stays
            sys.unraisablehook = self._hook

    def check(self) -> None:
        """Raises KeyboardInterrupt if a signal came."""
        if self.heard:
            raise KeyboardInterrupt

    def _hear(self, *_) -> None:
        if self.heard or not self._said:
            self.heard = True
            raise KeyboardInterrupt
        self.heard = True
        with contextlib.suppress(OSError):  # nobody listens
            os.write(1, f"\n{self._said}; once more stops at once\n".encode())  # a signal may come amid a print

    def _swallowed(self, unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._hook(unraisable)
        elif hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)
