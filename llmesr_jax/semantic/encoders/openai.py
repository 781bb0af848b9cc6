"""Embeddings of OpenAI, or of any server with its API: vLLM, Ollama, llama.cpp, Text Embeddings Inference, ...

    OPENAI_API_KEY=... python -m launch.embed --dataset=fashion --encoder=openai --model=text-embedding-3-small
    python -m launch.embed --dataset=fashion --encoder=openai --model=nomic-embed-text --base_url=http://localhost:11434/v1

A request holds at most 2,048 texts and 300,000 tokens, a text 8,192 tokens (OpenAI's API reference). If a server
accepts less, its refusals show how much (`openai_api.limits`). The key is read from the environment and goes into the
client only.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.knobs import knob
from llmesr_jax.semantic.encoders import Answer, Cost, Text, TextEncoder
from llmesr_jax.semantic.openai_api import address as address_lib
from llmesr_jax.semantic.openai_api import batch_api, limits, prices, tokens
from llmesr_jax.semantic.openai_api.sending import Sender
from llmesr_jax.semantic.openai_api.session import Patience, Session

TAKES = "texts"
_KEY_HEADERS = ("authorization", "api-key", "x-api-key", "ocp-apim-subscription-key")


@dataclasses.dataclass(frozen=True)
class Config:
    model: str = knob("", "name of the model in its server or library, or the path of its folder")
    base_url: str = knob("", "address of a compatible server; empty: OPENAI_BASE_URL if set, else OpenAI")
    dimensions: int = knob(0, "width of the embeddings, for models that can shorten them; 0: the model's own", least=0)
    batch_size: int = knob(512, "texts per request, or per pass through the model", least=1, most=2048)
    tokenizer: str = knob(
        "",
        "tokenizer that counts tokens: the model's tokenizer.json, its folder, or cl100k_base, ...; empty: see "
        "docs/embeddings.md",
    )
    request_tokens: int = knob(300_000, "maximum tokens per request", least=1)
    max_tokens: int = knob(8191, "maximum tokens per text; longer texts are cut", least=1)
    concurrency: int = knob(8, "concurrent requests (with --batch_api: batches)", least=1, most=256)
    timeout: float = knob(120.0, "timeout of a request, in seconds", least=0.01)
    attempts: int = knob(10, "maximum attempts per request", least=1)
    first_wait: float = knob(1.0, "seconds before the second attempt; doubled after each further attempt", least=0)
    longest_wait: float = knob(120.0, "maximum seconds between two attempts", least=0)
    encoding: str = knob("base64", "encoding of the numbers: base64 or float", choices=("base64", "float"))
    extra_body: str = knob("", 'extra fields of each request, a JSON object: \'{"input_type": "passage"}\'')
    extra_query: str = knob("", "query string to add to each request, such as api-version=2024-10-21")
    extra_header: str = knob(
        "",
        "header to add to each request, such as 'api-key: $AZURE_OPENAI_API_KEY' (a variable of the environment), or a "
        "JSON object of several",
    )
    batch_api: bool = knob(False, "OpenAI's Batch API: half the price, results within a day")
    poll: float = knob(30.0, "seconds between two checks of a batch", least=0)

    @cached_property
    def extra(self) -> dict[str, Any]:
        """The fields of `extra_body`.

        Raises:
          InputError: it cannot be read.
        """
        return address_lib.extra_body(self.extra_body)


def load(config: Config) -> TextEncoder:
    """Makes the client; sends nothing yet.

    Raises:
      InputError: no model is named, or the address, a flag or the tokenizer cannot be read.
    """
    if not config.model:
        raise InputError(
            "--model is missing; expected a model's name for --encoder=openai, such as text-embedding-3-small"
        )
    server = address_lib.read(config.base_url, config.extra_query, config.extra_header)
    known = prices.MODELS.get(config.model)
    width = config.dimensions or (known.width if known else None)
    sessions: list[Session] = []
    refused: set[bytes] = set()  # texts without a usable answer in a batch; they are then sent outside of batches

    def ready(width: int | None) -> None:
        if config.batch_api and width is None:
            raise InputError(f"--batch_api: the width of {config.model} is not known; set it with --dimensions")
        _key(server)

    def encode(texts: Iterable[Text], folder: Path, width: int | None) -> Iterator[Answer]:
        import openai

        key = _key(server)
        with asyncio.Runner() as runner:
            client = openai.AsyncOpenAI(
                api_key=key or "none",  # the client requires a key, even if the server does not
                base_url=server.url,
                default_query=server.query,
                default_headers=server.headers,
                # If the user sets a header with a key, the client must not send another key.
                http_client=_without_key(server.headers) if server.headers and not key else None,
                timeout=config.timeout,
                max_retries=0,
            )
            patience = Patience(config.attempts, config.first_wait, config.longest_wait)
            session = Session(client, patience, server.url, (key, *server.headers.values(), *server.query.values()))
            sessions.append(session)
            sender = Sender(runner, session, limits.Room(folder, config.batch_size, config.max_tokens), width, config)
            try:
                if config.batch_api:
                    yield from batch_api.send(runner, session, sender, texts, folder, width, config, refused)
                else:
                    yield from sender.run(texts)
            finally:
                runner.run(client.close())

    def cost(texts: int, count: int) -> Cost | None:
        if server.local:
            return None
        counted = f"{count:,} tokens" if counting.exact else f"about {count:,} tokens"
        if known is None or not server.openai:
            return Cost(f"{counted}; the price of {config.model} at {server.host} is not known", ask=True)
        price = known.batch_price if config.batch_api else known.price
        amount = _dollars(count * price / 1e6)
        return Cost(f"{counted}, {amount}, at ${price} per million as of {prices.AS_OF}", ask=True)

    def notes() -> dict[str, Any]:
        asked_again = sum(sum(session.retries.values()) for session in sessions)
        extra = {"extra_query": sorted(server.query), "extra_header": sorted(server.headers)}  # values may be secrets
        cut = {"max_tokens": config.max_tokens, "tokenizer": config.tokenizer}
        return {"requests_asked_again": asked_again, **cut, **{name: names for name, names in extra.items() if names}}

    identity = {"model": config.model, "dimensions": config.dimensions or None}
    if config.extra:
        identity["extra_body"] = json.dumps(config.extra, sort_keys=True, ensure_ascii=False)
    counting = tokens.counting(config.tokenizer, config.max_tokens, of_openai=known is not None)
    return TextEncoder(
        identity,
        encode,
        ready=ready,
        source=server.url,
        width=width,
        clip=counting.clip,
        most_tokens=f"{config.max_tokens}, counted by {counting.by}" if counting.by else config.max_tokens,
        shortened=limits.shortened,
        cost=cost,
        notes=notes,
    )


def _without_key(headers: dict[str, str]) -> Any:
    """An HTTP client that sends no `Authorization`, unless it is among these headers."""
    import openai

    async def drop(request: Any) -> None:
        if not any(name.lower() == "authorization" for name in headers):
            request.headers.pop("Authorization", None)

    return openai.DefaultAsyncHttpxClient(event_hooks={"request": [drop]})


def _dollars(price: float) -> str:
    return f"${price:,.2f}" if price >= 0.01 else "less than a cent"


def _key(server: address_lib.Address) -> str:
    """The key of OPENAI_API_KEY; "" if there is none, or `--extra_header` sets another one."""
    if any(name.lower() in _KEY_HEADERS for name in server.headers):
        return ""
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not key and server.openai:
        raise InputError("OPENAI_API_KEY is not set; export it with your key, or set --base_url to another server")
    if not re.fullmatch("[!-~]*", key):
        raise InputError("OPENAI_API_KEY: has a space or a character that no key has; set it again")
    return key
