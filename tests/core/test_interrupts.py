"""Signals: heard at a good place, and raised even where Python swallows them."""

import gc
import signal
import sys
import time

import pytest

from launch import cli
from llmesr_jax.core.interrupts import Interrupts

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


@pytest.fixture(autouse=True)
def as_before():
    before = [signal.getsignal(number) for number in SIGNALS], sys.unraisablehook
    yield
    assert ([signal.getsignal(number) for number in SIGNALS], sys.unraisablehook) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_is_heard_and_the_second_raises(number, capfd):
    with Interrupts("stopping soon") as interrupts:
        interrupts.check()
        signal.raise_signal(number)
        assert interrupts.heard
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert capfd.readouterr().out == "\nstopping soon; once more stops at once\n"


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
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        Dying()
        _wait()
    assert interrupts.heard
    gc.callbacks.append(_collect)
    try:
        with pytest.raises(KeyboardInterrupt), Interrupts():
            gc.collect()
            _wait()
    finally:
        gc.callbacks[:] = [callback for callback in gc.callbacks if callback is not _collect]
    assert capfd.readouterr().err == ""


def test_other_errors_that_are_swallowed_are_told_as_ever(monkeypatch):
    class Failing:
        def __del__(self):
            raise ValueError("of no interest")

    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda error: told.append(str(error.exc_value)))
    with Interrupts():
        Failing()
    assert told == ["of no interest"]
    monkeypatch.undo()


def test_whatever_native_code_makes_of_an_interrupt_a_command_ends_by_it():
    def main(argv):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise SystemError("returned a result with an exception set") from error

    def failing(argv):
        raise ValueError(argv)

    with pytest.raises(KeyboardInterrupt):
        cli._interruptible(main)(["command"])
    with pytest.raises(ValueError, match="command"):
        cli._interruptible(failing)(["command"])
