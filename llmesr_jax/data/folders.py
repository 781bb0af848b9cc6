"""A folder that is made elsewhere and put in place whole, so that what has its name is never half written."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from llmesr_jax.core import locks


@contextlib.contextmanager
def workplace(target: Path) -> Iterator[Path]:
    """An empty folder beside `target` to build in, for this process alone; gone afterwards, whatever happens.

    What a killed command left there is removed first; if it was killed between the two steps of `replace`, the
    second one is undone.

    Raises:
      InputError: another process is building `target`.
    """
    work = target.with_name(f".{target.name}.partial")
    made = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _lock(target.with_name(f".{target.name}.lock"), target):
            _undo(target)
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            try:
                yield work
            finally:
                shutil.rmtree(work, ignore_errors=True)
    finally:
        for folder in made:
            with contextlib.suppress(OSError):  # not empty: it is needed
                folder.rmdir()


def replace(target: Path, built: Path, carry: bool, own: set[str]) -> Path | None:
    """Puts `built` in the place of `target`.

    Args:
      target: the folder's name; it may exist.
      built: a whole folder on the same disk.
      carry: whether what else lies in the old folder stays (as links to the same files); else the old folder is kept
        under another name.
      own: names in the old folder that are never carried.

    Returns:
      where the old folder is now; None if there was none, or nothing of it is missing.
    """
    if not target.exists():
        built.rename(target)
        return None
    if carry:
        for path in target.iterdir():
            if path.name not in own:
                if path.is_dir():
                    shutil.copytree(path, built / path.name, copy_function=_link, symlinks=True)
                else:
                    _link(path, built / path.name)
    old = _old(target)
    target.rename(old)
    built.rename(target)
    if carry or not any(old.iterdir()):
        shutil.rmtree(old)
        return None
    kept = next(p for n in range(1, 10_000) if not (p := target.with_name(f"{target.name}.before-{n}")).exists())
    old.rename(kept)
    return kept


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _undo(target: Path) -> None:
    """Finishes what a kill in `replace` left: the old folder goes back if there is no new one."""
    old = _old(target)
    if old.exists():
        if target.exists():
            kept = next(
                p for n in range(1, 10_000) if not (p := target.with_name(f"{target.name}.before-{n}")).exists()
            )
            old.rename(kept)
        else:
            old.rename(target)


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # a file system without links
        shutil.copy2(source, target, follow_symlinks=False)


@contextlib.contextmanager
def _lock(path: Path, target: Path) -> Iterator[None]:
    """Holds the lock file, which the system frees when the process ends, however that comes about."""
    held = locks.take(path, f"{target}: another command is at work on it; wait until it has ended")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows deletes no file that is open
            path.unlink(missing_ok=True)
        held.release()
