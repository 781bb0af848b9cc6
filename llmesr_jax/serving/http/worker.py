"""A thread that computes answers: requests that arrive while a batch is computed form the next batch.

The event loop adds work, one future each, and gets the results of a whole batch by one callback.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

MOST_AT_ONCE = 64


class Overloaded(Exception):
    """Too many requests are waiting, or the answer would come after the deadline."""


class _Work(NamedTuple):
    """One request's work: `run` takes the payloads of all requests with an equal `key` together; key None: alone."""

    key: Hashable
    run: Callable[[list[Any]], Sequence[Any]]
    payload: Any
    future: asyncio.Future


class Worker:
    """A thread and its queue.

    Args:
      name: of the thread.
      most_waiting: work beyond this is refused.
      deadline: seconds after which a request is answered with `Overloaded`; its work does not start after that.
      done: is called with (number of requests, seconds) of each batch, in the thread.
    """

    def __init__(
        self, name: str, most_waiting: int, deadline: float, done: Callable[[int, float], None] = lambda n, s: None
    ):
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._most, self._deadline, self._done = most_waiting, deadline, done
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of waiting requests."""
        return self._queue.qsize()

    def end(self) -> float:
        """When the deadline of a request that comes now passes, on the clock of the running loop."""
        return asyncio.get_running_loop().time() + self._deadline

    async def ask(
        self,
        key: Hashable,
        run: Callable[[list[Any]], Sequence[Any]],
        payload: Any,
        until: float | None = None,
    ) -> Any:
        """The result for one payload.

        Args:
          key: payloads of equal keys may go through `run` together, up to `MOST_AT_ONCE`; None for alone.
          run: payloads -> results, in the same order; called in the thread.
          until: of `end`, for a request that asks more than once; None: the deadline begins now.
        Raises:
          Overloaded: too many requests are waiting, or the deadline has passed.
          Exception: what `run` raised.
        """
        if self._queue.qsize() >= self._most:
            raise Overloaded(f"{self._most:,} requests are waiting")
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        timer = loop.call_at(self.end() if until is None else until, self._expire, future)
        self._queue.put(_Work(key, run, payload, future))
        try:
            return await future
        finally:
            timer.cancel()

    def _expire(self, future: asyncio.Future) -> None:
        if not future.done():
            future.set_exception(Overloaded(f"no answer within {self._deadline:g} seconds"))

    def close(self) -> None:
        """Ends the thread, after the waiting work is done."""
        self._queue.put(None)
        self._thread.join(timeout=30)

    def _work(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                return
            taken, last = [first], False
            while len(taken) < MOST_AT_ONCE:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    last = True
                    break
                taken.append(more)
            self._batch(taken)
            if last:
                return

    def _batch(self, taken: list[_Work]) -> None:
        groups: dict[Hashable, list[_Work]] = {}
        for work in taken:
            if not work.future.done():  # it is done if the deadline has passed or the client has gone
                groups.setdefault(object() if work.key is None else work.key, []).append(work)
        for group in groups.values():
            started = time.perf_counter()
            try:
                results = group[0].run([work.payload for work in group])
            except BaseException as error:  # reported by the requests
                results = [error] * len(group)
            self._done(len(group), time.perf_counter() - started)
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop = group[0].future.get_loop()
                loop.call_soon_threadsafe(_deliver, group, results)


def _deliver(group: list[_Work], results: Sequence[Any]) -> None:
    for work, result in zip(group, results, strict=True):
        if work.future.done():
            continue
        if isinstance(result, BaseException):
            work.future.set_exception(result)
        else:
            work.future.set_result(result)
