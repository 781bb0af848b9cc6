"""Loggers, which get the numbers of each epoch and of the test besides metrics.jsonl: one file each, found by name.

A file has the members of `Logger`. Several loggers are open at once if `launch.sweep` trains runs together, so a logger
must not keep state in the module.
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

        `folder` is the run's and exists. `last_epoch` is the epoch of the checkpoint from which the run continues, 0
        for a new run; later epochs will be written again. `config` is {key: value} of the run's settings.
        """
        ...


class Writer(Protocol):
    """An open logger."""

    def write(self, epoch: int, values: Mapping[str, float]) -> None:
        """Writes {name: number}, after each epoch, and at the end of the run once more with the test's metrics.

        Names end in `/seed_<seed>`. It is called for each seed in turn, so several times per epoch.
        """
        ...

    def close(self) -> None:
        """Closes the logger, at the end of the run or after a crash."""
        ...


PLUGINS: Plugins[Logger] = Plugins("logger", __name__, Logger, parts={"Logger": Writer})
