"""Sends requests to a server, with the retries and waits that its rate limits require."""

from __future__ import annotations

import asyncio
import collections
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, NamedTuple, TypeVar

from absl import logging

from llmesr_jax.core.errors import ServerError
from llmesr_jax.semantic.encoders import NOTHING, Answer
from llmesr_jax.semantic.openai_api import failures
from llmesr_jax.semantic.openai_api.failures import Failure, Kind

T = TypeVar("T")
LOOK = 0.2  # seconds between two checks for a stop

_FIRST_CONTACT = 3  # attempts to reach a server that never answered, so that a wrong address is reported soon
_SAID = 10.0  # seconds from which a wait is reported


def finished(runner: asyncio.Runner, coroutine: Coroutine[Any, Any, T]) -> Generator[Answer, None, T]:
    """Runs a coroutine and returns its result; meanwhile yields `NOTHING`, so that the caller can check for a stop."""
    task = runner.get_loop().create_task(coroutine)
    try:
        while not runner.run(asyncio.wait({task}, timeout=LOOK))[0]:
            yield NOTHING
    finally:
        leave(runner, {task})
    return task.result()


def leave(runner: asyncio.Runner, tasks: set[asyncio.Task]) -> None:
    """Cancels pending tasks, and waits until they have ended."""
    if under_way := [task for task in tasks if not task.done()]:
        for task in under_way:
            task.cancel()
        runner.run(asyncio.wait(under_way))


class Patience(NamedTuple):
    """How often a request is sent, and the waits between attempts.

    Attributes:
      attempts: maximum number of attempts.
      first_wait: seconds before the second attempt; doubled after each further one, and shortened at random by up to a
        half.
      longest_wait: maximum seconds between attempts, even if the server asks for more.
    """

    attempts: int
    first_wait: float
    longest_wait: float


class Session:
    """Calls to one server through an `openai.AsyncOpenAI`, which must not retry by itself.

    Attributes:
      client: the client.
      server: its address, for messages.
      patience: see `Patience`.
      answered: number of usable answers so far.
      retries: reason -> number of requests that were sent again for it.
      stopping: whether nothing more may be sent.
    """

    def __init__(self, client: Any, patience: Patience, server: str, secrets: tuple[str, ...] = ()):
        self.client, self.patience, self.server = client, patience, server
        self.retries, self.answered, self.stopping = collections.Counter(), 0, False
        self._secrets = tuple(filter(None, secrets))
        self._reached, self._not_before, self._resting = False, 0.0, set()

    def stop(self) -> None:
        """Sends nothing more: pending requests may end, and waits for retries are cancelled."""
        self.stopping = True
        for task in self._resting:
            task.cancel()

    async def once(self, call: Callable[[Any], Awaitable[T]]) -> T:
        """The result of `call(client)`, called once, after any time that the server asked to wait.

        Raises:
          Failure: the request failed.
          CancelledError: after `stop`.
        """
        while (wait := self._not_before - time.monotonic()) > 0:
            await self._rest(wait)
        if self.stopping:
            raise asyncio.CancelledError
        try:
            result = await call(self.client)
        except Exception as error:
            failure = failures.of(error, self._secrets)
            if failure is None:
                raise
            self._reached = self._reached or not failure.reason.startswith("no connection") and not failure.timed_out
            raise failure from None  # the error's request holds the key
        self._reached = True
        return result

    async def ask(self, call: Callable[[Any], Awaitable[T]]) -> T:
        """The result of `call(client)`, which is called again after a failure that may pass.

        Raises:
          ServerError: the server refuses the request, or all attempts failed.
          CancelledError: after `stop`.
        """
        attempt = 0
        while True:
            try:
                return await self.once(call)
            except Failure as failure:
                if failure.kind not in (Kind.WAIT, Kind.BROKEN, Kind.UNUSABLE):
                    raise self.error(failure) from None
                attempt += 1
                await self.wait(failure, attempt)

    async def wait(self, failure: Failure, attempt: int) -> None:
        """Waits before the next attempt; `attempt` attempts have failed.

        Raises:
          ServerError: it was the last attempt.
          CancelledError: after `stop`.
        """
        if attempt >= self.patience.attempts or (not self._reached and attempt >= _FIRST_CONTACT):
            reason = f"no usable answer in {attempt} attempts; the last: {failure.reason}"
            raise ServerError(f"{self.server}: {reason}", passing=True)
        self.retries[failure.reason] += 1
        longest = self.patience.longest_wait
        wait = min(longest, self.patience.first_wait * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)
        if failure.wait is not None:
            wait = min(longest, failure.wait) + random.uniform(0.0, 0.1) * wait
            self._not_before = max(self._not_before, time.monotonic() + wait)  # holds for all requests
        if wait >= _SAID:
            logging.warning("%s: %s; trying again in %.0f s", self.server, failure.reason, wait)
        await self._rest(wait)

    def error(self, failure: Failure) -> ServerError:
        """The error that ends a run, for a failure after which no retry can succeed."""
        return ServerError(f"{self.server}: {failure.full}", passing=failure.kind is Kind.STOP)

    async def _rest(self, seconds: float) -> None:
        if self.stopping:
            raise asyncio.CancelledError
        task = asyncio.current_task()
        self._resting.add(task)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._resting.discard(task)
