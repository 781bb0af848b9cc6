"""Orbax checkpoints that survive a kill: asynchronous, checked when read, the newest two kept.

A checkpoint holds the training state and the best parameters of every seed (Orbax arrays) and the progress of the run
(JSON), but no frozen tables, of which `config.json` holds a digest. Each checkpoint has a checksum, which is the same
on any mesh. Arrays on several devices are written and read in blocks, by each process its own. A checkpoint that is
proved damaged is reported and renamed, and the one before it is used. An error that proves no damage, such as lack of
memory, stops the run. No checkpoint is deleted because it could not be read.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from llmesr_jax.core.errors import InputError
from llmesr_jax.training import processes, storage
from llmesr_jax.training.checksums import checksum, name_of, named
from llmesr_jax.training.damage import Damaged, proves_damage, reason


def conform(tree: Any, like: Any, where: str, shapes: Mapping[str, tuple[int, ...]] | None = None) -> Any:
    """The leaves of nested dicts in the structure of `like`; arrays of size zero, which are not stored, are added.

    Args:
      tree: arrays or their shapes, as read from a checkpoint.
      like: a tree of shapes and dtypes.
      where: the checkpoint's name in the error.
      shapes: {name: shape without rows of zeros} of leaves that end in rows of zeros.
    Raises:
      InputError: names, shapes or dtypes differ, as in a checkpoint of another version of the program.
    """
    empty = {name: np.zeros(x.shape, x.dtype) for name, x in named(like).items() if x.size == 0}
    leaves, shapes = {**empty, **named(tree)}, shapes or {}
    found = {name: (tuple(shapes.get(name, x.shape)), x.dtype) for name, x in leaves.items()}
    wanted = {name: (x.shape, x.dtype) for name, x in named(like).items()}
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            raise InputError(
                f"{where}: {name} is {_spelt(found.get(name))}, expected {_spelt(wanted.get(name))}; it was made by "
                "another version of this program; use that version, or choose another --workdir"
            )
    return jax.tree_util.tree_map_with_path(lambda path, _: leaves[name_of(path)], like)


def fingerprint(folder: Path) -> str:
    """16 hex digits that identify the newest checkpoint in a folder; "" if there is none. Reads no arrays."""
    if not Path(folder).is_dir():
        return ""
    with Checkpoints(folder, read_only=True) as checkpoints:
        found = checkpoints.newest()
    text = json.dumps(found, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16] if found else ""


def begun(workdir: str | Path) -> bool:
    """Whether a run's folder has a checkpoint, intact or not."""
    return any(path.name.isdigit() for path in Path(workdir, "checkpoints").glob("*"))


class Checkpoints:
    """The checkpoints of one run's folder; close it, or use it in a `with` statement.

    Arrays on several devices are written in the blocks that the devices hold, by each process its own. Then all
    processes must save and restore at the same points of the program, in a folder that all of them see.

    Args:
      folder: of the checkpoints.
      read_only: nothing is created, renamed or deleted there.
    """

    def __init__(self, folder: Path, read_only: bool = False):
        self._folder, self._read_only = Path(folder).absolute(), read_only
        # Orbax's own `read_only` logs a warning. Without it nothing is written either, as long as nothing is saved.
        # Each process reads for itself: if one finds a damaged file, none waits for another.
        alone = processes.options()
        self._reader = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(create=False, **alone),
            item_handlers={"tree": ocp.PyTreeCheckpointHandler(**alone), "progress": ocp.JsonCheckpointHandler()},
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._reader.close()
        if "_writer" in vars(self):
            self._writer.close()

    @functools.cached_property
    def _writer(self) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2, enable_async_checkpointing=True, cleanup_tmp_directories=True, create=True
        )
        return ocp.CheckpointManager(self._folder, options=options)

    def save(self, step: int, tree: Any, progress: dict[str, Any], like: Any = None) -> None:
        """Copies the tree to the host and starts writing it, after the previous save has finished.

        Args:
          step: larger than any saved before.
          tree: arrays.
          progress: JSON values.
          like: a tree of shapes without the rows of zeros that make blocks equal; None if there are no such rows.
        Raises:
          ValueError: the checkpoints were opened read-only.
        """
        if self._read_only:
            raise ValueError(f"{self._folder}: was opened read-only, so step {step} cannot be saved")
        shapes = {name: tuple(x.shape) for name, x in named(tree if like is None else like).items()}
        # Orbax stores no array of size zero, such as the state after all seeds have stopped.
        tree = jax.tree.map(lambda x: x if x.size else None, tree)
        progress = {**progress, "checksum": checksum(tree, shapes)}
        tree = jax.tree.map(storage.ready, tree)
        if more := {name: shapes[name] for name, x in named(tree).items() if tuple(x.shape) != shapes[name]}:
            progress["shapes"] = more
        saved = ocp.args.StandardSave(tree, save_args=jax.tree.map(storage.save_args, tree))
        self._writer.save(step, args=ocp.args.Composite(tree=saved, progress=ocp.args.JsonSave(progress)))

    def wait(self) -> None:
        """Waits until everything is on disk."""
        if "_writer" in vars(self):
            self._writer.wait_until_finished()

    def restore(
        self, like: Callable[[dict[str, Any]], Any] | None = None, place: Callable[[Any], Any] | None = None
    ) -> tuple[Any, dict[str, Any]] | None:
        """The newest intact checkpoint and its progress; None if there is none.

        Newer damaged ones are reported and, once an intact one is found, renamed: their steps are trained again.

        Args:
          like: a function from progress to a tree of shapes and dtypes, which is the structure of the result; it
            depends on progress, which says how many seeds still train. None for nested dicts.
          place: a function from that tree to one with shardings and with the rows that make blocks equal; each process
            then reads what its devices hold, on whatever devices it was saved. None for host arrays.
        Raises:
          InputError: all checkpoints are damaged; one cannot be read and is not proved damaged; or one does not match
            `like`. Then nothing is renamed.
        """
        steps = self._steps()
        processes.check_same(str(steps), f"checkpoints in {self._folder}")
        if not steps:
            return None
        damaged: dict[int, str] = {}
        for step in steps:
            try:
                tree, progress = self._read_together(step, like, place)
            except Damaged as error:
                damaged[step] = reason(error)
                continue
            for newer, why in damaged.items():
                self._set_aside(newer, why, step)
            return tree, progress
        reasons = "; ".join(f"step {step}: {why}" for step, why in damaged.items())
        raise InputError(
            f"{self._folder}: all checkpoints are damaged ({reasons}); delete the run's folder to train again from "
            "the start"
        )

    def newest(self) -> dict[str, Any] | None:
        """The progress in the newest checkpoint, including its checksum; None if none can be read."""
        for step in self._steps():
            try:
                return dict(self._progress(step))
            except Exception as error:
                if not proves_damage(error):
                    raise
        return None

    def _steps(self) -> list[int]:
        """The steps that are on disk, the newest first."""
        self.wait()
        self._reader.reload()
        return sorted(self._reader.all_steps(), reverse=True)

    def _set_aside(self, step: int, reason: str, sound: int) -> None:
        """Renames a damaged checkpoint, unless the folder is only read, and prints a line about it."""
        says = f"{self._folder}: the checkpoint of step {step} is damaged ({reason})"
        if self._read_only:
            print(f"{says}; the checkpoint of step {sound} is read instead", flush=True)
            return
        names = itertools.chain([f"damaged-{step}"], (f"damaged-{step}-{i}" for i in itertools.count(2)))
        name = next(name for name in names if not (self._folder / name).exists())
        if processes.is_first():
            (self._folder / str(step)).rename(self._folder / name)
        print(
            f"{says}; it is renamed to {name}, and training continues from the checkpoint of step {sound}", flush=True
        )

    def _read_together(self, step: int, like: Any, place: Any) -> tuple[Any, dict[str, Any]]:
        """The arrays and the progress of a step, as they were saved; all processes return, or raise the same error.

        Raises:
          Damaged: a process cannot read its part, or the arrays are not those that were saved.
          InputError: a process cannot read its part, and this does not show damage; or the arrays are not like `like`.
        """
        where, error = f"{self._folder / str(step)}", None
        try:
            tree, progress, shapes = self._read(step, like, place)
        except InputError:
            raise
        except Exception as caught:  # Orbax and TensorStore raise many kinds of errors for a damaged file
            error = caught
        trouble = 0 if error is None else 1 if proves_damage(error) else 2
        worst = int(processes.gathered(np.array([trouble], np.int32)).max())
        if worst == 2:
            what = f"{type(error).__name__}: {reason(error)}" if trouble == 2 else "in another process"
            raise InputError(
                f"{where}: this checkpoint cannot be read ({what}); this does not show damage, so nothing was changed; "
                "check memory, disk and permissions, and run the same command again"
            ) from error
        if worst == 1:
            raise Damaged("in another process" if error is None else reason(error)) from error
        if checksum(tree, shapes) != progress.pop("checksum"):
            raise Damaged("its checksum differs")
        return tree if like is None else conform(tree, like(progress), where, shapes), progress

    def _read(self, step: int, like: Any, place: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Arrays in nested dicts, progress, and {name: shape without rows of zeros} of arrays that end in such rows.

        Raises:
          Damaged: a part is missing.
          InputError: the arrays do not match `like`, so they cannot be placed.
        """
        for item in ("tree", "progress"):
            if not (self._folder / str(step) / item).is_dir():
                raise Damaged(f"its folder {item!r} is missing")
        progress = self._progress(step)
        if not isinstance(progress, dict) or "checksum" not in progress:
            raise Damaged("its progress has no checksum")
        progress = dict(progress)
        shapes = {name: tuple(shape) for name, shape in progress.pop("shapes", {}).items()}
        stored = storage.shapes(self._reader.item_metadata(step)["tree"])
        if place is None:
            tree = self._arrays(step, stored, {})
            cut = lambda path, x: x[tuple(map(slice, shapes.get(name_of(path), x.shape)))]  # noqa: E731
            return jax.tree_util.tree_map_with_path(cut, tree), progress, {}
        wanted = like(progress)
        conform(stored, wanted, f"{self._folder / str(step)}", shapes)
        tree = self._arrays(step, stored, named(place(wanted)))
        return tree, progress, {name: tuple(x.shape) for name, x in named(wanted).items()}

    def _arrays(self, step: int, stored: Any, targets: Mapping[str, Any]) -> dict[str, Any]:
        """The arrays, in nested dicts: those in `targets` on devices, the others on the host."""
        how = ocp.args.PyTreeRestore(item=stored, restore_args=storage.restore_args(stored, targets))
        return self._reader.restore(step, args=ocp.args.Composite(tree=how))["tree"]

    def _progress(self, step: int) -> Any:
        return self._reader.restore(step, args=ocp.args.Composite(progress=ocp.args.JsonRestore()))["progress"]


def _spelt(found: tuple | None) -> str:
    return "absent" if found is None else f"{found[1]} of shape {found[0]}"
