"""Loads a bundle: a trained model that works without its training set and without the code of its method.

The imports of this module need only jax, numpy and flatbuffers.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from llmesr_jax.core import files
from llmesr_jax.core.errors import InputError
from llmesr_jax.data import records
from llmesr_jax.serving import folders
from llmesr_jax.serving.catalogue import Catalogue
from llmesr_jax.serving.model import ServedModel
from llmesr_jax.serving.programs import Programs

MANIFEST = "manifest.json"
FORMAT = 1
_PLATFORMS = {"gpu": "cuda"}  # {name of a backend: its name in jax.export}


def load(folder: str | Path, *, check: bool = True) -> ServedModel:
    """Reads a bundle that `launch.export` made.

    Args:
      folder: the bundle.
      check: whether to read every file and compare it with its digest.
    Raises:
      InputError: it is not a bundle, a file is missing or damaged, or this version of jax cannot run it.
    """
    folder = Path(folder)
    folders.check_bundle(folder)
    folder = folder.resolve()  # a link may soon lead to another bundle
    manifest = read_manifest(folder)
    _check_files(folder, manifest, check)
    programs = Programs(
        {int(length): _program(folder / name, manifest) for length, name in manifest["programs"]["encode"].items()},
        _program(folder / manifest["programs"]["parts"], manifest),
        tuple(manifest["parts"]),
        _blockwise(folder, manifest) if "semantic" in manifest["programs"] else None,
        manifest["longest"],
    )
    ids, titles = _json(folder / "ids.json"), folder / "titles.json"
    count = len(ids)
    catalogue = Catalogue(
        ids,
        np.load(folder / "counts.npy"),
        np.load(folder / "tail.npy"),
        _json(titles) if titles.name in manifest["files"] else None,
        _Records(folder / "items.jsonl", count) if "items.jsonl" in manifest["files"] else None,
    )
    has_embeddings = "embeddings.npy" in manifest["files"]
    model = ServedModel(
        manifest["model"],
        catalogue,
        programs,
        jnp.asarray(np.load(folder / "views.npy")),
        np.load(folder / "items.npy"),
        np.load(folder / "embeddings.npy", mmap_mode="r") if has_embeddings else None,
    )
    if read_manifest(folder) != manifest:
        raise InputError(f"{folder}: was replaced by another bundle while it was being read; load it again")
    return model


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle.

    Raises:
      InputError: there is none, or another version wrote it.
    """
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        fits = isinstance(found, dict) and {"format", "files", "programs", "model"} <= found.keys()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not JSON"
        raise InputError(
            f"{path}: cannot be read ({reason}); expected a bundle, a folder made by launch.export"
        ) from error
    if not fits:
        raise InputError(f"{path}: is not the manifest of a bundle; expected a bundle, a folder made by launch.export")
    if found["format"] != FORMAT:
        raise InputError(
            f"{folder}: is a bundle of format {found['format']}, but this version reads format {FORMAT}; export it "
            f"again with this version, or load it with llmesr_jax {found['model'].get('llmesr_jax')}"
        )
    return found


def _check_files(folder: Path, manifest: Mapping[str, Any], digests: bool) -> None:
    for name, known in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise InputError(f"{path}: is missing from the bundle; copy the whole folder, or export it again")
        if path.stat().st_size != known["bytes"] or (digests and files.sha256(path) != known["sha256"]):
            raise InputError(f"{path}: is damaged or was changed; copy the bundle again, or export it again")


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def platform() -> str:
    """This machine's platform, by its name in jax.export."""
    return _PLATFORMS.get(jax.default_backend(), jax.default_backend())


def _program(path: Path, manifest: Mapping[str, Any]) -> Callable[..., Any]:
    """A compiled function from its file."""
    made = f"it was exported by jax {manifest['model']['jax']}, but this is jax {jax.__version__}"
    try:
        exported = jax.export.deserialize(bytearray(path.read_bytes()))
    except ImportError as error:
        raise InputError(f"{path}: reading it needs flatbuffers; run pip install flatbuffers") from error
    except Exception as error:  # jax has no type of its own for a version that it does not support
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:160]
        raise InputError(
            f"{path}: cannot be read by this jax ({reason}); {made}; install jax=={manifest['model']['jax']}, or "
            "export the bundle again with this jax"
        ) from error
    lowest = jax.export.minimum_supported_calling_convention_version
    highest = jax.export.maximum_supported_calling_convention_version
    if not lowest <= exported.calling_convention_version <= highest:
        raise InputError(
            f"{path}: has calling convention {exported.calling_convention_version}, but this jax supports {lowest} to "
            f"{highest}; {made}; install jax=={manifest['model']['jax']}, or export the bundle again with this jax"
        )
    if platform() not in exported.platforms:
        raise InputError(
            f"{path}: was exported for {', '.join(exported.platforms)}, but this machine is {platform()}; set "
            f"JAX_PLATFORMS=cpu, or export the bundle again with --platforms={platform()}"
        )
    return jax.jit(exported.call)


def _blockwise(folder: Path, manifest: Mapping[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    program = _program(folder / manifest["programs"]["semantic"], manifest)
    return blockwise(program, manifest["mapped"])


def blockwise(program: Callable[[np.ndarray], Any], size: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function (n, F) -> (n, D) of any number of rows, from a program for `size` rows."""

    def of_any(rows_nxF: np.ndarray) -> np.ndarray:
        found = []
        for start in range(0, len(rows_nxF), size):
            block = np.asarray(rows_nxF[start : start + size], np.float32)
            found.append(np.asarray(program(np.pad(block, ((0, size - len(block)), (0, 0)))))[: len(block)])
        return np.concatenate(found)

    return of_any


class _Records(Sequence):
    """The rows of the items' file, which is checked at the first use, and held until then and after it."""

    def __init__(self, path: Path, count: int):
        self._file, self._count = records.Held(path), count

    @functools.cached_property
    def _read(self) -> records.Records:
        return records.read(self._file, self._count)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self._read[index]

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self._read)
