"""Folders of runs and bundles: messages for a wrong folder, with the one that was probably meant."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.nearest import did_you_mean

_SHOWN = 3
_DEPTH = 3  # levels below the given folder that are searched for the right one


class _Kind(NamedTuple):
    """A kind of folder: its name, the command that makes it, its flag, and the files that identify it."""

    name: str
    made: str
    named: str
    files: tuple[str, ...]

    def has(self, folder: Path) -> bool:
        return all((folder / file).is_file() for file in self.files)


_RUN = _Kind("the folder of a run", "made by launch.train", "--workdir, in Python load_run", ("config.json",))
_BUNDLE = _Kind(
    "a bundle", "a folder made by launch.export", "--bundle, in Python load_bundle", ("manifest.json", "views.npy")
)


def check_run(folder: Path) -> None:
    """Raises InputError if a folder is certainly not a run's."""
    _check(folder, _RUN, _BUNDLE)


def check_bundle(folder: Path) -> None:
    """Raises InputError if a folder is certainly not a bundle."""
    _check(folder, _BUNDLE, _RUN)


def _check(folder: Path, wanted: _Kind, other: _Kind) -> None:
    if (folder / wanted.files[0]).is_file():
        return
    todo = f"expected {wanted.name}, {wanted.made}"
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        there = [path.name for path in folder.parent.iterdir() if path.is_dir()] if folder.parent.is_dir() else []
        raise InputError(f"{folder}: {what}; {todo}{did_you_mean(folder.name, there)}")
    if other.has(folder):
        raise InputError(f"{folder}: is {other.name}; {todo}, or pass this folder as {other.named}")
    below = [path for depth in range(1, _DEPTH + 1) for path in sorted(folder.glob("*/" * depth)) if wanted.has(path)]
    if wanted.has(folder.absolute().parent):
        below = [folder.parent]
    if below:
        more = f" and {len(below) - _SHOWN} more" if len(below) > _SHOWN else ""
        todo = f"did you mean {' or '.join(map(str, below[:_SHOWN]))}{more}?"
    raise InputError(f"{folder}: is not {wanted.name} (it has no {wanted.files[0]}); {todo}")
