"""A panic of native code is an error like any other: one line, without the trace that it writes by itself."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import TextIO

_TRACE = b" panicked at "
_MOST = 2**20  # bytes that are passed on


def is_panic(error: BaseException) -> bool:
    """Whether native code (polars) has given up on something, such as a damaged file; it has no public class."""
    return type(error).__name__ == "PanicException"


@functools.cache
def _stream(terminal: int) -> TextIO:
    """A stream to a copy of this descriptor; never closed, because a logging handler made meanwhile keeps it."""
    return open(os.dup(terminal), "w", buffering=1, errors="backslashreplace")


@contextlib.contextmanager
def untraced() -> Iterator[None]:
    """Holds back what is written on the process's stderr, and passes it on at the end.

    Not so where the block fails and a panic's trace is in it.

    What Python writes on `sys.stderr`, such as progress bars, is seen at once.
    """
    with contextlib.ExitStack() as stack:
        try:
            sys.stderr.flush()
            terminal = os.dup(2)
        except (OSError, AttributeError):  # there is no stderr
            yield
            return
        stack.callback(os.close, terminal)
        kept = stack.enter_context(tempfile.TemporaryFile())
        ours = sys.stderr
        with contextlib.suppress(OSError, ValueError):  # not where sys.stderr is something else already, as in tests
            if ours.fileno() == 2:
                sys.stderr = _stream(terminal)
        os.dup2(kept.fileno(), 2)
        failed = False
        try:
            yield
        except BaseException:
            failed = True
            raise
        finally:
            ours.flush()
            sys.stderr.flush()
            sys.stderr = ours
            os.dup2(terminal, 2)
            kept.seek(0)
            written = kept.read(_MOST)
            # polars makes an ordinary error of some panics, so that only the trace itself tells.
            if not (failed and _TRACE in written):
                with open(2, "wb", closefd=False) as stderr:
                    stderr.write(written)
