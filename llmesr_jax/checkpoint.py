"""Orbax checkpoints that survive being killed: asynchronous, checked when read, the newest two kept.

A checkpoint holds the training state and the best parameters of every seed (Orbax arrays) and the progress of the run
(JSON): never the frozen tables, of which `config.json` holds a digest. Each has a checksum; one that is damaged is
reported and left out, and the one before it is used.
"""

from __future__ import annotations

import functools
import logging as standard_logging
import sys
import zlib
from collections.abc import Callable
from logging import LogRecord
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from llmesr_jax.errors import InputError


def checksum(tree: Any) -> int:
    """CRC-32 over names, types, shapes and bytes of the leaves, in order of name.

    A tree has the same checksum as nested dicts, which is how it is read back.
    """
    crc = 0
    for name, leaf in sorted(_named(tree).items()):
        leaf = np.ascontiguousarray(leaf)
        crc = zlib.crc32(f"{name} {leaf.dtype} {leaf.shape} ".encode(), crc)
        crc = zlib.crc32(leaf.reshape(-1).view(np.uint8), crc)
    return crc


def conform(tree: Any, like: Any, where: str) -> Any:
    """The leaves of nested dicts in the structure of `like`; arrays of size zero, which are not stored, are made.

    Args:
      tree: arrays, as read from a checkpoint.
      like: shapes and dtypes.
      where: names the checkpoint in the error.
    Raises:
      InputError: it holds other arrays, as one made by another version of the program does.
    """
    empty = {name: np.zeros(x.shape, x.dtype) for name, x in _named(like).items() if x.size == 0}
    leaves = {**empty, **_named(tree)}
    found, wanted = ({name: (x.shape, x.dtype) for name, x in named.items()} for named in (leaves, _named(like)))
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            raise InputError(
                f"{where}: {name} is {_spelt(found.get(name))}, wanted {_spelt(wanted.get(name))}; it was made by "
                "another version of this program: go back to that one, or name another --workdir"
            )
    return jax.tree_util.tree_map_with_path(lambda path, _: leaves[_name(path)], like)


class Checkpoints:
    """The checkpoints of one run's folder; close it, or use it in a `with` statement.

    Args:
      folder: where they are.
      read_only: nothing is made, tidied up or deleted there.
    """

    def __init__(self, folder: Path, read_only: bool = False):
        self._folder, self._read_only, self._hushes = Path(folder).absolute(), read_only, False
        if read_only:
            options = ocp.CheckpointManagerOptions(read_only=True, create=False, save_interval_steps=0)
        else:
            options = ocp.CheckpointManagerOptions(
                max_to_keep=2, enable_async_checkpointing=True, cleanup_tmp_directories=True
            )
        logging.get_absl_logger().addFilter(_unless_read_only)
        try:
            self._manager = ocp.CheckpointManager(self._folder, options=options)
        finally:
            logging.get_absl_logger().removeFilter(_unless_read_only)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self._manager.close()
        if self._hushes and kind is None:  # else there are reports to come
            _unhush()

    def save(self, step: int, tree: Any, progress: dict[str, Any]) -> None:
        """Copies the tree to the host and starts writing it; waits for the save before.

        Args:
          step: larger than any saved before.
          tree: arrays.
          progress: JSON values.
        """
        # Orbax stores no array of size zero, such as the state of no seed, after all have stopped.
        tree = jax.tree.map(lambda x: x if x.size else None, jax.device_get(tree))
        if not self._hushes:
            self._hushes = True
            _hush()
        progress = {**progress, "checksum": checksum(tree)}
        args = ocp.args.Composite(tree=ocp.args.StandardSave(tree), progress=ocp.args.JsonSave(progress))
        self._manager.save(step, args=args)

    def wait(self) -> None:
        """Until everything is on disk."""
        self._manager.wait_until_finished()

    def restore(self, like: Callable[[dict[str, Any]], Any] | None = None) -> tuple[Any, dict[str, Any]] | None:
        """The newest sound checkpoint, as host arrays, and its progress; None if there is none.

        Damaged ones that are newer are reported and, once a sound one is found, deleted: their steps come again.

        Args:
          like: a function from progress to a tree of shapes and dtypes, which gives the result its structure: how many
            seeds still train is known only then. None for nested dicts.
        Raises:
          InputError: there are checkpoints and all are damaged (nothing is deleted), or a sound one is not like `like`.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        if not steps:
            return None
        _hush()
        for i, step in enumerate(steps):
            try:
                tree, progress = self._read(step)
            except Exception as error:  # Orbax and TensorStore raise all kinds for a damaged file
                reason = (str(error) or repr(error)).splitlines()[0][:120]
                rest = f"going back to that of step {steps[i + 1]}" if i + 1 < len(steps) else "there is none before it"
                print(f"{self._folder}: the checkpoint of step {step} is damaged ({reason}); {rest}", flush=True)
                continue
            if i == 0:  # else there are reports to come
                _unhush()
            if like is not None:
                tree = conform(tree, like(progress), f"{self._folder / str(step)}")
            for damaged in () if self._read_only else steps[:i]:
                self._manager.delete(damaged)
            return tree, progress
        raise InputError(f"{self._folder}: no checkpoint can be read; delete the run's folder to start again")

    def _read(self, step: int) -> tuple[dict[str, Any], dict[str, Any]]:
        args = ocp.args.Composite(tree=ocp.args.StandardRestore(), progress=ocp.args.JsonRestore())
        found = self._manager.restore(step, args=args)
        tree, progress = jax.tree.map(np.asarray, found["tree"]), dict(found["progress"])
        if checksum(tree) != progress.pop("checksum"):
            raise ValueError("its checksum differs")
        return tree, progress


def _unless_read_only(record: LogRecord) -> bool:
    """Drops the warning that a folder opened to be read only is read only."""
    return not record.getMessage().startswith("Given directory is read only")


_hushing: list[Any] = []  # the hook that was there before, once for each who wants silence


def _hush() -> None:
    """Drops, until `_unhush`, what is said of reads and writes beside one that failed (disk full, file damaged).

    The one that failed is raised; the others end in threads, before that or long after, and would print tracebacks.
    """
    if not _hushing:
        standard_logging.getLogger("asyncio").addFilter(_unless_abandoned)
        _hushing.append(sys.unraisablehook)
        sys.unraisablehook = functools.partial(_report, sys.unraisablehook)
    else:
        _hushing.append(_hushing[0])


def _unhush() -> None:
    before = _hushing.pop()
    if not _hushing:
        standard_logging.getLogger("asyncio").removeFilter(_unless_abandoned)
        sys.unraisablehook = before


def _unless_abandoned(record: LogRecord) -> bool:
    """Drops what asyncio says of those beside the one that failed, whenever their garbage is collected."""
    return not record.getMessage().startswith("Task exception was never retrieved")


def _report(report: Callable[[Any], None], unraisable: Any) -> None:
    """Drops what TensorStore's threads say when one of many failed: the others end without an event loop."""
    if str(unraisable.exc_value) != "Event loop is closed":
        report(unraisable)


def _named(tree: Any) -> dict[str, Any]:
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _spelt(found: tuple | None) -> str:
    return "absent" if found is None else f"{found[1]} of shape {found[0]}"
