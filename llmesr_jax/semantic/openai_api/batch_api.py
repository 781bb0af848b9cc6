"""OpenAI's Batch API: requests are uploaded as a file and answered as a file, within a day, at half the price.

The encoder's folder has two files for each batch: `batch-<n>.jsonl`, the requests, and `batch-<n>.json`, the ids that
the server assigned. A stopped run finds its batches again by these ids, or, if it was stopped before it wrote an id, by
the batch's `tag`, a digest of its requests. So no batch is paid twice.

Limits (OpenAI's API reference): 50,000 texts and 200 MB per batch.
"""

from __future__ import annotations

import asyncio
import collections
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from absl import logging

from llmesr_jax.core import files
from llmesr_jax.core.errors import ServerError
from llmesr_jax.semantic.encoders import Answer, Text
from llmesr_jax.semantic.openai_api import responses, tokens
from llmesr_jax.semantic.openai_api.sending import Sender, body
from llmesr_jax.semantic.openai_api.session import Session, finished
from llmesr_jax.semantic.store import key_of

_MOST_TEXTS = 50_000
_MOST_BYTES = 150_000_000  # below the limit, as the last request is added when this is not yet reached
_PATH = "/v1/embeddings"
_OVER = ("completed", "expired", "cancelled", "failed")  # statuses of batches that have ended


def send(
    runner: asyncio.Runner,
    session: Session,
    sender: Sender,
    texts: Iterable[Text],
    folder: Path,
    width: int,
    config: Any,
    refused: set[bytes],
) -> Iterator[Answer]:
    """Yields vectors as batches end. Texts of a batch that failed or expired are left out.

    Args:
      runner: runs the requests.
      session: with the server.
      sender: sends the texts of `refused`.
      texts: to embed.
      folder: of the encoder's own files.
      width: F.
      config: of the encoder.
      refused: keys of texts for which a batch gave no usable answer; they are sent through `sender` instead of in a
        batch, and more are added here.
    """
    under_way = sorted(folder.glob("batch-*.jsonl"))
    sent = {key for path in under_way for _, keys in _requests(path) for key in keys}
    alone: list[Text] = []

    def others() -> Iterator[Text]:
        for text in texts:
            if text.key in refused:
                alone.append(text)
            elif text.key not in sent:
                yield text

    new = _write_batches(others(), folder, config)
    while True:
        under_way += itertools.islice(new, max(0, config.concurrency - len(under_way)))
        if not under_way:
            yield from sender.run(alone)
            return
        for path in list(under_way):
            batch = yield from finished(runner, _look(session, path))
            if batch.status not in _OVER:
                continue
            if _queue_is_full(batch):
                logging.warning("batch %s: the account's queue is full; the batch is made again", batch.id)
                _remember(path, batch_id=None)
                continue
            if batch.status == "failed" and not batch.output_file_id:
                _forget(path)
                raise ServerError(f"batch {batch.id}: failed ({_reason(batch)}); check --model and the account")
            yield from _results(runner, session, path, batch, width, refused)
            _forget(path)
            under_way.remove(path)
        if under_way:
            yield from finished(runner, asyncio.sleep(config.poll))


async def _look(session: Session, path: Path) -> Any:
    """The batch of a file of requests; uploads the file and makes the batch if this was not done yet."""
    ids = _ids(path)
    if not ids.get("batch_id"):
        tag = hashlib.sha256(path.read_bytes()).hexdigest()[:32]
        batch = await _find(session, tag)
        if batch is None:
            if not ids.get("file_id"):
                uploaded = await session.ask(lambda client: client.files.create(file=path, purpose="batch"))
                ids = _remember(path, file_id=uploaded.id)
            make = {"input_file_id": ids["file_id"], "endpoint": _PATH, "completion_window": "24h"}
            batch = await session.ask(lambda client: client.batches.create(**make, metadata={"tag": tag}))
        ids = _remember(path, batch_id=batch.id)
    return await session.ask(lambda client: client.batches.retrieve(ids["batch_id"]))


async def _find(session: Session, tag: str) -> Any:
    """A batch with this tag that an earlier run made but did not record; None if there is none."""

    async def find(client):
        page = await client.batches.list(limit=100)
        of_tag = [batch for batch in page.data if (batch.metadata or {}).get("tag") == tag]
        return next((batch for batch in of_tag if batch.status not in ("failed", "expired", "cancelled")), None)

    return await session.ask(find)


def _results(
    runner: asyncio.Runner, session: Session, path: Path, batch: Any, width: int, refused: set[bytes]
) -> Iterator[Answer]:
    """Yields the usable answers of a batch; the texts of other answers are added to `refused`."""
    if not batch.output_file_id:
        return
    answers = path.with_suffix(".answers")
    yield from finished(runner, session.ask(lambda client: _download(client, batch.output_file_id, answers)))
    requests, reasons = dict(_requests(path)), collections.Counter()
    with answers.open("rb") as lines:
        for line in lines:
            keys: list[bytes] = []
            try:
                answer = json.loads(line)
                keys = requests[answer["custom_id"]]
                vectors = responses.check(answer["response"]["body"], len(keys), width)
            except (ValueError, KeyError, TypeError, responses.Refused) as error:
                reasons[str(error) or type(error).__name__] += 1
                refused.update(keys)
                continue
            wrong = responses.unusable_rows(vectors)
            reasons.update(wrong.values())
            refused.update(keys[row] for row in wrong)
            good = [row for row in range(len(keys)) if row not in wrong]
            yield Answer([keys[row] for row in good], vectors[good])
    for reason, count in reasons.items():
        logging.warning(
            "batch %s: %d answers cannot be used (%s); their texts are sent one request at a time",
            batch.id,
            count,
            reason,
        )


async def _download(client: Any, file_id: str, path: Path) -> None:
    async with client.files.with_streaming_response.content(file_id) as answer:
        await answer.stream_to_file(path)


def _write_batches(texts: Iterator[Text], folder: Path, config: Any) -> Iterator[Path]:
    """Files of requests, each written when the caller asks for it."""
    requests = tokens.pack(texts, config.batch_size, config.request_tokens)
    left = next(requests, None)
    while left is not None:
        number = 1 + max((int(path.stem.partition("-")[2]) for path in folder.glob("batch-*.jsonl")), default=0)
        path = folder / f"batch-{number:04d}.jsonl"
        count = size = 0
        with files.replacing(path) as file:
            while left is not None and count + len(left) <= _MOST_TEXTS and size < _MOST_BYTES:
                key = left[0].key.hex()
                line = {"custom_id": key, "method": "POST", "url": _PATH, "body": body(left, config, config.encoding)}
                size += file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
                count += len(left)
                left = next(requests, None)
        yield path


def _requests(path: Path) -> Iterator[tuple[str, list[bytes]]]:
    """(custom id, keys of its texts) of each request in a file."""
    with path.open("rb") as lines:
        for line in lines:
            request = json.loads(line)
            yield request["custom_id"], [key_of(text) for text in request["body"]["input"]]


def _queue_is_full(batch: Any) -> bool:
    errors = getattr(batch.errors, "data", None) or []
    return batch.status == "failed" and any(error.code == "token_limit_exceeded" for error in errors)


def _reason(batch: Any) -> str:
    errors = getattr(batch.errors, "data", None) or []
    return " ".join(str(errors[0].message).split())[:200] if errors else "no reason given"


def _ids(path: Path) -> dict[str, str | None]:
    try:
        return json.loads(path.with_suffix(".json").read_bytes())
    except (FileNotFoundError, ValueError):
        return {}


def _remember(path: Path, **ids: str | None) -> dict[str, str | None]:
    known = _ids(path) | ids
    files.write_text(path.with_suffix(".json"), json.dumps(known))
    return known


def _forget(path: Path) -> None:
    for suffix in (".json", ".answers", ".jsonl"):
        path.with_suffix(suffix).unlink(missing_ok=True)
