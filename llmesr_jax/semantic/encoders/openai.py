"""Embeddings of OpenAI, or of any server that speaks its API: vLLM, Ollama, llama.cpp, Text Embeddings Inference, ...

    OPENAI_API_KEY=... python -m launch.embed --dataset=fashion --encoder=openai --model=text-embedding-3-small
    python -m launch.embed --dataset=fashion --encoder=openai --model=nomic-embed-text --base_url=http://localhost:11434/v1

A request holds at most 2,048 texts and 300,000 tokens, a text 8,192 tokens (OpenAI's API reference). Where a server
takes less, its refusals tell how much (`openai_api.limits`). The key is read from the environment and goes into the
client, nowhere else.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import ipaddress
import itertools
import os
import re
import urllib.parse
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

import numpy as np

from llmesr_jax.core.errors import InputError, ServerError
from llmesr_jax.core.knobs import knob
from llmesr_jax.semantic.encoders import NOTHING, Cost, Stop, Text, TextEncoder
from llmesr_jax.semantic.openai_api import batch_api, limits, prices, responses, tokens
from llmesr_jax.semantic.openai_api.session import LOOK, Patience, Session, leave

TAKES = "texts"

_OPENAI = "https://api.openai.com/v1"


@dataclasses.dataclass(frozen=True)
class Config:
    model: str = knob("", "name of the model, as its server or library knows it, or the path of its folder")
    base_url: str = knob("", "address of a compatible server; empty: OPENAI_BASE_URL if set, else OpenAI's own")
    dimensions: int = knob(0, "width of the embeddings, for models that can shorten them; 0: the model's own", least=0)
    batch_size: int = knob(512, "texts in one request, or through the model at once", least=1, most=2048)
    request_tokens: int = knob(300_000, "tokens in one request at most", least=1)
    max_tokens: int = knob(8191, "tokens of one text at most, as the server counts them; longer ones are cut", least=1)
    concurrency: int = knob(8, "requests (with --batch_api: batches) under way at once", least=1, most=256)
    timeout: float = knob(120.0, "seconds that a request may take", least=0.01)
    attempts: int = knob(10, "how often a request is tried", least=1)
    first_wait: float = knob(1.0, "seconds before the second attempt; they double from one to the next", least=0)
    longest_wait: float = knob(120.0, "seconds between two attempts at most", least=0)
    encoding: str = knob("base64", "how numbers travel: base64, or float", choices=("base64", "float"))
    batch_api: bool = knob(False, "OpenAI's Batch API: half the price, results within a day")
    poll: float = knob(30.0, "seconds between two looks at a batch", least=0)


def load(config: Config) -> TextEncoder:
    """Makes the client; asks nothing yet.

    Raises:
      InputError: no model is named, or the address is none.
    """
    if not config.model:
        raise InputError("--model is missing; --encoder=openai wants its name, such as text-embedding-3-small")
    address = config.base_url or os.environ.get("OPENAI_BASE_URL") or _OPENAI
    host = _host(address)
    known = prices.MODELS.get(config.model)
    width = config.dimensions or (known.width if known else None)
    sessions: list[Session] = []

    def ready(width: int | None) -> None:
        if config.batch_api and width is None:
            raise InputError(f"--batch_api: the width of {config.model} is not known here; give it with --dimensions")
        _key(host)

    def encode(texts: Iterable[Text], folder: Path, width: int | None) -> Iterator[tuple[list[bytes], np.ndarray]]:
        import openai

        key = _key(host)
        with asyncio.Runner() as runner:
            # Of a server that wants no key, the client still wants one.
            options = {"api_key": key or "none", "base_url": address, "timeout": config.timeout, "max_retries": 0}
            patience = Patience(config.attempts, config.first_wait, config.longest_wait)
            session = Session(openai.AsyncOpenAI(**options), patience, address, key)
            sessions.append(session)
            send = batch_api.send if config.batch_api else _send
            try:
                yield from send(runner, session, texts, folder, width, config)
            finally:
                runner.run(session.client.close())

    def cost(texts: int, likely: float, most: int) -> Cost | None:
        if _is_local(host):
            return None
        if known is None or not host.endswith(".openai.com"):
            return Cost(f"about {likely:,.0f} tokens; what {config.model} costs at {host} is not known here", ask=True)
        price = known.batch_price if config.batch_api else known.price
        return Cost(
            f"about {likely:,.0f} tokens, {_dollars(likely * price / 1e6)} (at most {_dollars(most * price / 1e6)}), "
            f"at ${price} a million as of {prices.AS_OF}",
            ask=True,
        )

    def notes() -> dict[str, str | int | float]:
        return {"requests_asked_again": sum(sum(session.retries.values()) for session in sessions)}

    identity = {"model": config.model, "dimensions": config.dimensions or None}
    exact = known is not None and tokens.vocabulary_is_here()
    by_server = not exact and not config.batch_api
    return TextEncoder(
        identity,
        encode,
        ready=ready,
        source=address,
        width=width,
        clip=tokens.clipper(config.max_tokens, exact, refusable=by_server),
        most_tokens=f"{config.max_tokens}, counted by the server" if by_server else config.max_tokens,
        shortened=limits.shortened,
        cost=cost,
        notes=notes,
    )


def _send(
    runner: asyncio.Runner, session: Session, texts: Iterable[Text], folder: Path, width: int | None, config: Config
) -> Iterator[tuple[list[bytes], np.ndarray]]:
    """The answers as they come; where F is not known, two texts go alone before, whose answers must agree on it: a
    single wrong one must not decide about all others."""
    texts = iter(texts)
    room = limits.Room(folder, config.batch_size, config.max_tokens)
    if width is None and (alone := [[text] for text in itertools.islice(texts, 2)]):
        found = yield from _of_one_width(runner, session, room, alone, config)
        yield from found
        if session.stopping:
            return
        width = found[0][1].shape[1]
    requests = tokens.pack(texts, config.batch_size, config.request_tokens)
    yield from _answers(runner, session, room, requests, width, config)


def _of_one_width(
    runner: asyncio.Runner, session: Session, room: limits.Room, requests: list[list[Text]], config: Config
) -> Generator[tuple[list[bytes], np.ndarray], None, list[tuple[list[bytes], np.ndarray]]]:
    """All answers, once they agree; none where they do not before it is to stop."""
    for _ in range(config.attempts + 1):
        found: list[tuple[list[bytes], np.ndarray]] = []
        yield from _answers(runner, session, room, iter(requests), None, config, held=found)
        widths = sorted({vectors.shape[1] for _, vectors in found})
        if len(widths) == 1 and len(found) == len(requests):
            return found
        if session.stopping:
            return []
    raise ServerError(f"{config.model}: gives another width each time ({widths}); wanted one width")


def _answers(
    runner: asyncio.Runner,
    session: Session,
    room: limits.Room,
    requests: Iterator[list[Text]],
    width: int | None,
    config: Config,
    held: list[tuple[list[bytes], np.ndarray]] | None = None,
) -> Iterator[tuple[list[bytes], np.ndarray]]:
    """Bounded many requests under way; their answers as they come, or put into `held`.

    What the server refuses for its size is sent again in parts, or shortened, before anything new.

    After `Stop`, nothing more is sent, and what is under way is waited for.
    """
    waiting, failure = set(), None
    again: collections.deque[list[Text]] = collections.deque()

    async def embed(request: list[Text]) -> tuple[list[bytes], np.ndarray]:
        try:
            vectors = await session.ask(lambda client: _request(client, request, width, config))
        except limits.TooMuch as refusal:
            again.extendleft(reversed(room.less(request, refusal)))
            return NOTHING
        room.taken(request)
        return [text.key for text in request], vectors

    try:
        while True:
            while failure is None and not session.stopping and len(waiting) < config.concurrency:
                if not again:
                    again.extend(room.split(next(requests, [])))
                if not again:
                    break
                request, *more = room.split(again.popleft())
                again.extendleft(reversed(more))
                waiting.add(runner.get_loop().create_task(embed(request)))
            if not waiting:
                break
            done, waiting = runner.run(asyncio.wait(waiting, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED))
            ended = [task for task in done if not task.cancelled()]
            failure = failure or next((error for task in ended if (error := task.exception())), None)
            # Also beside a failure: paid for.
            answers = [task.result() for task in ended if not task.exception() and task.result()[0]]
            if held is not None:
                held += answers
                answers = []
            for answer in answers or [NOTHING]:
                try:
                    yield answer
                except Stop:
                    session.stop()
    finally:
        leave(runner, waiting)
    if failure is not None and not session.stopping:
        raise failure


async def _request(client, request: list[Text], width: int | None, config: Config) -> np.ndarray:
    """(len(request), F): the answer as it came, which `responses` reads more strictly than the client would."""
    answer = await client.embeddings.with_raw_response.create(**batch_api.body(request, config))
    return responses.parse(answer.content, len(request), width)


def _dollars(price: float) -> str:
    return f"${price:,.2f}" if price >= 0.01 else "less than a cent"


def _host(address: str) -> str:
    parts = urllib.parse.urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"--base_url={address}: not an address; wanted one such as http://localhost:8000/v1")
    if parts.username or parts.password or parts.query:
        raise InputError("--base_url: holds more than an address (a password, a '?'); the key goes into OPENAI_API_KEY")
    return parts.hostname


def _key(host: str) -> str:
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key and host.endswith(".openai.com"):
        raise InputError("OPENAI_API_KEY is not set; export it with your key, or name another server with --base_url")
    if not re.fullmatch("[!-~]*", key):
        raise InputError("OPENAI_API_KEY: holds a space or a sign that no key has; set it again")
    return key


def _is_local(host: str) -> bool:
    """This machine, or a private network."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost" or "." not in host or host.endswith((".local", ".localhost", ".internal"))
