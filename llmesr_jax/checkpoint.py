"""Orbax checkpoints that survive being killed: asynchronous, checked when read, the newest two kept.

A checkpoint holds the training state and the best parameters of every seed (Orbax arrays) and the progress of the run
(JSON): never the frozen tables, of which `config.json` holds a digest. Each has a checksum; one that is damaged is
reported and left out, and the one before it is used.
"""

from __future__ import annotations

import functools
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from llmesr_jax.errors import InputError


def checksum(tree: Any) -> int:
    """CRC-32 over the leaves' bytes, in the tree's order."""
    leaves = jax.tree.leaves(tree)
    return functools.reduce(lambda crc, x: zlib.crc32(np.ascontiguousarray(x).data, crc), leaves, 0)


class Checkpoints:
    """The checkpoints of one run's folder; close it, or use it in a `with` statement."""

    def __init__(self, folder: Path):
        self._folder = Path(folder).absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=True, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._manager.close()

    def save(self, step: int, tree: Any, progress: dict[str, Any]) -> None:
        """Copies the tree to the host and starts writing it; waits for the save before.

        Args:
          step: larger than any saved before.
          tree: arrays.
          progress: JSON values.
        """
        tree = jax.device_get(tree)
        progress = {**progress, "checksum": checksum(tree)}
        args = ocp.args.Composite(tree=ocp.args.StandardSave(tree), progress=ocp.args.JsonSave(progress))
        self._manager.save(step, args=args)

    def wait(self) -> None:
        """Until everything is on disk."""
        self._manager.wait_until_finished()

    def restore(self, like: Any) -> tuple[Any, dict[str, Any]] | None:
        """The newest sound checkpoint, as host arrays shaped like `like`, and its progress; None if there is none.

        Args:
          like: a function from progress to a tree of shapes and dtypes: how many seeds still train is known only then.
        Raises:
          InputError: there are checkpoints and all are damaged.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for i, step in enumerate(steps):
            try:
                progress = self._manager.restore(step, args=ocp.args.Composite(progress=ocp.args.JsonRestore()))["progress"]
                args = ocp.args.Composite(tree=ocp.args.StandardRestore(like(progress)))
                tree = jax.tree.map(np.asarray, self._manager.restore(step, args=args)["tree"])
                if checksum(tree) == progress.pop("checksum"):
                    return tree, progress
                reason = "its checksum differs"
            except Exception as error:  # Orbax and TensorStore raise all kinds for a damaged file
                reason = (str(error) or repr(error)).splitlines()[0][:120]
            rest = f"going back to step {steps[i + 1]}" if i + 1 < len(steps) else "there is none before it"
            logging.warning("%s: the checkpoint of step %d is damaged (%s); %s", self._folder, step, reason, rest)
            print(f"{self._folder}: the checkpoint of step {step} is damaged ({reason}); {rest}", flush=True)
            if i + 1 < len(steps):
                self._manager.delete(step)
        if steps:
            raise InputError(f"{self._folder}: no checkpoint can be read; delete the run's folder to start again")
        return None
