"""How work is asked to stop: by a flag that the work checks at points where nothing is lost.

The library handles no signals. A caller may pass a `Stop`, and request the end in a signal handler or from another
thread. `launch` does so for SIGINT and SIGTERM.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class Stop:
    """A request to end work, which may come at any time.

    Attributes:
      requested: whether the end was requested.
      said: what the work does after a request; empty while no work checks the flag: then only an exception ends it.
    """

    def __init__(self):
        self.requested = False
        self.said = ""

    def request(self) -> None:
        """Requests the end. Safe in a signal handler and in any thread."""
        self.requested = True

    def check(self) -> None:
        """Raises KeyboardInterrupt if the end was requested."""
        if self.requested:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def gracefully(self, said: str) -> Iterator[None]:
        """A block of work that checks `requested` and, after a request, ends soon and loses nothing.

        Args:
          said: what the work does after a request, for the user, as in "stopping at the end of this epoch".
        Raises:
          KeyboardInterrupt: at the end of the block, if the end was requested and the block raised nothing.
        """
        before, self.said = self.said, said
        try:
            yield
        finally:
            self.said = before
        self.check()
