"""Work is told to stop by a flag, and knows no signals."""

import threading

import pytest

from llmesr_jax.core.interrupts import Stop


def test_a_request_is_seen_within_a_block_and_raises_at_its_end():
    stop, ended = Stop(), False
    stop.check()
    with pytest.raises(KeyboardInterrupt), stop.gracefully("stopping soon"):
        stop.check()
        thread = threading.Thread(target=stop.request)
        thread.start()
        thread.join()
        assert stop.requested and stop.said == "stopping soon"
        ended = True
    assert ended and stop.said == ""
    with pytest.raises(KeyboardInterrupt):
        stop.check()


def test_without_a_request_a_block_is_only_a_block():
    stop = Stop()
    with stop.gracefully("stopping soon"):
        with stop.gracefully("stopping at once"):
            assert stop.said == "stopping at once"
        assert stop.said == "stopping soon"
    assert (stop.said, stop.requested) == ("", False)


def test_what_a_block_raises_comes_first():
    stop = Stop()
    with pytest.raises(ValueError, match="of interest"), stop.gracefully("stopping soon"):
        stop.request()
        raise ValueError("of interest")
    assert stop.said == ""
