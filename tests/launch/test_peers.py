"""Processes that see each other end; here each is a thread, and an error ends its connections."""

import queue
import threading

import pytest

from launch import peers


class Three:
    """Three processes in their blocks."""

    def __init__(self):
        self.told, self._shared = queue.Queue(), queue.Queue()
        self._leave, self._ready = [queue.Queue() for _ in range(3)], threading.Barrier(4)
        self._threads = [threading.Thread(target=self._process, args=(index,), daemon=True) for index in range(3)]
        for thread in self._threads:
            thread.start()
        self._ready.wait(10)

    def leave(self, index, error=None):
        self._leave[index].put(error)
        self._threads[index].join(10)

    def _process(self, index):
        tell = lambda lost: self.told.put((index, lost))  # noqa: E731
        try:
            with peers.watched((index, 3), "localhost", self._share, tell):
                self._ready.wait(10)
                if (error := self._leave[index].get(timeout=30)) is not None:
                    raise error
        except (OSError, KeyboardInterrupt):
            pass

    def _share(self, make):
        if text := make():
            for _ in range(2):
                self._shared.put(text)
            return text
        return self._shared.get(timeout=10)


@pytest.fixture
def three(monkeypatch):
    monkeypatch.setattr(peers, "_GRACE", 0)
    made = Three()
    yield made
    for index in range(3):
        made.leave(index)


@pytest.mark.parametrize("error", [None, KeyboardInterrupt()])
def test_nobody_is_told_of_processes_that_end_well(three, error):
    for index in (1, 0, 2):
        three.leave(index, error)
    with pytest.raises(queue.Empty):
        three.told.get(timeout=0.2)


@pytest.mark.parametrize("lost", [0, 1])
def test_the_others_are_told_who_is_lost(three, lost):
    three.leave(lost, OSError())
    others = {0, 1, 2} - {lost}
    assert {three.told.get(timeout=10) for _ in others} == {(index, lost) for index in others}


def test_without_a_connection_a_process_goes_on(monkeypatch):
    """As behind a firewall."""
    entered = []
    with peers.watched((1, 2), "localhost", lambda make: "localhost 1 token", entered.append):
        entered.append("block")
    assert entered == ["block"]
