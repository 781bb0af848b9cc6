"""How work is told to stop: by a flag that it looks at where nothing is lost.

The library hears no signals. A caller may pass a `Stop`, and request the end in a signal handler or from another
thread. `launch` does so for SIGINT and SIGTERM.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class Stop:
    """A wish that work ends, which may come at any time.

    Attributes:
      requested: whether the end is wished.
      said: what the work does once it sees the wish; empty where nothing looks, so that only an exception ends it.
    """

    def __init__(self):
        self.requested = False
        self.said = ""

    def request(self) -> None:
        """Wishes the end. Safe in a signal handler and in any thread."""
        self.requested = True

    def check(self) -> None:
        """Raises KeyboardInterrupt if the end is wished."""
        if self.requested:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def gracefully(self, said: str) -> Iterator[None]:
        """A block of work that looks at `requested` and ends soon after, in good order.

        Args:
          said: what it does then, for the user, as in "stopping at the end of this epoch".
        Raises:
          KeyboardInterrupt: at the end of the block, if the end was wished and the block raised nothing.
        """
        before, self.said = self.said, said
        try:
            yield
        finally:
            self.said = before
        self.check()
