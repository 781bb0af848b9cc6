"""SIGINT and SIGTERM, heard where it is safe to stop."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import Any


class Interrupts(contextlib.AbstractContextManager):
    """Hears SIGINT and SIGTERM: the first sets `heard` and says so, the second raises KeyboardInterrupt at once.

    Args:
      said: what the first one prints.
    """

    def __init__(self, said: str):
        self.heard = False
        self._said = said
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._hear) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, *_) -> None:
        if self.heard:
            raise KeyboardInterrupt
        self.heard = True
        # Not print: a signal may arrive in the middle of one.
        os.write(1, f"\n{self._said}; once more stops at once\n".encode())
