"""The whole service: loaded bundles, a port, the application, and uvicorn around it."""

from __future__ import annotations

import dataclasses
import socket
import threading
from typing import Any

from llmesr_jax.core.interrupts import Stop
from llmesr_jax.serving.http import bundles, server
from llmesr_jax.serving.http.app import application
from llmesr_jax.serving.http.endpoints import Service
from llmesr_jax.serving.http.guard import Rules
from llmesr_jax.serving.http.measures import Measures


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a service.

    Attributes:
      bundle: folders, or texts `name=folder`.
      host, port: the address; port 0 for any free one.
      hosts: names that a Host header may have; empty for any.
      token: the bearer token that every request must have; "" for none.
      rate: requests per second and client; 0 for any number.
      queue, deadline: how many requests may wait, and for how many seconds.
      patience: seconds in which a client must have sent its request, or read its answer.
      drain: seconds for the last answers.
      connections: maximum number of open connections.
      log: "errors", "requests" or "histories".
    """

    bundle: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 8000
    hosts: frozenset[str] = frozenset()
    token: str = ""
    rate: float = 0.0
    queue: int = 1000
    deadline: float = 1.0
    patience: float = 10.0
    drain: float = 10.0
    connections: int = 1000
    log: str = "errors"


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A service that has its port and its models, but does not answer yet."""

    settings: Settings
    listening: socket.socket
    service: Service
    app: Any

    def __str__(self) -> str:
        host, port = self.listening.getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        served = ", ".join(f"{name} ({len(m.catalogue):,} items)" for name, m in self.service.bundles.all().items())
        return f"serving {served} at http://{host}:{port}"

    def run(self, stop: Stop, reload: threading.Event) -> None:
        """Answers until `stop` is requested; loads changed bundles each time that `reload` is set."""
        service, settings = self.service, self.settings

        def tick() -> None:
            if reload.is_set():
                reload.clear()
                service.bundles.reload_in_background()

        try:
            server.run(
                self.app,
                self.listening,
                stop,
                tick=tick,
                patience=settings.patience,
                drain=settings.drain,
                connections=settings.connections,
                behind_proxy=settings.rate > 0,
            )
        finally:
            service.close()


def prepare(settings: Settings) -> Prepared:
    """Binds the port, and loads and compiles the bundles.

    Raises:
      InputError: the port is not available, or a bundle cannot be loaded.
    """
    folders = bundles.named(settings.bundle)
    listening = server.bound(settings.host, settings.port)
    try:
        loaded = bundles.Bundles(folders)
    except BaseException:
        listening.close()
        raise
    measures = Measures()
    service = Service(loaded, measures, settings.queue, settings.deadline)
    rules = Rules(settings.token, settings.hosts, settings.rate, settings.log)
    return Prepared(settings, listening, service, application(service, rules))
