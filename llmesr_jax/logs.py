"""What a run writes as it goes: one line an epoch to the console, a JSON line a seed and epoch, TensorBoard."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from llmesr_jax.experiment import write_text


class Log:
    """Writes `metrics.jsonl` and, where tensorboardX is installed, TensorBoard files in a run's folder.

    Args:
      folder: the run's.
      last_epoch: of the checkpoint the run continues from; lines of later epochs are dropped, they will come again.
    """

    def __init__(self, folder: Path, last_epoch: int):
        self._path = Path(folder) / "metrics.jsonl"
        if self._path.exists():
            kept = [line for line in self._path.read_text().splitlines() if _epoch(line) <= last_epoch]
            write_text(self._path, "".join(line + "\n" for line in kept))
        self._board = None
        if importlib.util.find_spec("tensorboardX"):
            from tensorboardX import SummaryWriter

            self._board = SummaryWriter(str(Path(folder) / "tensorboard"), purge_step=last_epoch + 1)

    def write(self, epoch: int, seed: int, values: dict[str, Any], seconds: float) -> None:
        """One epoch of one seed: {name: number}, and how long the epoch took for the whole group."""
        with self._path.open("a") as file:
            file.write(json.dumps({"epoch": epoch, "seed": seed, **values, "seconds": round(seconds, 3)}) + "\n")
        if self._board:
            for name, value in values.items():
                self._board.add_scalar(f"{name}/seed_{seed}", value, epoch)

    def close(self) -> None:
        if self._board:
            self._board.close()


def _epoch(line: str) -> float:
    """The epoch of a line; infinite for one that was cut off by a crash."""
    try:
        return json.loads(line)["epoch"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")
