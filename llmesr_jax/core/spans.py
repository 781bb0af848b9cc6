"""Named spans of time, which show where a command spends its time (`launch.benchmark --whole`)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

Listener = Callable[[str, float, float], None]

_listeners: list[Listener] = []


@contextlib.contextmanager
def span(name: str) -> Iterator[None]:
    """Reports to the listeners when the block began and ended, in seconds of `time.time`, the clock of JAX's spans."""
    started = time.time()
    try:
        yield
    finally:
        for listener in _listeners:
            listener(name, started, time.time())


@contextlib.contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """The listener gets (name, start, end) of each span that ends within the block, inner spans first."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
