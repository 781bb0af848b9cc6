"""Asking a server again until it gives a usable answer, as its rate limits allow."""

from __future__ import annotations

import asyncio
import collections
import datetime
import email.utils
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, NamedTuple, TypeVar

import numpy as np
from absl import logging

from llmesr_jax.core.errors import ServerError
from llmesr_jax.semantic.encoders import NOTHING
from llmesr_jax.semantic.openai_api import limits
from llmesr_jax.semantic.openai_api.responses import Refused

T = TypeVar("T")
LOOK = 0.2  # seconds of waiting between two looks about

_RETRIED = frozenset({408, 409, 429})  # and all from 500
_FIRST_CONTACT = 3  # attempts to reach a server that never answered: a wrong address is told soon
_SAID = 10.0  # seconds of waiting that are worth a line


def finished(
    runner: asyncio.Runner, coroutine: Coroutine[Any, Any, T]
) -> Generator[tuple[list[bytes], np.ndarray], None, T]:
    """What the coroutine returns; gives `NOTHING` every now and then, so that who waits can look about."""
    task = runner.get_loop().create_task(coroutine)
    try:
        while not runner.run(asyncio.wait({task}, timeout=LOOK))[0]:
            yield NOTHING
    finally:
        leave(runner, {task})
    return task.result()


def leave(runner: asyncio.Runner, tasks: set[asyncio.Task]) -> None:
    """Cancels what is still under way, and waits for its end."""
    if under_way := [task for task in tasks if not task.done()]:
        for task in under_way:
            task.cancel()
        runner.run(asyncio.wait(under_way))


class Patience(NamedTuple):
    """How often and how long a request is tried.

    Attributes:
      attempts: in all.
      first_wait: seconds before the second attempt; they double from one to the next, less up to a half by chance.
      longest_wait: seconds, also where the server asks for more.
    """

    attempts: int
    first_wait: float
    longest_wait: float


class Session:
    """Calls to one server through an `openai.AsyncOpenAI`, which must not retry by itself.

    Attributes:
      client: the client.
      retries: reason -> requests that were asked again for it.
      stopping: nothing more is to be sent.
    """

    def __init__(self, client: Any, patience: Patience, server: str, secret: str):
        self.client, self.retries = client, collections.Counter()
        self._patience, self._server, self._secret = patience, server, secret
        self._answered, self._not_before = False, 0.0
        self.stopping, self._resting = False, set()

    def stop(self) -> None:
        """Sends nothing more: what is under way may end, what waits for its turn to be sent again is cancelled."""
        self.stopping = True
        for task in self._resting:
            task.cancel()

    async def ask(self, call: Callable[[Any], Awaitable[T]]) -> T:
        """What `call(client)` returns, once it does so without an error that may pass.

        Raises:
          ServerError: the server refuses for good, was asked as often as allowed, or wants a valid key or credit.
          TooMuch: it refuses a request of this size.
          CancelledError: after `stop`, where it would have to be asked again.
        """
        for attempt in range(1, self._patience.attempts + 1):
            while (wait := self._not_before - time.monotonic()) > 0:
                await self._rest(wait)
            try:
                result = await call(self.client)
            except Exception as error:
                reason, asked_for = self._passing(error)
            else:
                self._answered = True
                return result
            if attempt == self._patience.attempts or (not self._answered and attempt == _FIRST_CONTACT):
                break
            if self.stopping:
                raise asyncio.CancelledError
            self.retries[reason] += 1
            await self._wait(attempt, reason, asked_for)
        raise ServerError(f"{self._server}: no usable answer in {attempt} attempts; the last: {reason}", passing=True)

    async def _wait(self, attempt: int, reason: str, asked_for: float | None) -> None:
        longest = self._patience.longest_wait
        wait = min(longest, self._patience.first_wait * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)
        if asked_for is not None:
            wait = min(longest, asked_for) + random.uniform(0.0, 0.1) * wait
            self._not_before = max(self._not_before, time.monotonic() + wait)  # holds for all requests
        if wait >= _SAID:
            logging.warning("%s: %s; asking again in %.0f s", self._server, reason, wait)
        await self._rest(wait)

    async def _rest(self, seconds: float) -> None:
        task = asyncio.current_task()
        self._resting.add(task)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._resting.discard(task)

    def _passing(self, error: Exception) -> tuple[str, float | None]:
        """Reason and seconds that the server asks for, of an error that may pass; raises `ServerError` for another."""
        import openai

        if isinstance(error, Refused):
            self._answered = True
            return str(error), None
        if isinstance(error, openai.APITimeoutError):
            return "no answer in time", None
        if isinstance(error, openai.APIStatusError):
            self._answered = True
            if limits.is_too_much(error.status_code, sentence := _sentence(error)):
                reason = f"status {error.status_code} ({self._shown(sentence)})"
                raise limits.TooMuch(f"{self._server}: {reason}", sentence) from None
            if error.status_code in _RETRIED or error.status_code >= 500:
                if "insufficient_quota" not in (error.code, error.type):
                    said = self._said(error)
                    reason = f"status {error.status_code}" + (f" ({said})" if said else "")
                    return reason, _retry_after(error.response.headers)
            message = f"{self._server}: {self._for_good(error)}"
            raise ServerError(message, passing=error.status_code in (401, 429)) from None  # its request holds the key
        if isinstance(error, openai.APIConnectionError):
            return f"no connection ({type(error.__cause__).__name__})", None
        if isinstance(error, openai.APIResponseValidationError):
            return "the answer is not JSON", None
        raise error

    def _said(self, error: Any) -> str:
        """The server's own message, if it is one."""
        return self._shown(error.body.get("message") or "") if isinstance(error.body, dict) else ""

    def _shown(self, text: Any) -> str:
        """On one line, without the key."""
        line = " ".join(str(text).split())
        return (line.replace(self._secret, "[key]") if self._secret else line)[:200]

    def _for_good(self, error: Any) -> str:
        """What is wrong and what to do about it."""
        if error.status_code == 429:
            return "the account has no credit left (insufficient_quota); add some"
        if error.status_code == 401:
            return "status 401, the key is refused; set OPENAI_API_KEY to a valid key of this server"
        said = self._said(error) or self._shown(error.message)
        if error.status_code == 404:
            return f"status 404 ({said}); check --model and --base_url (which ends in /v1 for most servers)"
        if error.status_code in (400, 413, 422):
            return (
                f"status {error.status_code} ({said}); check --model and --dimensions; where a text or a request is "
                "too long, lower --max_tokens, --batch_size or --request_tokens"
            )
        return f"status {error.status_code} ({said})"


def _sentence(error: Any) -> str:
    """What a server says of its refusal, in whichever field of its answer."""
    body = error.body
    if isinstance(body, dict):
        body = next((body[name] for name in ("message", "error", "detail") if body.get(name)), "")
    return " ".join(str(body or error.message).split())


def _retry_after(headers: Any) -> float | None:
    """Seconds: of `retry-after-ms`, or of `retry-after`, which is seconds or a date; None if there is neither."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * unit)
        except (KeyError, ValueError):
            continue
    try:
        date = email.utils.parsedate_to_datetime(headers["retry-after"])
    except (KeyError, ValueError, TypeError):
        return None
    date = date if date.tzinfo else date.replace(tzinfo=datetime.UTC)
    return max(0.0, (date - datetime.datetime.now(datetime.UTC)).total_seconds())
