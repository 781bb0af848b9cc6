"""Where the numbers of each epoch, and of the test, go besides metrics.jsonl: one file a logger, found by its name.

What such a file has is `Logger`. Several are open at once where `launch.sweep` trains runs together, so a logger keeps
no state of the whole process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from llmesr_jax.core.plugins import Plugins


class Logger(Protocol):
    """What the file of a logger has."""

    @property
    def PACKAGE(self) -> str:
        """What must be importable for it."""
        ...

    @property
    def INSTALL(self) -> str:
        """What `pip install` calls that."""
        ...

    @property
    def Logger(self) -> Callable[..., Any]:
        """`Logger(folder, last_epoch, config)`, with the methods of `Writer`.

        `folder`, of the run, exists; `last_epoch` is that of the checkpoint that the run continues from, 0 for a new
        run: later epochs will come again; `config` has the run's settings, {key: value}.
        """
        ...


class Writer(Protocol):
    """A logger at work."""

    def write(self, epoch: int, values: Mapping[str, float]) -> None:
        """Takes {name: number}: after each epoch, and once more at the end of the run with the test's metrics.

        Names end in `/seed_<seed>`. Several seeds write one after the other, so an epoch comes once for each.
        """
        ...

    def close(self) -> None:
        """Ends it, at the end of the run or at its crash."""
        ...


PLUGINS: Plugins[Logger] = Plugins("logger", __name__, Logger, parts={"Logger": Writer})
