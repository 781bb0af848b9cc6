"""Keeps computed arrays on disk, each with a record of how it was made.

A folder of `.npy` files and one `manifest.json`:

    {"arrays":  {file: {made_by, version, parameters, inputs, sha256, shape, dtype, created}},
     "sources": {path: {size, mtime_ns, sha256}}}

An array is used again only if it was made by the same recipe from the same inputs, and its bytes are as they were
written. The cache never stops a run: an array that cannot be read is made again, and one that cannot be written is not
cached.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from llmesr_jax.core import files
from llmesr_jax.semantic.mapped import Access

_MANIFEST = "manifest.json"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What an array depends on. Equal recipes give equal arrays.

    Attributes:
      made_by: name of the function that computes it.
      version: of that function; it is raised when the function's results change.
      parameters: the function's settings.
      inputs: name of each input -> digest of its content.
    """

    made_by: str
    version: int
    parameters: Mapping[str, Any]
    inputs: Mapping[str, str]


def user_folder(name: str) -> Path:
    """The user's cache folder for a data set: below `XDG_CACHE_HOME`, else `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "llmesr_jax" / name


def first_writable(*folders: Path) -> Path | None:
    """The first folder that can be written to (or made); None if there is none.

    Makes no folder. Logs a message if it is not the first one.
    """
    for folder in folders:
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
            if folder != folders[0]:
                logging.warning("computed tables are cached in %s", folder)
            return folder
        logging.warning("%s: cannot be written, so computed tables are not cached there", folder)
    return None


@dataclasses.dataclass(frozen=True)
class Cache:
    """The cache in `folder`; with None, everything is computed every time.

    Attributes:
      folder: where the cache is.
      access: whether arrays are read or memory-mapped.
    """

    folder: Path | None
    access: Access = Access()

    def arrays(
        self, files: tuple[str, ...], recipe: Recipe, build: Callable[[], tuple[np.ndarray, ...]]
    ) -> tuple[np.ndarray, ...]:
        """The cached arrays, or those that `build` makes, which are then cached.

        Args:
          files: names of the arrays' files.
          recipe: of the arrays.
          build: () -> the arrays, in the order of `files`.
        """
        if self.folder is None:
            return build()
        wanted = json.loads(json.dumps(dataclasses.asdict(recipe)))
        entries = self._manifest()["arrays"]
        kept = [self._read(file, entries.get(file), wanted) for file in files]
        if all(array is not None for array in kept):
            return tuple(kept)
        built = build()
        entries = {file: wanted | self._write(file, array) for file, array in zip(files, built, strict=True)}
        self._record("arrays", entries)
        if self.access.mapped:  # if all were written, the arrays in memory are no longer needed
            mapped = [self._mapped(file, entries[file]["sha256"]) for file in files]
            return built if any(array is None for array in mapped) else tuple(mapped)
        return built

    def file_digests(self, checks: Mapping[Path, tuple[int, Callable[[], Any]]]) -> dict[Path, str]:
        """sha256 of the bytes of files, each of which is checked first.

        A file whose size, time of change and number of rows are as recorded is neither read nor checked again. Nothing
        is recorded before all files have passed.

        Args:
          checks: file -> (rows it must have, function that raises if the file is not as it should be).

        Raises:
          OSError: a file cannot be read. The checks may raise other errors.
        """
        known, digests, new = self._manifest()["sources"], {}, {}
        for path, (rows, check) in checks.items():
            stat = path.stat()
            key, seen = str(path.resolve()), {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "rows": rows}
            record = known.get(key)
            if not (isinstance(record, dict) and "sha256" in record and seen.items() <= record.items()):
                check()
                record = new[key] = seen | {"sha256": files.sha256(path)}
            digests[path] = record["sha256"]
        if new:
            self._record("sources", new)
        return digests

    def _read(self, file: str, entry: Any, wanted: dict) -> np.ndarray | None:
        """The array in `file`, or None if it is absent, of another recipe, or damaged."""
        if not isinstance(entry, dict) or not wanted.items() <= entry.items():
            return None
        if self.access.mapped:
            return self._mapped(file, entry.get("sha256"))
        try:
            content = (self.folder / file).read_bytes()
        except OSError as error:
            logging.warning("%s: cannot be read (%s); it is made again", self.folder / file, error.strerror)
            return None
        if hashlib.sha256(content).hexdigest() != entry.get("sha256"):
            return _changed(file)
        return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)

    def _mapped(self, file: str, sha256: Any) -> np.ndarray | None:
        """The array in `file`, not read; None if it is absent or damaged."""
        try:
            if not self.access.verified and files.sha256(self.folder / file) != sha256:
                return _changed(file)
            return np.load(self.folder / file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            logging.warning("%s: cannot be read (%s); it is made again", self.folder / file, type(error).__name__)
            return None

    def _write(self, file: str, array: np.ndarray) -> dict:
        content = io.BytesIO()
        np.lib.format.write_array(content, array, allow_pickle=False)
        self._replace(file, content.getbuffer())
        return {
            "sha256": hashlib.sha256(content.getbuffer()).hexdigest(),
            "shape": list(array.shape),
            "dtype": str(array.dtype),
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }

    def _manifest(self) -> dict[str, dict]:
        """The manifest; empty if it is absent or damaged, so that all arrays are made again."""
        empty = {"arrays": {}, "sources": {}}
        if self.folder is None:
            return empty
        try:
            manifest = json.loads((self.folder / _MANIFEST).read_bytes())
        except FileNotFoundError:
            return empty
        except (OSError, ValueError) as error:
            logging.warning("%s: cannot be read (%s); it is made again", self.folder / _MANIFEST, type(error).__name__)
            return empty
        whole = isinstance(manifest, dict) and all(isinstance(manifest.get(part), dict) for part in empty)
        return manifest if whole else empty

    def _record(self, part: str, entries: dict) -> None:
        if self.folder is not None:
            manifest = self._manifest()
            manifest[part].update(entries)
            self._replace(_MANIFEST, json.dumps(manifest, indent=1).encode())

    def _replace(self, file: str, content: bytes | memoryview) -> None:
        """Puts `content` in place in one step, so that a killed run leaves the old file or the new one."""
        temporary = self.folder / f".{file}.{os.getpid()}.tmp"  # another command may write the same file
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with files.replacing(self.folder / file, temporary) as out:
                out.write(content)
        except OSError as error:
            logging.warning("%s: is not cached (%s)", self.folder / file, error.strerror)


def _changed(file: str) -> None:
    """Warns that a file is not as it was written."""
    logging.warning("%s: was changed after it was written (sha256 differs from %s); it is made again", file, _MANIFEST)
