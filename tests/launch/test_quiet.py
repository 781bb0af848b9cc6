"""What libraries say beside an error that the command reports is dropped, by where it comes from; nothing else is."""

import asyncio
import functools
import gc
import logging
import sys
import threading
from types import SimpleNamespace

import pytest

from launch import quiet


@pytest.fixture(autouse=True)
def told(monkeypatch):
    """Errors that Python could raise nowhere, and reached the hook that was there before."""
    told, logger = [], logging.getLogger("asyncio")
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(str(unraisable.exc_value)))
    before = list(logger.filters)
    quiet.hush()
    quiet.hush()
    assert len(logger.filters) <= len(before) + 1
    yield told
    logger.filters[:] = before


def unraisable(error, skip=0):
    """What Python tells the hook of an error that native code could raise nowhere, `skip` frames of ours left out."""
    trace = error.__traceback__
    for _ in range(skip):
        trace = trace.tb_next
    return SimpleNamespace(exc_type=type(error), exc_value=error, exc_traceback=trace, err_msg=None, object=None)


def closed_loop_error():
    loop = asyncio.new_event_loop()
    loop.close()
    try:
        loop.call_soon_threadsafe(print)
    except RuntimeError as error:
        return error


def test_what_a_native_thread_says_to_a_loop_that_has_ended_is_dropped(told):
    sys.unraisablehook(unraisable(closed_loop_error(), skip=1))
    assert told == []


def test_everything_else_that_can_be_raised_nowhere_is_told(told):
    sys.unraisablehook(unraisable(closed_loop_error()))  # Python code called the loop
    sys.unraisablehook(unraisable(RuntimeError("Event loop is closed")))
    assert told == ["Event loop is closed"] * 2

    class Failing:
        def __del__(self):
            raise ValueError("of interest")

    Failing()
    assert told[2:] == ["of interest"]


def test_in_a_thread_it_is_the_same(told):
    error = closed_loop_error()
    thread = threading.Thread(target=lambda: sys.unraisablehook(unraisable(error, skip=1)))
    thread.start()
    thread.join()
    assert told == []


class Native:
    """An awaitable that fails in native code, as TensorStore's futures do."""

    def __await__(self):
        return map(int, ["no number"])


class Handed:
    """An awaitable that native code, or a callback, hands an exception that nobody raised."""

    def __await__(self):
        future = asyncio.get_running_loop().create_future()
        future.set_exception(ValueError("no number"))
        yield


async def python():
    int("no number")


def logged(caplog, awaitable):
    """Whether asyncio tells of a task that failed, and that nobody waited for."""
    caplog.clear()
    loop = asyncio.new_event_loop()
    task = asyncio.ensure_future(awaitable, loop=loop)
    loop.run_until_complete(asyncio.sleep(0.001))
    assert task.done()
    del task
    gc.collect()
    loop.close()
    return "exception was never retrieved" in caplog.text


def test_what_asyncio_says_of_native_tasks_beside_the_one_that_failed_is_dropped(caplog):
    logging.getLogger("asyncio").removeFilter(quiet._unless_native_task)
    assert logged(caplog, Native()) and logged(caplog, Handed())
    quiet.hush()
    assert not logged(caplog, Native()) and not logged(caplog, Handed())
    assert logged(caplog, python())
    logging.getLogger("asyncio").error("Executing <Task ...> took 9 seconds")
    assert "took 9 seconds" in caplog.text


@pytest.mark.parametrize(("path", "passes"), [("/x/orbax/checkpoint/a.py", False), ("/x/llmesr_jax/a.py", True)])
def test_what_orbax_logs_is_dropped(path, passes):
    record = logging.LogRecord("absl", logging.ERROR, path, 1, "failed", None, None)
    assert quiet.unless_of_orbax(record) == passes


def test_the_hook_is_put_once():
    once = sys.unraisablehook
    quiet.hush()
    assert sys.unraisablehook is once and isinstance(once, functools.partial)
