"""Detects that another process of a run has ended, before JAX does.

Each process has a connection to the first. When a process ends, its system closes the connection; when a machine fails,
so that nothing answers any more, the system at the other end closes it after about 20 seconds. JAX would notice a
missing heartbeat after 30 seconds, and then ends the process with a long error message of its own.
"""

import contextlib
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Callable

_GRACE = 5  # seconds in which this process may itself report what is wrong, as the cause may be the same
_CONNECT = 10  # seconds
_BYE, _LOST = "bye", "lost"


@contextlib.contextmanager
def watched(place: tuple[int, int], host: str, share: Callable[[Callable[[], str]], str], tell: Callable[[int], None]):
    """A block in which `tell(i)` is called, in a thread, some seconds after process i ended within its own block.

    If no connection can be made, as when a firewall forbids it, JAX ends this process.

    Args:
      place: the number of this process, from 0, and the number of processes.
      host: of the first process; "": the first process names it.
      share: f -> the text that f() returns in the first process, in all processes.
      tell: called with the number of the process that ended; it ends this process.
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
    except BaseException:  # an interrupt; all processes have saved
        links.leave()
        raise
    links.leave()


def _connected(host: str, port: int, hello: str) -> socket.socket:
    link = _kept_alive(socket.create_connection((host, port), timeout=_CONNECT))
    link.settimeout(None)
    link.sendall(hello.encode())
    return link


def _kept_alive(link: socket.socket) -> socket.socket:
    """The connection, which the system now closes if nothing answers at its other end."""
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 8), ("TCP_KEEPINTVL", 4), ("TCP_KEEPCNT", 3)):  # seconds, seconds, times
        if hasattr(socket, name):
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return link


class _Links:
    """The connections of this process: the first process has one to each other, the others have one to the first.

    They carry lines: "<token> <index>" from a process that connects, "bye" from one that ends as it should, and
    "lost <index>" from the first process, about another.
    """

    def __init__(self, links, server, token, tell):
        self._links, self._server, self._token, self._tell = links, server, token, tell
        self._said: dict[socket.socket, bytes] = {}
        self._over, self._thread = threading.Event(), threading.Thread(target=self._watch, daemon=True)
        self._woken, self._wake = socket.socketpair()

    def start(self) -> None:
        """Begins to read the connections, in a thread."""
        self._thread.start()

    def leave(self, well: bool = True) -> None:
        """Ends the thread; with `well`, tells the other processes that this one ends as it should."""
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
        """Reads a connection; returns whether it stays open."""
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
        """Tells the other processes that a process was lost, and ends this one."""
        for link in list(self._links) if self._server else ():
            self._say(link, f"{_LOST} {index}")
        time.sleep(_GRACE)
        if not self._over.is_set():
            self._tell(index)

    @staticmethod
    def _say(link: socket.socket, line: str) -> None:
        with contextlib.suppress(OSError):
            link.sendall(f"{line}\n".encode())
