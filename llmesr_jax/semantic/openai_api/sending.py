"""Sends texts to the embeddings API in many concurrent requests, and handles each request that fails.

The first text is sent alone, so that a server that refuses everything refuses one request. (If the width is not known,
texts are sent alone until two answers agree on it.) After that, a request that fails for a reason that may lie in its
texts is cut in halves, down to the texts that fail alone. These fail with that reason, and all others are embedded. To
find out whether the texts are the reason, one plain word is sent: a server that fails on that, too, fails on
everything.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import re
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from llmesr_jax.core.errors import ServerError
from llmesr_jax.semantic.encoders import NOTHING, Answer, Stop, Text
from llmesr_jax.semantic.openai_api import limits, responses, tokens
from llmesr_jax.semantic.openai_api.failures import Failure, Kind
from llmesr_jax.semantic.openai_api.session import LOOK, Session, leave
from llmesr_jax.semantic.vector_checks import plain

GRACE = 1.5  # seconds to wait for pending answers after the end was requested
_PLAIN = [Text(b"", word, 1) for word in ("text", "seven", "house")]
_ALONE = 2  # times that a text is sent alone before it fails
_ALL_THE_SAME = 3  # number of different texts from which on one vector for all is a failure
_ENCODING = re.compile("encoding|base64", re.IGNORECASE)
_SERVER = "check the server's log and its model"


class Job(NamedTuple):
    """Texts for one request.

    Attributes:
      texts: of the request.
      tries: number of times that this request was sent.
      failed: number of requests with these texts that failed for a reason that may lie in the texts.
      by_row: whether the texts had unusable rows in an answer with usable ones.
    """

    texts: list[Text]
    tries: int = 0
    failed: int = 0
    by_row: bool = False


class Outcome(NamedTuple):
    """The result of a job: an answer, and the jobs to send next in its place."""

    answer: Answer = NOTHING
    parts: tuple[Job, ...] = ()


def body(request: list[Text], config: Any, encoding: str) -> dict[str, Any]:
    """The body of one request, in a batch or alone; `--extra_body` adds fields, and null removes one.

    Args:
      request: its texts.
      config: of the encoder.
      encoding: "base64", "float", or "" to leave the field out.
    """
    fields = {"model": config.model, "input": [text.text for text in request]}
    fields |= {"encoding_format": encoding} if encoding else {}
    fields |= {"dimensions": config.dimensions} if config.dimensions else {}
    return {name: value for name, value in (fields | config.extra).items() if value is not None}


class Sender:
    """Sends texts through a session; the module's docstring describes how.

    Attributes:
      width: F; None until it is known.
      encoding: of the numbers in answers, as of `body`.
    """

    def __init__(self, runner: asyncio.Runner, session: Session, room: limits.Room, width: int | None, config: Any):
        self._runner, self._session, self._room, self._config = runner, session, room, config
        self.width, self.encoding = width, config.encoding
        self._limit, self._settled, self._asking = config.concurrency, False, asyncio.Lock()
        self._again: collections.deque[Job] = collections.deque()
        self._held: list[Answer] = []  # until the width is known

    def run(self, texts: Iterable[Text]) -> Iterator[Answer]:
        """The answers as they arrive.

        After `Stop`, nothing more is sent, and pending answers are waited for briefly.
        """
        session, waiting, failure, until = self._session, set(), None, float("inf")
        texts = iter(texts)
        requests = tokens.pack(texts, self._config.batch_size, self._config.request_tokens)
        try:
            while True:
                while not session.stopping and len(waiting) < self._at_once():
                    if (job := self._next(texts, requests)) is None:
                        break
                    waiting.add(self._runner.get_loop().create_task(self._attend(job)))
                if not waiting:
                    break
                done, waiting = self._runner.run(
                    asyncio.wait(waiting, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED)
                )
                ended = [task for task in done if not task.cancelled()]
                if failure is None and (errors := [error for task in ended if (error := task.exception())]):
                    failure = errors[0]
                    session.stop()  # cancels retries; requests that were sent are paid for, so their answers are kept
                answers = []
                for task in ended:
                    if not task.exception():
                        self._again.extendleft(reversed(task.result().parts))
                        answers += self._agreed(task.result().answer)
                for answer in answers or [NOTHING]:
                    try:
                        yield answer
                    except Stop:
                        session.stop()
                        until = time.monotonic() + GRACE
                if time.monotonic() > until:
                    break
            yield from self._left()
        finally:
            leave(self._runner, waiting)
        if failure is not None and until == float("inf"):  # else the end was requested
            raise failure

    def _at_once(self) -> int:
        return self._limit if self._session.answered and self.width is not None else 1

    def _next(self, texts: Iterator[Text], requests: Iterator[list[Text]]) -> Job | None:
        """The next job to send; None if nothing is left."""
        if not self._again:
            if self._session.answered and self.width is not None:
                self._again.extend(Job(part) for part in self._room.split(next(requests, [])))
            else:
                self._again.extend(Job([text]) for text in itertools.islice(texts, 1))
        if not self._again:
            return None
        job = self._again.popleft()
        first, *more = (job._replace(texts=part) for part in self._room.split(job.texts))
        self._again.extendleft(reversed(more))
        return first

    def _agreed(self, answer: Answer) -> list[Answer]:
        """The answers that can be used now that this one has come.

        Until two answers agree on the width, they are held back: a single wrong answer must not decide it.
        """
        if self.width is not None or not answer.keys:
            return [answer] if answer.keys or answer.failed else []
        self._held.append(answer)
        widths = [held.vectors.shape[1] for held in self._held]
        if len(widths) < 2:
            return []
        found = collections.Counter(widths).most_common(1)[0]
        if found[1] < 2:
            if len(widths) > self._config.attempts:
                raise ServerError(
                    f"{self._config.model}: returns another width each time ({sorted(widths)}); expected one width; "
                    "check the server and its model"
                )
            return []
        self.width, held, self._held = found[0], self._held, []
        wrong = [key for one in held if one.vectors.shape[1] != self.width for key in one.keys]
        if wrong:
            logging.info("%s: %d answers of another width are left out", self._session.server, len(wrong))
        return [one for one in held if one.vectors.shape[1] == self.width]

    def _left(self) -> list[Answer]:
        """The answers that are still held back at the end: that of a single text, or those of a stopped run."""
        widths = sorted({held.vectors.shape[1] for held in self._held})
        if len(widths) > 1 and not self._session.stopping:
            raise ServerError(
                f"{self._config.model}: returns another width each time ({widths}); expected one width; check the "
                "server and its model"
            )
        return self._held if len(widths) == 1 else []

    async def _attend(self, job: Job) -> Outcome:
        """Sends a job until it is answered, is cut into parts, or fails.

        Raises:
          ServerError: the server fails on every request.
        """
        while True:
            answered, encoding = self._session.answered, self.encoding
            try:
                vectors = await self._once(job.texts)
            except Failure as failure:
                job = job._replace(tries=job.tries + 1)
                if failure.kind is Kind.SIZE:
                    try:
                        parts = self._room.less(job.texts, limits.TooMuch(failure.reason, failure.said))
                        return Outcome(parts=tuple(job._replace(texts=part, tries=0) for part in parts))
                    except ServerError as error:  # it refuses even a few characters
                        failure = Failure(Kind.REFUSED, str(error))
                job, outcome = await self._after(job, failure, answered, encoding)
                if outcome is not None:
                    return outcome
            else:
                return self._outcome(job, vectors)

    async def _after(self, job: Job, failure: Failure, answered: int, encoding: str) -> tuple[Job, Outcome | None]:
        """Decides what follows from a failure, if necessary after a wait; no outcome if the job must be sent again.

        Args:
          answered: number of answers that the session had when the job was sent.
          encoding: with which it was sent.

        Raises:
          ServerError: the server fails on every request.
        """
        if failure.timed_out:
            self._limit = max(1, self._limit // 2)  # there may have been too many requests at once
        if failure.kind is Kind.STOP:
            raise self._session.error(failure)
        if failure.kind is Kind.WAIT:
            await self._session.wait(failure, job.tries)
            return job, None
        job = job._replace(failed=job.failed + 1)
        once_more = job.failed == 1 and failure.kind in (Kind.BROKEN, Kind.UNUSABLE)
        if once_more:
            await self._session.wait(failure, job.tries)
        # A request that broke is first sent again; an unusable answer is first compared with the answer to a word.
        if not (once_more and failure.kind is Kind.BROKEN) and self._session.answered == answered:
            if not await self._answers_a_word(failure, answered):
                await self._session.wait(failure, job.tries)
                return job, None
        if once_more:
            return job, None
        if self.encoding != encoding:
            logging.info(
                "%s: %s; requesting numbers as %s", self._session.server, failure.reason, self.encoding or "by default"
            )
            return job, None
        if len(job.texts) > 1 and not (job.by_row and failure.rows):
            half = len(job.texts) // 2
            halves = (job._replace(texts=part, tries=0) for part in (job.texts[:half], job.texts[half:]))
            return job, Outcome(parts=tuple(halves))
        if failure.kind in (Kind.BROKEN, Kind.UNUSABLE) and not failure.rows and job.tries < _ALONE:
            await self._session.wait(failure, job.tries)
            return job, None
        reasons = failure.rows or {0: failure.reason}
        return job, Outcome(Answer([], NOTHING.vectors, {job.texts[row].key: reasons[row] for row in reasons}))

    def _outcome(self, job: Job, vectors: np.ndarray) -> Outcome:
        """The usable rows of an answer; the texts of the other rows are sent once more, and then fail."""
        wrong = responses.unusable_rows(vectors)
        good = [row for row in range(len(job.texts)) if row not in wrong]
        self._room.taken([job.texts[row] for row in good])
        keys = [job.texts[row].key for row in good]
        if not wrong:
            return Outcome(Answer(keys, vectors))
        if job.by_row:
            return Outcome(Answer(keys, vectors[good], {job.texts[row].key: wrong[row] for row in wrong}))
        self._session.retries.update(set(wrong.values()))
        again = Job([job.texts[row] for row in wrong], failed=job.failed + 1, by_row=True)
        return Outcome(Answer(keys, vectors[good]), (again,))

    async def _once(self, request: list[Text]) -> np.ndarray:
        """(len(request), F): an answer in which at least one row can be used.

        Raises:
          Failure: the request failed, or no row can be used.
        """

        async def call(client: Any) -> np.ndarray:
            import httpx

            sent = body(request, self._config, self.encoding)
            # The raw answer, because `responses` checks it more strictly than the client would.
            answer = await client.post("/embeddings", cast_to=httpx.Response, body=sent)
            return responses.parse(answer.content, len(request), self.width)

        vectors = await self._session.once(call)
        wrong = responses.unusable_rows(vectors)
        if len(wrong) == len(request):
            raise Failure(Kind.UNUSABLE, _of_rows(wrong), advice=_SERVER, rows=wrong)
        if len(request) >= _ALL_THE_SAME and (vectors == vectors[0]).all():
            if (different := len({plain(text.text) for text in request})) >= _ALL_THE_SAME:
                raise Failure(Kind.UNUSABLE, f"the same vector for {different:,} different texts", advice=_SERVER)
        self._session.answered += 1
        self._settled = True
        return vectors

    async def _answers_a_word(self, failure: Failure, answered: int) -> bool:
        """Whether the server embeds one plain word; True without asking if there are more than `answered` answers now.

        Some servers refuse base64, so before the first answer the word is sent with other encodings.

        Raises:
          ServerError: the server refuses the word, too, so it would refuse everything.
        """
        async with self._asking:
            if self._session.answered > answered:
                return True
            before = self.encoding
            several = "different texts" in failure.reason  # one word could not show that failure
            found = failure
            for encoding in [before] if self._settled else dict.fromkeys(("float", "")):
                self.encoding = encoding
                try:
                    await self._once(_PLAIN if several else _PLAIN[:1])
                    return True
                except Failure as other:
                    found = other
                    if not _ENCODING.search(other.reason):
                        break
            self.encoding = before
            if found.kind is Kind.STOP:
                raise self._session.error(found)
            if found.kind in (Kind.WAIT, Kind.BROKEN):
                return False
            raise self._session.error(failure if failure.kind is not Kind.BROKEN else found)


def _of_rows(wrong: dict[int, str]) -> str:
    reasons = " or ".join(sorted(set(wrong.values())))
    return reasons if len(wrong) == 1 else f"{reasons} for each of {len(wrong):,} texts"
