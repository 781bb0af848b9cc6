"""Builds a folder beside its place and moves it there when it is complete, so that it is never half written."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from llmesr_jax.core import locks


@contextlib.contextmanager
def workplace(target: Path) -> Iterator[Path]:
    """An empty folder beside `target` to build in, for this process alone; it is removed afterwards in any case.

    Leftovers of a killed command are removed first; if it was killed between the two steps of `replace`, the
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
      built: a complete folder on the same disk.
      carry: whether files of the old folder are kept in the new one (as links to the same files); else the old folder
        is kept under another name.
      own: names in the old folder that are never carried over.

    Returns:
      The old folder's new path; None if there was no folder or an empty one, or with `carry`.
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
    """Repairs what a kill within `replace` left: moves the old folder back, or keeps it beside the new one."""
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
    """Locks the lock file; the lock ends with the block or with the process, however that ends."""
    held = locks.take(path, f"{target}: another command is writing this folder; wait until it ends")
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows deletes no file that is open
            path.unlink(missing_ok=True)
        held.release()
