"""uvicorn around the application: limits for slow and many connections, and a shutdown that drops no request."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.interrupts import Stop

_MOST_HEAD = 1 << 16  # bytes of a request before its body; uvicorn's parser has no limit of its own
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class _Protocol(HttpToolsProtocol):
    """A connection that records since when it has been waiting for a request's bytes.

    Attributes:
      most: maximum number of connections.
      since: seconds of the loop's clock; None while there is no request, or a complete one is being answered.
    """

    most = 1000  # connections at a time
    since: float | None = None
    _head = 0
    _in_head = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.since = self.loop.time()
        if len(self.connections) > self.most:
            transport.write(_BUSY)
            transport.close()

    def data_received(self, data: bytes) -> None:
        if self.since is None:
            self.since = self.loop.time()
        began = self._in_head
        super().data_received(data)
        if began and self._in_head:
            self._head += len(data)
            if self._head > _MOST_HEAD and not self.transport.is_closing():
                self.send_400_response("The header is too long.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head = True, 0
        if self.since is None:
            self.since = self.loop.time()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.since = None

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing() and self.since is None:
            self.since = self.loop.time()  # from now on the client has `patience` seconds to read the answer


class _Server(uvicorn.Server):
    """Ends when `stop` is requested; handles no signals."""

    def __init__(self, config: uvicorn.Config, stop: Stop, patience: float, tick: Callable[[], None]):
        super().__init__(config)
        self._stop, self._patience, self._tick = stop, patience, tick

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        self._tick()
        if counter % 10 == 0:
            self._drop_slow()
        self.should_exit = self.should_exit or self._stop.requested
        return await super().on_tick(counter)

    def _drop_slow(self) -> None:
        """Closes connections whose client takes too long to send a request or to read an answer."""
        oldest = asyncio.get_running_loop().time() - self._patience
        for connection in list(self.server_state.connections):
            if connection.since is not None and connection.since < oldest:
                connection.transport.abort()


def bound(host: str, port: int) -> socket.socket:
    """A socket, bound to an address, that does not accept connections yet.

    Raises:
      InputError: the port is in use or not allowed, or the host is not an address of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        found = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, OverflowError) as error:
        raise InputError(f"--host={host} --port={port}: {error}; expected an address of this machine") from error
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
    except (OSError, OverflowError) as error:
        found.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"--host={host} --port={port}: {reason}; stop the program that uses the port, or choose another --port"
        ) from error
    return found


def run(
    app: Any,
    listening: socket.socket,
    stop: Stop,
    *,
    tick: Callable[[], None] = lambda: None,
    patience: float = 10.0,
    drain: float = 10.0,
    connections: int = 1000,
    behind_proxy: bool = False,
) -> None:
    """Answers until `stop` is requested; then accepts no new connection, and answers the open requests.

    Args:
      app: the ASGI application.
      listening: see `bound`.
      stop: ends the service.
      tick: called ten times a second, in the loop.
      patience: seconds in which a client must have sent a request, or read an answer.
      drain: seconds for the last answers.
      connections: maximum at a time; further ones get 503.
      behind_proxy: take a client's address from X-Forwarded-For if the connection comes from this machine.
    """
    _Protocol.most = connections
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=behind_proxy,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=max(1, round(drain)),
        backlog=1024,
    )
    _Server(config, stop, patience, tick).run([listening])
