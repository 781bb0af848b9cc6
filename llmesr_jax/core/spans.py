"""Named spans of time, for who asks where a command's time goes (`launch.benchmark --whole`). Else nobody listens."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

Listener = Callable[[str, float, float], None]

_listeners: list[Listener] = []


@contextlib.contextmanager
def span(name: str) -> Iterator[None]:
    """Tells the listeners when the block began and ended, in seconds of `time.time`, JAX's clock for its own spans."""
    started = time.time()
    try:
        yield
    finally:
        for listener in _listeners:
            listener(name, started, time.time())


@contextlib.contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """The listener gets (name, start, end) of each span that ends within the block, after those inside it."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
