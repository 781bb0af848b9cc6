"""Signals: heard at a good place, and raised even where Python swallows them."""

import gc
import signal
import sys
import threading
import time

import pytest

from launch.signals import Signals, interruptible

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


@pytest.fixture(autouse=True)
def as_before():
    before = [signal.getsignal(number) for number in SIGNALS], sys.unraisablehook
    yield
    assert ([signal.getsignal(number) for number in SIGNALS], sys.unraisablehook) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_is_heard_and_the_second_raises(number, capfd):
    with Signals() as signals, pytest.raises(KeyboardInterrupt), signals.stop.gracefully("stopping soon"):
        signals.stop.check()
        signal.raise_signal(number)
        assert signals.stop.requested and not signals.raised
        with pytest.raises(KeyboardInterrupt):
            signals.stop.check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        assert signals.raised
    assert capfd.readouterr().out == "\nstopping soon; a second signal stops at once\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_where_nothing_looks_each_raises(number, capfd):
    with Signals() as signals:
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(number)
    assert signals.raised and not signals.stop.requested
    assert capfd.readouterr() == ("", "")


def test_in_another_thread_nothing_is_heard():
    def hear(before=(signal.getsignal(signal.SIGINT), sys.unraisablehook)):
        with Signals():
            same.append((signal.getsignal(signal.SIGINT), sys.unraisablehook) == before)

    same = []
    thread = threading.Thread(target=hear)
    thread.start()
    thread.join()
    assert same == [True]


def _wait():
    deadline = time.monotonic() + 5.0
    while time.monotonic() < deadline:
        time.sleep(0.001)


class Dying:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)


def _collect(*_):
    signal.raise_signal(signal.SIGINT)
    gc.callbacks.remove(_collect)


def test_what_a_callback_swallows_comes_again(capfd):
    with pytest.raises(KeyboardInterrupt), Signals() as signals:
        Dying()
        _wait()
    assert signals.raised
    gc.callbacks.append(_collect)
    try:
        with pytest.raises(KeyboardInterrupt), Signals():
            gc.collect()
            _wait()
    finally:
        gc.callbacks[:] = [callback for callback in gc.callbacks if callback is not _collect]
    assert capfd.readouterr().err == ""


def test_what_is_swallowed_twice_where_work_looks_comes_again(capfd):
    with pytest.raises(KeyboardInterrupt), Signals() as signals, signals.stop.gracefully("stopping soon"):
        Dying()
        assert signals.stop.requested and not signals.raised
        Dying()
        _wait()
    assert signals.raised and capfd.readouterr() == ("\nstopping soon; a second signal stops at once\n", "")


def test_what_would_come_again_comes_at_the_end_of_the_block_and_not_after_it(capfd):
    with pytest.raises(KeyboardInterrupt), Signals():
        Dying()
    with pytest.raises(ValueError, match="of interest"), Signals():
        Dying()
        raise ValueError("of interest")
    time.sleep(0.05)  # by default, the timer's signal ends the process
    assert capfd.readouterr().err == ""


def test_other_errors_that_are_swallowed_are_told_as_ever(monkeypatch):
    class Failing:
        def __del__(self):
            raise ValueError("of no interest")

    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda error: told.append(str(error.exc_value)))
    with Signals():
        Failing()
    assert told == ["of no interest"]
    monkeypatch.undo()


def test_whatever_native_code_makes_of_an_interrupt_a_command_ends_by_it():
    def main(argv, stop):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise SystemError("returned a result with an exception set") from error

    def failing(argv, stop):
        raise ValueError(argv)

    with pytest.raises(KeyboardInterrupt):
        interruptible(main)(["command"])
    with pytest.raises(ValueError, match="command"):
        interruptible(failing)(["command"])
