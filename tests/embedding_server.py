"""A server on loopback that speaks the embeddings, files and batches API, counts what it is paid for, and misbehaves.

    with EmbeddingServer(width=16, faults=FAULTS) as server:
        ... server.base_url ... server.paid

As a program, for measurements, in a process of its own: `python tests/embedding_server.py --port=8123 --width=64`.
The vector of a text is a function of the text, so every undisturbed way to it ends in the same bits.
"""

from __future__ import annotations

import argparse
import base64
import collections
import email.utils
import hashlib
import itertools
import json
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

# All the ways in which a request may go wrong. "shuffled" is a right answer in another order.
FAULTS = (
    "429", "429-seconds", "429-date", "500", "503", "slow", "cut", "closed", "count", "shuffled", "index", "nan",
    "width", "json", "nothing", "base64",
)  # fmt: skip

# What servers say of too many texts in a request, and of a text that is too long: status, and message or body.
TOO_MANY = {
    "tei": (422, {"error": "batch size {n} > maximum allowed batch size {most}", "error_type": "Validation"}),
    "tei-413": (413, {"message": "batch size {n} > maximum allowed batch size {most}", "code": 413}),
    "dashscope": (400, "<400> InternalError.Algo.InvalidParameter: Value error, batch size is invalid, it should not "
        "be larger than {most}.: input.contents"),
    "openai": (400, "Invalid 'input': array too long. Expected an array with maximum length {most}, but got an array "
        "with length {n} instead."),
    "nginx": (413, b"<html><h1>413 Request Entity Too Large</h1></html>"),
}  # fmt: skip
TOO_LONG = {
    "vllm": (400, {"object": "error", "message": "This model's maximum context length is {most} tokens. However, you "
        "requested {n} tokens in the input for embedding generation. Please reduce the length of the input."}),
    "vllm-passed": (400, "You passed {n} input tokens and requested 0 output tokens. However, the model's "
        "context length is only {most} tokens. (parameter=input_tokens, value={n})"),
    "openai": (400, "This model's maximum context length is {most:,} tokens, however you requested {n:,} tokens ({n} "
        "in your prompt; 0 for the completion). Please reduce your prompt; or completion length."),
    "openai-limit": (400, "Invalid 'input[0]': maximum input length is {most} tokens."),
    "tei": (413, {"error": "Input validation error: `inputs` must have less than {most} tokens. Given: {n}"}),
    "tei-422": (422, {"message": "Input validation error: `inputs` must have less than {most} tokens. Given: {n}"}),
    "ollama": (400, {"error": "the input length exceeds the context length"}),
    "llama.cpp": (500, "input ({n} tokens) is too large to process. increase the physical batch size (current batch "
        "size: {most})"),
    "llama.cpp-context": (400, "the request exceeds the available context size ({most} tokens), try increasing it"),
    "jina": (400, {"detail": "Single text cannot exceed {most} tokens. {n} tokens given."}),
    "nginx": (413, b"<html><h1>413 Request Entity Too Large</h1></html>"),
}  # fmt: skip


# What four servers put around the vectors, as their documentation and sources show, and say of a model they have not.
PRODUCTS = {
    "vllm": (
        {"id": "embd-1", "object": "list", "created": 1, "usage": {"prompt_tokens": 9, "total_tokens": 9, "completion_tokens": 0, "prompt_tokens_details": None}},
        {},
        {"error": {"message": "The model `{model}` does not exist.", "type": "NotFoundError", "param": "model", "code": 404}},
    ),
    "ollama": (
        {"object": "list", "usage": {"prompt_tokens": 9, "total_tokens": 9}},
        {},
        {"error": {"message": "model \"{model}\" not found, try pulling it first", "type": "api_error", "param": None, "code": None}},
    ),
    "tei": ({"object": "list", "usage": {"prompt_tokens": 9, "total_tokens": 9}}, {}, None),
    "llama.cpp": ({"object": "list", "usage": {"prompt_tokens": 9, "total_tokens": 9}}, {"encoding_format": "base64"}, None),
}  # fmt: skip


def refusal(kind: tuple[int, str | dict | bytes], n: int, most: int) -> tuple[int, dict | bytes]:
    """Status and body of a refusal: `n` there are, and `most` are allowed."""
    status, said = kind
    if isinstance(said, bytes):
        return status, said
    if isinstance(said, dict):
        return status, {k: v.format(n=n, most=most) if isinstance(v, str) else v for k, v in said.items()}
    message = said.format(n=n, most=most)
    return status, {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}


def tokens(text: str) -> int:
    """Of a vocabulary that has four ASCII characters a token, and one of the others."""
    ascii_letters = sum(letter.isascii() for letter in text)
    return -(-ascii_letters // 4) + len(text) - ascii_letters


def vector(text: str, width: int) -> np.ndarray:
    """(width,) float32 in [-1, 1)."""
    bits = np.frombuffer(hashlib.shake_128(text.encode()).digest(4 * width), "<u4")
    return (bits / 2.0**31 - 1).astype(np.float32)


class EmbeddingServer:
    """Answers while it is entered.

    Attributes:
      paid: text -> times that a vector of it was sent, or made in a batch.
      requests: texts of each request for embeddings, in order, those that were answered wrongly included.
      keys: authorization headers seen.
      most_texts, most_tokens: limits of a request and of a text, beyond which it refuses.
      too_many, too_long: how it says so, a key of `TOO_MANY` and of `TOO_LONG`.
      delay: seconds before each answer.
      status: answer every request with this status and `message`.
      failing: a function of the texts of a request: status and message, or an answer, instead of the right one; else
        None.
      product: a key of `PRODUCTS`, whose answers it gives; None for OpenAI's.
      model: the one that it has; None for any.
      batch_looks: looks at a batch before it is done.
      spoilt_lines: custom ids of batches whose answer fails the first time.
    """

    def __init__(self, width: int = 16, faults: tuple[str, ...] = (), port: int = 0):
        self.width, self.faults = width, faults
        self.paid, self.requests, self.keys = collections.Counter(), [], set()
        self.bodies, self.queries, self.headers = [], [], []
        self.delay, self.status, self.message, self.code = 0.0, None, "", None
        self.failing = self.product = self.model = None
        self.batch_looks, self.batch_error, self.spoilt_lines = 2, None, set()
        self.files, self.batches = {}, {}
        self.slow = 1.0
        self.most_texts, self.most_tokens = 10**9, 10**9
        self.too_many, self.too_long = "tei", "vllm"
        self._numbers, self._gone_wrong, self._lock = itertools.count(), set(), threading.Lock()
        server = self

        class Handler(_Handler):
            owner = server

        self._http = _Server(("127.0.0.1", port), Handler)
        self.base_url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self) -> EmbeddingServer:
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._http.shutdown()
        self._http.server_close()

    def serve(self) -> None:
        self._http.serve_forever(poll_interval=0.05)

    def fault(self, texts: list[str]) -> str | None:
        """The request that a text comes in first goes wrong, in one way after the other.

        The plain word that shows whether the server works at all does not go wrong.
        """
        if not self.faults or texts == ["text"]:
            return None
        with self._lock:
            if self._gone_wrong.issuperset(texts):
                return None
            self._gone_wrong.update(texts)
            return self.faults[next(self._numbers) % len(self.faults)]

    def refusal(self, texts: list[str]) -> tuple[int, dict | bytes] | None:
        """Status and body, where the texts are too many or one is too long."""
        if len(texts) > self.most_texts:
            return refusal(TOO_MANY[self.too_many], len(texts), self.most_texts)
        counts = [tokens(text) for text in texts if tokens(text) > self.most_tokens]
        return refusal(TOO_LONG[self.too_long], counts[0], self.most_tokens) if counts else None

    def pay(self, texts: list[str]) -> None:
        with self._lock:
            self.paid.update(texts)

    def embeddings(self, body: dict, fault: str | None = None) -> dict:
        """The answer to a request's body, spoilt as `fault` says."""
        texts, width = body["input"], body.get("dimensions") or self.width
        vectors = [vector(text, width - (fault == "width")) for text in texts]
        if fault == "nan":
            vectors[-1][0] = np.nan
        data = [{"object": "embedding", "index": i, "embedding": _written(v, body)} for i, v in enumerate(vectors)]
        if fault == "count":
            data.pop()
        if fault == "index":
            data[-1]["index"] = len(data)
        if fault == "base64":
            data[-1]["embedding"] = "*"
        if fault == "shuffled":
            data = data[::-1]
        if self.product:
            around, of_each, _ = PRODUCTS[self.product]
            of_each = of_each if body.get("encoding_format") == "base64" else {}
            return {**around, "model": body["model"], "data": [entry | of_each for entry in data]}
        return {"object": "list", "model": body["model"], "data": data, "usage": {"total_tokens": 1}}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):  # who asked was killed
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body go out in two writes, and nobody waits for the first
    owner: EmbeddingServer

    def log_message(self, *_):
        pass

    def do_POST(self):
        self.owner.keys.add(self.headers.get("Authorization"))
        content = self.rfile.read(int(self.headers["Content-Length"]))
        path, _, query = self.path.removeprefix("/v1").partition("?")
        self.owner.queries.append(query)
        self.owner.headers.append(dict(self.headers))
        if self.owner.status:
            error = {"message": self.owner.message, "code": self.owner.code, "type": self.owner.code}
            self._send({"error": error}, self.owner.status)
        elif path == "/embeddings":
            self._embeddings(json.loads(content))
        elif path == "/files":
            number = f"file-{len(self.owner.files)}"
            self.owner.files[number] = _uploaded(content)
            self._send({"id": number, "object": "file", "purpose": "batch"})
        elif path == "/batches":
            self._make_batch(json.loads(content))
        else:
            self._send({"error": {"message": "no such path"}}, 404)

    def do_GET(self):
        path = self.path.removeprefix("/v1").partition("?")[0]
        if path == "/batches":
            self._send({"object": "list", "data": list(self.owner.batches.values())[::-1], "has_more": False})
        elif match := re.fullmatch("/batches/(.*)", path):
            batch = self.owner.batches[match[1]]
            batch["looks"] += 1
            if batch["looks"] > self.owner.batch_looks and batch["status"] == "in_progress":
                batch["status"] = "completed"
            self._send(batch)
        elif match := re.fullmatch("/files/(.*)/content", path):
            self._send(self.owner.files[match[1]])
        else:
            self._send({"error": {"message": "no such path"}}, 404)

    def _embeddings(self, body: dict) -> None:
        self.owner.requests.append(body["input"])
        self.owner.bodies.append(body)
        fault = self.owner.fault(body["input"])
        time.sleep(self.owner.delay + (self.owner.slow if fault == "slow" else 0))
        if fault in ("429", "429-seconds", "429-date"):
            now = email.utils.formatdate(usegmt=True)
            after = {"429": {}, "429-seconds": {"Retry-After": "0"}, "429-date": {"Retry-After": now}}[fault]
            return self._send({"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, 429, after)
        if fault in ("500", "503"):
            return self._send(b"<html>busy</html>", int(fault))
        if fault == "closed":
            return self._close()
        if self.owner.failing and (wrong := self.owner.failing(body["input"])) is not None:
            status, said = wrong
            return self._send({"error": {"message": said}} if isinstance(said, str) else said, status)
        if self.owner.model not in (None, body["model"]) and (unknown := PRODUCTS[self.owner.product][2]):
            return self._send(json.dumps(unknown).replace("{model}", body["model"]).encode(), 404)
        if refused := self.owner.refusal(body["input"]):
            return self._send(refused[1], refused[0])
        answer = self.owner.embeddings(body, fault)
        if fault in (None, "shuffled", "slow"):
            self.owner.pay(body["input"])
        if fault == "nothing":
            answer = {"object": "list"}
        content = json.dumps(answer).encode()
        if fault == "json":
            content = content[: len(content) // 2]
        return self._send(content, cut=fault == "cut")

    def _make_batch(self, body: dict) -> None:
        number = f"batch-{len(self.owner.batches)}"
        lines = []
        for line in self.owner.files[body["input_file_id"]].splitlines():
            request = json.loads(line)
            answer = {"status_code": 200, "body": self.owner.embeddings(request["body"])}
            if request["custom_id"] in self.owner.spoilt_lines:
                self.owner.spoilt_lines.remove(request["custom_id"])
                answer = {"status_code": 200, "body": self.owner.embeddings(request["body"], "nan")}
            else:
                self.owner.pay(request["body"]["input"])
            lines.append(json.dumps({"id": "x", "custom_id": request["custom_id"], "response": answer, "error": None}))
        self.owner.files[f"out-{number}"] = "\n".join(lines[::-1]).encode()
        failed = {"status": "failed", "errors": {"data": [self.owner.batch_error]}} if self.owner.batch_error else {}
        self.owner.batch_error = None
        made = {"id": number, "object": "batch", "status": "in_progress", "metadata": body.get("metadata"), "looks": 0}
        output = {} if failed else {"output_file_id": f"out-{number}"}
        self.owner.batches[number] = {**made, "endpoint": body["endpoint"], **output, **failed}
        self._send(self.owner.batches[number])

    def _send(self, content: dict | bytes, status: int = 200, headers: dict | None = None, cut: bool = False) -> None:
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if cut else content)
        except OSError:  # who asked is gone
            self._close()
        if cut:
            self._close()

    def _close(self) -> None:
        self.close_connection = True


def _written(vector_F: np.ndarray, body: dict) -> str | list[float]:
    if body.get("encoding_format") == "base64":
        return base64.b64encode(vector_F.astype("<f4").tobytes()).decode()
    return vector_F.tolist()


def _uploaded(content: bytes) -> bytes:
    """The file in a form that was posted."""
    boundary = content.split(b"\r\n", 1)[0]
    (part,) = [part for part in content.split(boundary) if b"filename=" in part]
    return part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--width", type=int, default=64)
    arguments = parser.parse_args()
    server = EmbeddingServer(arguments.width, port=arguments.port)
    print(server.base_url, flush=True)
    server.serve()
