"""What a run writes as it goes: a JSON line a seed and epoch, and the same numbers for TensorBoard."""

from __future__ import annotations

import importlib.util
import json
import time
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
            lines = self._path.read_text().splitlines()
            kept = [line for line in lines if _epoch(line) <= last_epoch]
            if len(kept) < len(lines):
                write_text(self._path, "".join(line + "\n" for line in kept))
        self._board = None
        if importlib.util.find_spec("tensorboardX"):
            self._board = _Board(Path(folder) / "tensorboard", last_epoch)

    def write(self, epoch: int, seed: int, values: dict[str, Any], seconds: float) -> None:
        """One epoch of one seed: {name: number}, and how long the epoch took for the whole group."""
        with self._path.open("a") as file:
            file.write(json.dumps({"epoch": epoch, "seed": seed, **values, "seconds": round(seconds, 3)}) + "\n")
        if self._board:
            self._board.write(epoch, {f"{name}/seed_{seed}": value for name, value in values.items()})

    def close(self) -> None:
        if self._board:
            self._board.close()


class _Board:
    """TensorBoard events, written at once: SummaryWriter's thread dies of a full disk, and a run would wait for it."""

    def __init__(self, folder: Path, last_epoch: int):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.summary import scalar

        self._event, self._scalar = Event, scalar
        folder.mkdir(exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"), f".{last_epoch}")
        # TensorBoard hides what an earlier file says of later epochs.
        self._put(last_epoch + 1, session_log=SessionLog(status=SessionLog.START))

    def write(self, epoch: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._put(epoch, summary=self._scalar(name, value))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def _put(self, epoch: int, **content: Any) -> None:
        self._writer.write_event(self._event(step=epoch, wall_time=time.time(), **content))


def _epoch(line: str) -> float:
    """The epoch of a line; infinite for one that was cut off by a crash."""
    try:
        return json.loads(line)["epoch"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")
