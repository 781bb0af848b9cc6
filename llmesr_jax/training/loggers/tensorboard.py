"""TensorBoard files, in tensorboard/ of the run's folder."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PACKAGE, INSTALL = "tensorboardX", "tensorboardX"


class Logger:
    """Writes events without a thread: on a full disk SummaryWriter's thread ends, and the run would wait for it."""

    def __init__(self, folder: Path, last_epoch: int, config: Mapping[str, Any]):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.summary import scalar

        self._event, self._scalar = Event, scalar
        folder = folder / "tensorboard"
        folder.mkdir(exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"), f".{last_epoch}")
        # This makes TensorBoard hide later epochs of earlier files.
        self._put(last_epoch + 1, session_log=SessionLog(status=SessionLog.START))

    def write(self, epoch: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._put(epoch, summary=self._scalar(name, value))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def _put(self, epoch: int, **content: Any) -> None:
        self._writer.write_event(self._event(step=epoch, wall_time=time.time(), **content))
