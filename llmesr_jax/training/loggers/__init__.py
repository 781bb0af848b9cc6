"""Loggers, which get the numbers of each epoch and of the test besides metrics.jsonl: one file each, found by name.

A file has the members of `Logger`. Several are open at once if `launch.sweep` trains runs together, so a logger keeps
no state of the whole process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from llmesr_jax.core.plugins import Plugins


class Logger(Protocol):
    """What the file of a logger must have."""

    @property
    def PACKAGE(self) -> str:
        """The module that must be importable."""
        ...

    @property
    def INSTALL(self) -> str:
        """The package's name for `pip install`."""
        ...

    @property
    def Logger(self) -> Callable[..., Any]:
        """`Logger(folder, last_epoch, config)`, with the methods of `Writer`.

        `folder`, of the run, exists; `last_epoch` is that of the checkpoint that the run continues from, 0 for a new
        run: later epochs will come again; `config` has the run's settings, {key: value}.
        """
        ...


class Writer(Protocol):
    """An open logger."""

    def write(self, epoch: int, values: Mapping[str, float]) -> None:
        """Takes {name: number}: after each epoch, and once more at the end of the run with the test's metrics.

        Names end in `/seed_<seed>`. Several seeds write one after the other, so an epoch comes once for each.
        """
        ...

    def close(self) -> None:
        """Closes the logger, at the end of the run or after a crash."""
        ...


PLUGINS: Plugins[Logger] = Plugins("logger", __name__, Logger, parts={"Logger": Writer})
