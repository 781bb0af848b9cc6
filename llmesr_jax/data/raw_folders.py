"""Finds the files of a source: in a folder, in its subfolders (one level), or in archives in any of these."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import archives
from llmesr_jax.data.raw_files import RawFile


class Place(NamedTuple):
    """A folder, on disk or in an archive.

    Attributes:
      name: of the folder; for the top folder of an archive, the archive's name.
      files: {name: (where it is, its size in bytes)}.
    """

    name: str
    files: dict[str, tuple[RawFile, int]]


def find(folder: Path, *names: str) -> RawFile | None:
    """The first of `names` in `folder`, else in its subfolders, else in archives in these; None if there is none.

    Archives (zip, tar, gzipped tar) are recognised by content, whatever their names.

    Raises:
      InputError: several folders or archives have such a file.
    """
    for level in places(folder):
        for name in names:
            found = [place.files[name][0] for place in level if name in place.files]
            if len(found) > 1:
                raise InputError(
                    f"{folder}: has {name} {len(found)} times ({', '.join(map(str, found[:3]))}); expected one; "
                    "set --raw_dir to the folder of the right one, or move the others"
                )
            if found:
                return found[0]
    return None


def places(folder: Path) -> Iterator[list[Place]]:
    """The places to search, in order: the folder; its subfolders (one level); all folders within archives in these."""
    here, below = [], []
    for path in _listing(folder):
        if path.is_file():
            here.append(path)
        elif path.is_dir() and not path.name.startswith((".", "_")):
            below.append((path.name, [file for file in _listing(path) if file.is_file()]))
    on_disk = [(folder.resolve().name, here), *below]
    yield [_on_disk(*on_disk[0])]
    yield [_on_disk(*of) for of in below]
    yield [place for _, paths in on_disk for path in paths for place in _in_archive(path)]


def _on_disk(name: str, paths: list[Path]) -> Place:
    return Place(name, {path.name: (RawFile(path), path.stat().st_size) for path in paths})


def _in_archive(path: Path) -> list[Place]:
    """The archive's folders; none if it is not an archive."""
    if not archives.is_archive(path):
        return []
    found: dict[tuple[str, str], Place] = {}
    for member, size in archives.members(path, path.stat().st_mtime_ns).items():
        at = PurePosixPath(member[-1])
        if "__MACOSX" not in at.parts:
            key = (member[0] if len(member) > 1 else "", str(at.parent))
            place = found.setdefault(key, Place(at.parent.name or path.name, {}))
            place.files[at.name] = (RawFile(path, *member), size)
    return list(found.values())


def check_folder(folder: Path, wanted: str) -> None:
    """Raises InputError if there is no such folder; `wanted` says what it must contain."""
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "no such folder"
        raise InputError(f"{folder}: {what}; expected {wanted}; set --raw_dir to the folder of the raw files")


def _listing(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}); choose another --raw_dir") from error
