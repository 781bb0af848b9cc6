"""What native code writes on stderr is held back, and shown unless it was a panic."""

import os
import sys

import pytest

from llmesr_jax.data import panics


class PanicException(BaseException):
    """Named as the one that polars raises."""


@pytest.mark.parametrize("error", [PanicException, OSError])
def test_the_trace_of_a_panic_is_not_shown(capfd, error):
    with pytest.raises(error), panics.untraced():
        os.write(2, b"thread 'x' panicked at y.rs\nstack backtrace:\n")
        raise error("called `unwrap()`")
    assert capfd.readouterr().err == ""
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_everything_else_is(capfd, error):
    if error is None:
        with panics.untraced():
            os.write(2, b"native\n")
            print("python", file=sys.stderr)
    else:
        with pytest.raises(error), panics.untraced():
            os.write(2, b"native\n")
            print("python", file=sys.stderr)
            raise error
    assert sorted(capfd.readouterr().err.splitlines()) == ["native", "python"]


def test_only_panics_are_panics():
    assert panics.is_panic(PanicException()) and not panics.is_panic(ValueError())


def test_without_a_stderr(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with panics.untraced():
        ran = True
    assert ran and sys.stderr is None
