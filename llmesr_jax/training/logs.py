"""What a run logs: a JSON line per seed and epoch, and the same numbers for loggers."""

from __future__ import annotations

import contextlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from llmesr_jax.core import files
from llmesr_jax.core.errors import InputError
from llmesr_jax.ranking import evaluate, metrics
from llmesr_jax.training import config as config_lib
from llmesr_jax.training.loggers import PLUGINS


def loggers(wanted: str) -> list[str]:
    """The names of the loggers that the setting `loggers` selects.

    Args:
      wanted: names separated by commas; "auto": tensorboard if it is installed; "none".
    Raises:
      InputError: a logger is not known or not installed, or appears twice.
    """
    if wanted in ("auto", "none"):
        return ["tensorboard"] if wanted == "auto" and _installed("tensorboard") else []
    names = [name.strip() for name in wanted.split(",")]
    if len(set(names)) < len(names):
        raise InputError(f"loggers {wanted!r}: a logger appears twice; expected each logger once")
    for name in names:
        module = PLUGINS.load(name)
        if not _installed(name):
            raise InputError(
                f"loggers {wanted!r}: {module.PACKAGE} is not installed; run pip install {module.INSTALL}, or "
                "remove it from the loggers"
            )
    return names


class Log(contextlib.AbstractContextManager):
    """Writes `metrics.jsonl` in a run's folder, and to the loggers of its configuration.

    Args:
      folder: the run's.
      last_epoch: of the checkpoint from which the run continues; lines of later epochs are dropped, because they will
        be written again.
      config: the run's; None for the defaults.
    Raises:
      InputError: a logger is not known, not installed, or does not start.
    """

    def __init__(self, folder: Path, last_epoch: int, config: ConfigDict | None = None):
        config = config_lib.default() if config is None else config
        self._path = Path(folder) / "metrics.jsonl"
        if self._path.exists():
            lines = self._path.read_text().splitlines()
            kept = [line for line in lines if _epoch(line) <= last_epoch]
            if len(kept) < len(lines):
                files.write_text(self._path, "".join(line + "\n" for line in kept))
        settings = config_lib.used(config)
        self._loggers = []
        with contextlib.ExitStack() as opened:
            for name in loggers(config.loggers):
                logger = PLUGINS.load(name).Logger(Path(folder), last_epoch, settings)
                opened.callback(logger.close)
                self._loggers.append(logger)
            self._files = opened.pop_all()

    def write(self, epoch: int, seed: int, values: dict[str, Any], seconds: float) -> None:
        """Writes {name: number} of one epoch of one seed, and the seconds that the epoch took for all seeds."""
        with self._path.open("a") as file:
            file.write(json.dumps({"epoch": epoch, "seed": seed, **values, "seconds": round(seconds, 3)}) + "\n")
        self._hand_on(epoch, seed, values)

    def test(self, epoch: int, seeds: Sequence[int], results: Mapping[str, Any]) -> None:
        """Sends the test's metrics of each seed to the loggers; results.json has them too.

        Names are `test/full/overall/N@10`, by protocol, group and metric.

        Args:
          epoch: the last one that was trained.
          seeds: in the order of the results' lists.
          results: {protocol: stacked summary of the test}, see `evaluate.stack`.
        """
        for place, seed in enumerate(seeds):
            values = {
                f"test/{protocol}/{group}/{metric}": numbers[place]
                for protocol, summary in results.items()
                for group in (*evaluate.GROUPS, *metrics.lists())
                for metric, numbers in summary.get(group, {}).items()
                if metric != "count"
            }
            self._hand_on(epoch, seed, values)

    def _hand_on(self, epoch: int, seed: int, values: Mapping[str, Any]) -> None:
        """Sends values to the loggers, without those of groups that have no users."""
        named = {f"{name}/seed_{seed}": value for name, value in values.items() if value is not None}
        for logger in self._loggers:
            logger.write(epoch, named)

    def close(self) -> None:
        """Closes all loggers, even if one of them fails to close."""
        self._files.close()

    def __exit__(self, *_) -> None:
        self.close()


def _installed(name: str) -> bool:
    return importlib.util.find_spec(PLUGINS.load(name).PACKAGE) is not None


def _epoch(line: str) -> float:
    """The epoch of a line; infinite for a line that a crash cut off."""
    try:
        return json.loads(line)["epoch"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")
