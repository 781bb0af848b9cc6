"""Sees when another process of a run ends, before JAX does: a connection of each to the first, which its system closes.

Where nothing is sent and nobody answers, as when a machine fails, the system closes it after about 20 seconds. JAX misses a
heartbeat after 30, and then ends the process in the midst of a text of its own.
"""

import contextlib
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Callable

_GRACE = 5  # seconds that a process has to say itself what is wrong, as it may come of the same cause
_CONNECT = 10  # seconds
_BYE, _LOST = "bye", "lost"


@contextlib.contextmanager
def watched(place: tuple[int, int], host: str, share: Callable[[Callable[[], str]], str], tell: Callable[[int], None]):
    """A block in which `tell(i)` is called, in a thread, some seconds after process i ended without leaving the block well.

    Where no connection can be made, as a firewall may forbid, it is JAX that ends this process.

    Args:
      place: which process this is, from 0, and how many there are.
      host: of the first process; empty: it says so itself.
      share: gives all processes the text that a function makes in the first.
      tell: ends this process.
    """
    index, count = place
    server = None
    if index == 0:
        with contextlib.suppress(OSError):
            server = socket.create_server(("", 0), backlog=count)
    own = f"{socket.getfqdn()} {server.getsockname()[1]} {secrets.token_hex(8)}" if server else ""
    found = share(lambda: own).split()
    if not found:
        yield
        return
    named, port, token = found
    connections: dict[socket.socket, int] = {}
    if server is None:
        with contextlib.suppress(OSError):
            connections[_connected(host or named, int(port), f"{token} {index}\n")] = 0
    links = _Links(connections, server, token, tell)
    links.start()
    try:
        yield
    except Exception:
        links.leave(well=False)
        raise
    except BaseException:  # an interrupt, after which all have saved
        links.leave()
        raise
    links.leave()


def _connected(host: str, port: int, hello: str) -> socket.socket:
    link = _kept_alive(socket.create_connection((host, port), timeout=_CONNECT))
    link.settimeout(None)
    link.sendall(hello.encode())
    return link


def _kept_alive(link: socket.socket) -> socket.socket:
    """The connection, of which the system finds out that nobody is at its other end."""
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 8), ("TCP_KEEPINTVL", 4), ("TCP_KEEPCNT", 3)):  # seconds, seconds, times
        if hasattr(socket, name):
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return link


class _Links:
    """The connections of this process: the first has one to each, the others have one to the first.

    What is said on them are lines: "<token> <index>" by one that connects, "bye" by one that ends well, and "lost <index>"
    by the first, of another.
    """

    def __init__(self, links, server, token, tell):
        self._links, self._server, self._token, self._tell = links, server, token, tell
        self._said: dict[socket.socket, bytes] = {}
        self._over, self._thread = threading.Event(), threading.Thread(target=self._watch, daemon=True)
        self._woken, self._wake = socket.socketpair()

    def start(self) -> None:
        """Hears the connections from now on, in a thread."""
        self._thread.start()

    def leave(self, well: bool = True) -> None:
        """Says that this process ends."""
        self._over.set()
        for link in list(self._links):
            if well:
                self._say(link, _BYE)
        self._wake.close()
        self._thread.join(_GRACE + 1)

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
            for link in (self._woken, *([self._server] if self._server else self._links)):
                selector.register(stack.enter_context(link), selectors.EVENT_READ)
            while not self._over.is_set():
                for key, _ in selector.select():
                    if key.fileobj is self._server:
                        link = stack.enter_context(_kept_alive(self._server.accept()[0]))
                        selector.register(link, selectors.EVENT_READ)
                    elif key.fileobj is not self._woken and not self._hear(key.fileobj):
                        selector.unregister(key.fileobj)

    def _hear(self, link: socket.socket) -> bool:
        """Whether the connection goes on after what it says now."""
        try:
            found = link.recv(256)
        except OSError:
            found = b""
        *lines, self._said[link] = (self._said.get(link, b"") + found).split(b"\n")
        for line in lines:
            what, _, index = line.decode(errors="replace").partition(" ")
            if what == self._token and index.isdigit():
                self._links[link] = int(index)
            elif what == _BYE:
                self._links.pop(link, None)
                return False
            elif what == _LOST and link in self._links:
                self._end(int(index))
        if not found and link in self._links:
            self._end(self._links.pop(link))
        return bool(found) and (link in self._links or len(self._said[link]) < 256)

    def _end(self, index: int) -> None:
        """Passes on that a process is lost, and ends this one."""
        for link in list(self._links) if self._server else ():
            self._say(link, f"{_LOST} {index}")
        time.sleep(_GRACE)
        if not self._over.is_set():
            self._tell(index)

    @staticmethod
    def _say(link: socket.socket, line: str) -> None:
        with contextlib.suppress(OSError):
            link.sendall(f"{line}\n".encode())
