"""Silences the tracebacks that libraries print beside an error that the command itself reports.

When the disk is full or a checkpoint is damaged, one of many writes or reads raises, and the command reports it. The
others fail in threads, before that or long after, and would print a page of tracebacks. These are recognised by the
modules they come from, not by their text.
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
    """Drops such tracebacks until the process ends, because Python prints some of them only when it collects garbage.

    `sys.unraisablehook` is needed because exceptions in TensorStore's threads have no caller: only this hook can drop
    them.
    """
    logging.getLogger("asyncio").addFilter(_unless_native_task)
    if getattr(sys.unraisablehook, "func", None) is not _unless_loop_is_gone:
        sys.unraisablehook = functools.partial(_unless_loop_is_gone, sys.unraisablehook)


def unless_of_orbax(record: logging.LogRecord) -> bool:
    """A filter that drops what Orbax logs: its exceptions reach `cli.run`, and its logs would fill pages."""
    return "orbax" not in record.pathname


def _unless_native_task(record: logging.LogRecord) -> bool:
    """A filter that drops asyncio's records of failed tasks that were not awaited, if no Python code raised in them."""
    return not (record.exc_info and _frames(record.exc_info[2]) <= {"asyncio.tasks"})


def _unless_loop_is_gone(report: Callable[[Any], None], unraisable: Any) -> None:
    """Drops the exception of a native thread whose result comes after its event loop was closed by another failure."""
    trace = unraisable.exc_traceback
    calls = trace is not None and trace.tb_frame.f_code.co_name == "call_soon_threadsafe"
    if not (calls and _frames(trace) == {"asyncio.base_events"}):
        report(unraisable)


def _frames(trace: TracebackType | None) -> set[str]:
    """The modules whose code an exception went through."""
    return {frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(trace)}
