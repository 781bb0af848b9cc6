"""`embeddings.json`, the manifest of the embedding files of a data folder; and writes these files atomically.

    {"made_by": {encoder, model, ..., item_template, user_template, crop, dtype}, "inputs": {name: digest},
     "appended": true (after --append), "counts": {...},
     "skipped": [{row, reason}] (if texts have no usable vector),
     "arrays": {file: {shape, dtype, sha256}}, "texts": sha256 of their digests, "notes": {...}, "created": ...,
     "libraries": {name: version}}

While the files are being replaced, it also has `"incomplete": true`.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llmesr_jax.core import commands, files
from llmesr_jax.core.errors import InputError
from llmesr_jax.data.splits import LEAVE_ONE_OUT

FILE = "embeddings.json"
ARRAYS = ("item_emb.npy", "user_emb.npy")
_LIBRARIES = ("llmesr-jax", "numpy", "scikit-learn", "openai", "sentence-transformers", "torch", "tiktoken")


def read(folder: Path) -> dict[str, Any] | None:
    """The manifest; None if there is none.

    Raises:
      InputError: the file cannot be read, or is not a manifest.
    """
    path = folder / FILE
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        found = error
    parts = ("made_by", "inputs", "arrays")
    if not isinstance(found, dict) or not all(isinstance(found.get(part), dict) for part in parts):
        raise InputError(f"{path}: is not a manifest of launch.embed; move it and the .npy files to another folder")
    return found


def check_usable(folder: Path, crop: bool, item_template: str) -> None:
    """Raises `InputError` if the files of `folder` do not belong together, or were made with other item prompts."""
    found = read(folder) or {"made_by": {}}
    if found.get("incomplete"):
        raise InputError(
            f"{folder}: launch.embed was stopped while it wrote the embeddings, so the files do not belong together; "
            "run the same launch.embed command again"
        )
    given = f"{folder / ARRAYS[0]}: existing embeddings"
    if crop and not found["made_by"].get("crop"):
        raise InputError(f"{given} cannot be cropped; use semantic.crop with semantic.encoder=tfidf")
    if item_template and item_template != found["made_by"].get("item_template"):
        raise InputError(
            f"{given} were not made with semantic.item_template; run `{commands.line('embed')}` with it, or use "
            "semantic.encoder=tfidf"
        )


def check_users(folder: Path, split: str) -> None:
    """Raises `InputError` if launch.embed made the users' rows from the training part of another split.

    Such rows may depend on items that are validation or test targets here.

    Args:
      split: name of this split (`splits.Split`).
    """
    found = read(folder)
    if found is None or not found["inputs"]:
        return
    made = found["inputs"].get("split", LEAVE_ONE_OUT)
    if made != split:
        raise InputError(
            f"{folder / ARRAYS[1]}: was made from the users' training items under another split ({made}; expected "
            f"{split}), and some of these may be test items here; run launch.embed again with the same --config.data "
            "settings as launch.train"
        )


class State(NamedTuple):
    """The state of a data folder, compared with the files to make.

    Attributes:
      folder: the folder.
      previous: its manifest; None without one.
      wanted: "made_by" and "inputs" of the new manifest.
      whole: whether the arrays are those of `previous`, byte for byte.
    """

    folder: Path
    previous: Mapping[str, Any] | None
    wanted: Mapping[str, Any]
    whole: bool

    @property
    def same(self) -> bool:
        """Whether the files are whole and were made by the same encoder and settings."""
        return self.whole and self.previous["made_by"] == self.wanted["made_by"]

    @property
    def up_to_date(self) -> bool:
        """Whether, in addition, all rows were made from the same data."""
        return self.same and self.previous["inputs"] == self.wanted["inputs"] and not self.previous.get("appended")

    def same_vectors(self, wording: Iterable[str]) -> bool:
        """Whether the files are whole, and equal texts would get the same vectors again.

        Args:
          wording: names of the settings that change only the texts; they may differ.
        """
        if not self.whole:
            return False
        made = [{k: v for k, v in m["made_by"].items() if k not in wording} for m in (self.previous, self.wanted)]
        return made[0] == made[1]

    def check(self, *, append: bool, overwrite: bool) -> None:
        """Raises `InputError` if the files must not be replaced, or, with `append`, not be extended."""
        previous, wanted = self.previous, self.wanted
        changed = _changes(previous["made_by"], wanted["made_by"]) if previous else ""
        if append:
            if previous and not changed:
                limits = [{"max_tokens": made["inputs"].get("most_tokens")} for made in (previous, wanted)]
                changed = _changes(*limits)
            if not self.whole:
                found = "damaged, or replaced" if previous else "absent, or not made by launch.embed"
                raise InputError(
                    f"{self.folder}: --append extends the files of launch.embed, but these are {found}; run without "
                    "--append"
                )
            if changed:
                raise InputError(
                    f"{self.folder}: --append needs the settings of the existing rows ({changed}; see {FILE}); set "
                    "these, or run without --append"
                )
            return
        there = [name for name in ARRAYS if (self.folder / name).exists()]
        stopped = previous is not None and previous.get("incomplete") and not changed
        if overwrite or stopped or not there:
            return
        if not self.whole:
            raise InputError(
                f"{self.folder / there[0]}: was not written by launch.embed, or was changed since; move the file to "
                "another folder, or use --overwrite"
            )
        if changed:
            raise InputError(
                f"{self.folder}: has embeddings made with other settings ({changed}); move the files to another "
                "folder, or use --overwrite"
            )


def look(folder: Path, wanted: Mapping[str, Any]) -> State:
    """The state of `folder`, compared with a manifest to be, `wanted`.

    Raises:
      InputError: its manifest cannot be read.
    """
    previous = read(folder)
    whole = previous is not None and not previous.get("incomplete") and _are_whole(folder, previous["arrays"])
    return State(folder, previous, wanted, whole)


def describes(folder: Path, path: Path) -> bool:
    """Whether a file is recorded in the manifest of `folder`, byte for byte."""
    made = read(folder)
    entry = made["arrays"].get(path.name) if made else None
    return bool(entry) and path.parent == folder and file_digest(path) == entry["sha256"]


def file_digest(path: Path) -> str | None:
    """sha256 of a file's bytes; None if it cannot be read."""
    try:
        return files.sha256(path)
    except OSError:
        return None


def _are_whole(folder: Path, arrays: Mapping[str, Any]) -> bool:
    return all(name in arrays and file_digest(folder / name) == arrays[name]["sha256"] for name in ARRAYS)


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    if "encoder" in names:  # the settings of two encoders cannot be compared
        names = ["encoder"]
    both = ((name, *("none" if x.get(name) is None else repr(x[name]) for x in (old, new))) for name in names[:3])
    return "; ".join(f"{name} is {there}, expected {wanted}" for name, there, wanted in both)


def write_array(path: Path, rows: int, blocks: Iterable[np.ndarray]) -> dict[str, Any]:
    """Writes a `.npy` file block by block. Not as a memory-mapped file: there, a full disk would kill the process.

    Args:
      path: the file.
      rows: of all blocks together.
      blocks: (n, F) each, of one type.

    Returns:
      shape, dtype and sha256, for the manifest.

    Raises:
      InputError: a number is not finite.
    """
    sha256, header = hashlib.sha256(), None
    with path.open("wb") as file:
        for block in blocks:
            if header is None:
                descr = np.lib.format.dtype_to_descr(block.dtype)
                header = {"descr": descr, "fortran_order": False, "shape": (rows, block.shape[1])}
                np.lib.format.write_array_header_1_0(_Hashed(file, sha256), header)
            if not np.isfinite(block).all():
                hint = "; float16 holds numbers up to 65504; run without --float16" if block.dtype == np.float16 else ""
                raise InputError(f"{path.name}: holds numbers that are not finite{hint}")
            _Hashed(file, sha256).write(np.ascontiguousarray(block).tobytes())
    return {"shape": list(header["shape"]), "dtype": str(np.dtype(header["descr"])), "sha256": sha256.hexdigest()}


def _libraries() -> dict[str, str]:
    """Versions of the libraries that may affect the numbers."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def partial(folder: Path, name: str) -> Path:
    """The file to which an array is written before it is moved into place."""
    return folder / f"{name}.partial"


def replace_files(folder: Path, made: Mapping[str, Any]) -> None:
    """Moves arrays that were written as `partial` files, and their manifest `made`, into place.

    After a kill, `finish` completes it.

    Raises:
      InputError: a file was changed or removed meanwhile.
    """
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    write(folder, {**made, "created": created, "libraries": _libraries(), "incomplete": True})
    finish(folder)
    if (read(folder) or {}).get("incomplete"):
        raise InputError(
            f"{folder}: files that were being written were changed or removed by another process; expected no other "
            "command in this folder; run the same command again"
        )


def finish(folder: Path) -> None:
    """Completes an interrupted `replace_files`, if all its files exist."""
    made = read(folder)
    if not made or not made.get("incomplete"):
        return
    for name, entry in made["arrays"].items():
        if file_digest(folder / name) != entry["sha256"]:
            if file_digest(partial(folder, name)) != entry["sha256"]:
                return
            partial(folder, name).replace(folder / name)
    write(folder, {key: value for key, value in made.items() if key != "incomplete"})
    remove_partials(folder)  # of arrays that did not change


def remove_partials(folder: Path) -> None:
    """Deletes leftover partial files."""
    for name in (*ARRAYS, FILE):
        partial(folder, name).unlink(missing_ok=True)


def write(folder: Path, made: Mapping[str, Any]) -> None:
    """Replaces the manifest atomically."""
    files.write_text(folder / FILE, json.dumps(made, indent=1, ensure_ascii=False) + "\n")


class _Hashed:
    """Writes to a file and a digest."""

    def __init__(self, file, sha256):
        self._file, self._sha256 = file, sha256

    def write(self, content: bytes) -> None:
        self._file.write(content)
        self._sha256.update(content)
