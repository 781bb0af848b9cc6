"""Checks of every request: the host's name, the token, the client's rate; and headers of every answer."""

from __future__ import annotations

import collections
import dataclasses
import hmac
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from llmesr_jax.serving.http.measures import Measures

OPEN = frozenset({"/health", "/", "/docs", "/openapi.json"})  # need no token, because they have no data
_MOST_CLIENTS = 10_000
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_PAGE = [
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    )
]


@dataclasses.dataclass(frozen=True)
class Rules:
    """Who may send requests, and how many.

    Attributes:
      token: the text that `Authorization: Bearer ...` must have; "" for no token.
      hosts: names that the Host header may have; empty for any.
      rate: requests per second and client, 0 for any number; a client may send those of `_BURST` seconds at once.
      log: "errors", "requests" (one line each), or "histories" (also the bodies, which are personal data).
    """

    token: str = ""
    hosts: frozenset[str] = frozenset()
    rate: float = 0.0
    log: str = "errors"


_BURST = 5.0


class Guard:
    """An ASGI application around another one: it refuses requests by `Rules`, and adds headers, metrics and the log.

    Args:
      app: the application.
      rules: for requests.
      measures: counts requests.
      paths: known paths, for metrics and the log; others are counted as "other".
    """

    def __init__(self, app: Any, rules: Rules, measures: Measures, paths: frozenset[str]):
        self._app, self._rules, self._measures, self._paths = app, rules, measures, paths
        self._token = f"Bearer {rules.token}".encode() if rules.token else b""
        self._clients: collections.OrderedDict[str, tuple[float, float]] = collections.OrderedDict()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        started, path = time.perf_counter(), scope["path"]
        status = 500
        own = _PAGE + _HEADERS

        async def sent(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *own]
            await send(message)

        try:
            if refused := self._refused(scope, path):
                await _answer(sent, *refused)
            else:
                await self._app(scope, self._recording(scope, receive), sent)
        finally:
            seconds = time.perf_counter() - started
            known = path if path in self._paths else "static" if path.startswith("/static/") else "other"
            self._measures.answered(known, status, seconds)
            if self._rules.log != "errors":
                self._say(scope, known, status, seconds)

    def _refused(self, scope: Any, path: str) -> tuple[int, str, list[tuple[bytes, bytes]]] | None:
        """Status, message and headers for a refused request."""
        rules = self._rules
        if not (rules.hosts or self._token or rules.rate):
            return None
        headers = dict(scope["headers"])
        if rules.hosts and _name(headers.get(b"host", b"")) not in rules.hosts:
            self._measures.refused.labels("host").inc()
            return 421, "this host name is not served; the flag --hosts of the service lists the served names", []
        if rules.rate and path != "/health" and (wait := self._wait((scope.get("client") or ("",))[0])) > 0:
            self._measures.refused.labels("rate").inc()
            return 429, "too many requests; wait, then try again", [(b"retry-after", b"%d" % max(1, round(wait + 0.5)))]
        if self._token and path not in OPEN and not path.startswith("/static/"):
            if not hmac.compare_digest(headers.get(b"authorization", b""), self._token):
                self._measures.refused.labels("token").inc()
                return (
                    401,
                    "the token is missing or wrong; expected the header Authorization: Bearer TOKEN",
                    [(b"www-authenticate", b"Bearer")],
                )
        return None

    def _wait(self, client: str) -> float:
        """Seconds until the client may send a request; 0 if it may now, and then the request is counted."""
        now, most = time.monotonic(), max(1.0, self._rules.rate * _BURST)
        left, since = self._clients.pop(client, (most, now))
        left = min(most, left + (now - since) * self._rules.rate)
        allowed = left >= 1
        self._clients[client] = (left - allowed, now)
        while len(self._clients) > _MOST_CLIENTS:
            self._clients.popitem(last=False)
        return 0.0 if allowed else (1 - left) / self._rules.rate

    def _recording(self, scope: Any, receive: Callable) -> Callable:
        """`receive`; with the log "histories", a version of it that records the body."""
        if self._rules.log != "histories":
            return receive
        body = scope["llmesr.body"] = bytearray()

        async def recorded() -> Any:
            message = await receive()
            body.extend(message.get("body", b"")[: 10_000 - len(body)])
            return message

        return recorded

    def _say(self, scope: Any, path: str, status: int, seconds: float) -> None:
        """Prints a line of JSON on stdout, without the client's address.

        Query and body, which may have items, are in it only with the log "histories".
        """
        found = {"time": round(time.time(), 3), "method": scope["method"][:10], "path": path, "status": status}
        found["ms"] = round(1e3 * seconds, 2)
        if self._rules.log == "histories":
            found["query"] = scope.get("query_string", b"")[:1000].decode("ascii", "replace")
            found["body"] = bytes(scope.get("llmesr.body", b"")).decode("utf-8", "replace")
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


def _name(host: bytes) -> str:
    """The name in a Host header, without its port."""
    text = host.decode("latin-1").strip().lower()
    if text.startswith("["):
        return text.partition("]")[0][1:]
    return text.rpartition(":")[0] if text.count(":") == 1 else text


async def _answer(send: Any, status: int, message: str, headers: list[tuple[bytes, bytes]]) -> None:
    body = json.dumps({"error": message}).encode()
    own = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": own})
    await send({"type": "http.response.body", "body": body})
