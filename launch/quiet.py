"""Silences what libraries print beside an error that the command itself reports.

When the disk is full or a checkpoint is damaged, one of many writes or reads raises, and the command reports it.
The others fail in threads, before that or long after, and would print a page of tracebacks. They are known by where
they come from, not by their words.
"""

from __future__ import annotations

import functools
import logging
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any


def hush() -> None:
    """Drops it until the process ends: Python tells some of it when garbage is collected, which may be at the very end.

    The hook is needed because TensorStore's threads can hand an exception to nobody: `sys.unraisablehook` is the only
    place at which Python lets one pass or drops it.
    """
    logging.getLogger("asyncio").addFilter(_unless_native_task)
    if getattr(sys.unraisablehook, "func", None) is not _unless_loop_is_gone:
        sys.unraisablehook = functools.partial(_unless_loop_is_gone, sys.unraisablehook)


def unless_of_orbax(record: logging.LogRecord) -> bool:
    """Drops what Orbax logs: its exceptions reach `cli.run`, and a full disk would fill a page here."""
    return "orbax" not in record.pathname


def _unless_native_task(record: logging.LogRecord) -> bool:
    """Drops what asyncio logs about a failed task or future that was not awaited, if no Python code raised in it."""
    return not (record.exc_info and _frames(record.exc_info[2]) <= {"asyncio.tasks"})


def _unless_loop_is_gone(report: Callable[[Any], None], unraisable: Any) -> None:
    """Drops what a native thread says that has a result for an event loop that has ended with the one that failed."""
    trace = unraisable.exc_traceback
    calls = trace is not None and trace.tb_frame.f_code.co_name == "call_soon_threadsafe"
    if not (calls and _frames(trace) == {"asyncio.base_events"}):
        report(unraisable)


def _frames(trace: TracebackType | None) -> set[str]:
    """The modules whose code an exception went through."""
    return {frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(trace)}
