"""Orbax checkpoints that survive a kill: asynchronous, checked when read, the newest two kept.

A checkpoint holds the training state and the best parameters of every seed (Orbax arrays) and the progress of the run
(JSON): never the frozen tables, of which `config.json` holds a digest. Each has a checksum. One that is proved damaged
is reported and renamed, and the one before it is used; an error that proves nothing, such as no memory, stops the run.
No checkpoint is deleted because it could not be read.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from llmesr_jax.core.errors import InputError
from llmesr_jax.training import processes


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
      where: the checkpoint's name in the error.
    Raises:
      InputError: it has other arrays, as a checkpoint of another version of the program.
    """
    empty = {name: np.zeros(x.shape, x.dtype) for name, x in _named(like).items() if x.size == 0}
    leaves = {**empty, **_named(tree)}
    found, wanted = ({name: (x.shape, x.dtype) for name, x in named.items()} for named in (leaves, _named(like)))
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            raise InputError(
                f"{where}: {name} is {_spelt(found.get(name))}, expected {_spelt(wanted.get(name))}; it was made by "
                "another version of this program; use that version, or choose another --workdir"
            )
    return jax.tree_util.tree_map_with_path(lambda path, _: leaves[_name(path)], like)


class Damaged(Exception):
    """A checkpoint was read and is not what was saved."""


# TensorStore's words for a file that is missing, too short or does not decode. It raises a plain ValueError that has no
# code, so its words are all there is; those are the names of absl's status codes, at the start of the message.
_STATES_OF_DAMAGE = re.compile("DATA_LOSS|OUT_OF_RANGE|NOT_FOUND|FAILED_PRECONDITION")


def proves_damage(error: BaseException) -> bool:
    """Whether an error while reading a checkpoint shows that its files are missing, truncated or altered.

    An error of memory, disk or permissions, anywhere in the chain of causes, does not: the files may be intact.
    """
    if isinstance(error, Damaged):
        return True
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    if any(_of_the_system(one) for one in chain):
        return False
    if isinstance(error, (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError)):
        return True
    return isinstance(error, ValueError) and _STATES_OF_DAMAGE.match(str(error)) is not None


def _of_the_system(error: BaseException) -> bool:
    """Whether memory, disk or permissions raised this error; a missing file counts as damage."""
    missing = (None, errno.ENOENT, errno.ENOTDIR)
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno not in missing):
        return True
    # TensorStore's errors have no errno, so it is read from the words.
    codes = [int(code) for code in re.findall(r"os_error_code='(\d+)'", str(error))]
    return (
        any(code not in missing for code in codes) or re.match("RESOURCE_EXHAUSTED|PERMISSION", str(error)) is not None
    )


def fingerprint(folder: Path) -> str:
    """16 hex digits of the content of the newest checkpoint in a folder; empty if there is none. Reads no arrays."""
    if not Path(folder).is_dir():
        return ""
    with Checkpoints(folder, read_only=True) as checkpoints:
        found = checkpoints.newest()
    text = json.dumps(found, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16] if found else ""


class Checkpoints:
    """The checkpoints of one run's folder; close it, or use it in a `with` statement.

    Args:
      folder: where they are.
      read_only: nothing is created, renamed or deleted there.
    """

    def __init__(self, folder: Path, read_only: bool = False):
        self._folder, self._read_only = Path(folder).absolute(), read_only
        if read_only:
            # Orbax' own `read_only` logs a warning. Without it nothing is written either, as long as nothing is saved.
            options = ocp.CheckpointManagerOptions(create=False, **processes.options())
        else:
            options = ocp.CheckpointManagerOptions(
                max_to_keep=2,
                enable_async_checkpointing=True,
                cleanup_tmp_directories=True,
                create=jax.process_count() == 1,  # with several processes the folder is there, see `open_workdir`
                **processes.options(),
            )
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
        Raises:
          ValueError: they were opened read-only.
        """
        if self._read_only:
            raise ValueError(f"{self._folder}: was opened read-only, so step {step} cannot be saved")
        # Orbax stores no array of size zero, such as the state of no seed, after all have stopped.
        tree = jax.tree.map(lambda x: x if x.size else None, jax.device_get(tree))
        progress = {**progress, "checksum": checksum(tree)}
        args = ocp.args.Composite(tree=ocp.args.StandardSave(tree), progress=ocp.args.JsonSave(progress))
        self._manager.save(step, args=args)

    def wait(self) -> None:
        """Waits until everything is on disk."""
        self._manager.wait_until_finished()

    def restore(self, like: Callable[[dict[str, Any]], Any] | None = None) -> tuple[Any, dict[str, Any]] | None:
        """The newest intact checkpoint, as host arrays, and its progress; None if there is none.

        Newer damaged ones are reported and, after an intact one is found, renamed: their steps are trained again.

        Args:
          like: a function from progress to a tree of shapes and dtypes, which gives the result its structure: how many
            seeds still train is known only then. None for nested dicts.
        Raises:
          InputError: there are checkpoints and all are damaged; one cannot be read and is not proved damaged; or a
            sound one is not like `like`. Then all are left as they are.
        """
        self.wait()
        steps = sorted(self._manager.all_steps(), reverse=True)
        if not steps:
            return None
        damaged: dict[int, str] = {}
        for step in steps:
            try:
                tree, progress = self._read(step)
            except Exception as error:  # Orbax and TensorStore raise all kinds for a damaged file
                reason = (str(error) or repr(error)).splitlines()[0][:120]
                if not proves_damage(error):
                    raise InputError(
                        f"{self._folder / str(step)}: this checkpoint cannot be read ({type(error).__name__}: "
                        f"{reason}); this does not show damage, so nothing was changed; check memory, disk and "
                        "permissions, and run the same command again"
                    ) from error
                damaged[step] = reason
                continue
            if like is not None:
                tree = conform(tree, like(progress), f"{self._folder / str(step)}")
            for newer, reason in damaged.items():
                self._set_aside(newer, reason, step)
            if damaged and not self._read_only:
                self._manager.reload()
            return tree, progress
        reasons = "; ".join(f"step {step}: {reason}" for step, reason in damaged.items())
        raise InputError(
            f"{self._folder}: all checkpoints are damaged ({reasons}); delete the run's folder to train again from "
            "the start"
        )

    def newest(self) -> dict[str, Any] | None:
        """The progress in the newest checkpoint, including its checksum; None if none can be read."""
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                args = ocp.args.Composite(progress=ocp.args.JsonRestore())
                return dict(self._manager.restore(step, args=args)["progress"])
            except Exception as error:
                if not proves_damage(error):
                    raise
        return None

    def _set_aside(self, step: int, reason: str, sound: int) -> None:
        """Renames a damaged checkpoint, unless the folder is only read, and prints a line about it."""
        says = f"{self._folder}: the checkpoint of step {step} is damaged ({reason})"
        if self._read_only:
            print(f"{says}; the checkpoint of step {sound} is read instead", flush=True)
            return
        names = itertools.chain([f"damaged-{step}"], (f"damaged-{step}-{i}" for i in itertools.count(2)))
        name = next(name for name in names if not (self._folder / name).exists())
        (self._folder / str(step)).rename(self._folder / name)
        print(
            f"{says}; it is renamed to {name}, and training continues from the checkpoint of step {sound}", flush=True
        )

    def _read(self, step: int) -> tuple[dict[str, Any], dict[str, Any]]:
        for item in ("tree", "progress"):
            if not (self._folder / str(step) / item).is_dir():
                raise Damaged(f"its folder {item!r} is missing")
        args = ocp.args.Composite(tree=ocp.args.StandardRestore(), progress=ocp.args.JsonRestore())
        found = self._manager.restore(step, args=args)
        progress = found["progress"]
        if not isinstance(progress, dict) or "checksum" not in progress:
            raise Damaged("its progress has no checksum")
        tree, progress = jax.tree.map(np.asarray, found["tree"]), dict(progress)
        if checksum(tree) != progress.pop("checksum"):
            raise Damaged("its checksum differs")
        return tree, progress


def _named(tree: Any) -> dict[str, Any]:
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _spelt(found: tuple | None) -> str:
    return "absent" if found is None else f"{found[1]} of shape {found[0]}"
