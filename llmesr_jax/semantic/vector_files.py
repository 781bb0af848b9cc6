"""Reads files of vectors: matrices in order of id, and vectors by raw id.

| file | a matrix (rows, F) | by raw id |
| --- | --- | --- |
| `.npy` | an array | |
| `.pkl` | an array, or a list of lists | a dict {raw id: vector} |
| `.npz` | one array | one vector for each raw id, or two arrays: ids and vectors |
| `.safetensors` | one tensor | one vector for each raw id |
| `.parquet` | one column of lists | two columns: ids, and lists |

The first bytes decide a file's type, not its name. No code in a pickle is run (`data.pickles`).
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import pickles

_HAVE = "expected a .npy, .npz, .pkl, .safetensors or .parquet file of vectors"
_MOST_SHOWN = 3


class Found(NamedTuple):
    """The vectors of a file, in order of id.

    Attributes:
      array: float (rows, F).
      missing: for a file by raw id, the number of rows without a vector; they are zeros.
      of_nobody: for a file by raw id, the number of vectors that belong to no item or user.
    """

    array: np.ndarray
    missing: int = 0
    of_nobody: int = 0


def read(path: Path, raw_ids: Callable[[], Sequence[str] | None], kind: str) -> Found:
    """The vectors of a file, of a float type; a `.npy` file is memory-mapped.

    Args:
      path: the file.
      raw_ids: () -> the raw ids of all rows, in order of id, to match vectors by raw id; None if they are not known.
      kind: "items" or "users", for messages.

    Raises:
      InputError: the file cannot be read, contains anything else, or has no vector of any of the raw ids.
    """
    found = _read(path)
    if isinstance(found, Mapping):
        return _joined(path, found, raw_ids(), kind)
    return Found(as_floats(path, found))


def as_floats(path: Path, array: np.ndarray) -> np.ndarray:
    """Signed whole numbers and other floats as float32; float16, float32 and float64 stay as they are.

    Raises:
      InputError: the array has another type.
    """
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "f" and size in (2, 4, 8):
        return array
    if kind == "i" or array.dtype.name in ("bfloat16", "float8_e4m3fn", "float8_e5m2") or (kind == "f" and size > 8):
        with np.errstate(over="ignore"):
            return array.astype(np.float32)
    reasons = {
        "u": "these may be packed bits or quantised numbers, which must be unpacked first",
        "b": "these are bits",
        "c": "complex numbers have no single meaning here",
    }
    reason = reasons.get(kind, "these are not numbers")
    raise InputError(f"{path}: holds {array.dtype}; {reason}; save the array as float32")


def _read(path: Path) -> np.ndarray | Mapping[str, Any]:
    """An array, or {raw id: vector}."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
        if start[:6] == b"\x93NUMPY":
            return _npy(path)
        if start[:4] == b"PK\x03\x04":
            return _npz(path)
        if start[:4] == b"PAR1":
            return _parquet(path)
        if start[8:9] == b"{" or path.suffix == ".safetensors":
            return _safetensors(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {_HAVE}") from error
    if start[:1] == b"\x80" or path.suffix in (".pkl", ".pickle"):
        return pickles.load_vectors(path)
    raise InputError(
        f"{path}: is not a readable file of vectors ({repr(start[:8])}); {_HAVE}; write it with numpy.save"
    )


def _npy(path: Path) -> np.ndarray | Mapping[str, Any]:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        if "object" in str(error).lower():
            return pickles.load_object_npy(path)
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InputError(f"{path}: is not a readable .npy file ({reason}); write it with numpy.save") from error


def _npz(path: Path) -> np.ndarray | Mapping[str, Any]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, KeyError, AttributeError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InputError(f"{path}: is not a readable .npz file ({reason}); write it with numpy.savez") from error
    return _named(path, arrays)


def _named(path: Path, arrays: dict[str, np.ndarray]) -> np.ndarray | Mapping[str, Any]:
    """Named arrays as a matrix or by raw id."""
    if len(arrays) == 1 and next(iter(arrays.values())).ndim == 2:
        return next(iter(arrays.values()))
    if arrays and all(array.ndim == 1 and array.dtype.kind not in "US" for array in arrays.values()):
        return arrays
    flat = [name for name, array in arrays.items() if array.ndim == 1]
    wide = [name for name, array in arrays.items() if array.ndim == 2]
    if len(arrays) == 2 and len(flat) == len(wide) == 1:
        return _by_ids(path, arrays[flat[0]].tolist(), arrays[wide[0]])
    shapes = ", ".join(f"{name} {array.shape}" for name, array in list(arrays.items())[:_MOST_SHOWN])
    raise InputError(
        f"{path}: holds {len(arrays)} arrays ({shapes}); expected one (rows, width), one (width,) for each raw id, or "
        "ids and vectors"
    )


def _safetensors(path: Path) -> np.ndarray | Mapping[str, Any]:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise InputError(f"{path}: the package safetensors is not installed; run pip install safetensors") from error
    try:
        return _named(path, safetensors.numpy.load_file(path))
    except InputError:
        raise
    except Exception as error:  # SafetensorError, or a type that NumPy lacks
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise InputError(f"{path}: cannot be read as safetensors ({reason}); save the tensor as float32") from error


def _parquet(path: Path) -> np.ndarray | Mapping[str, Any]:
    import polars as pl

    try:
        table = pl.read_parquet(path)
    except Exception as error:  # of polars, of many kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise InputError(f"{path}: is not a readable Parquet file ({reason}); write the file again") from error
    lists = [name for name, kind in table.schema.items() if isinstance(kind, (pl.List, pl.Array))]
    others = [name for name in table.columns if name not in lists]
    if len(lists) != 1 or len(others) > 1:
        raise InputError(
            f"{path}: has the columns {', '.join(table.columns)[:120]}; expected one of lists of numbers, and one of "
            "raw ids, or rows in order of id"
        )
    column = table[lists[0]]
    widths = column.list.len() if isinstance(column.dtype, pl.List) else None
    if column.null_count() or (widths is not None and widths.n_unique() > 1) or not len(column):
        raise InputError(
            f"{path}: column {lists[0]!r} has lists of different lengths, or none; expected the same length in every "
            "row; write the file again"
        )
    inner = column.explode()
    if inner.null_count() or not inner.dtype.is_numeric():
        raise InputError(f"{path}: column {lists[0]!r} holds {inner.dtype}, or nulls; expected lists of numbers")
    vectors = inner.to_numpy().reshape(len(column), -1)
    return _by_ids(path, table[others[0]].to_list(), vectors) if others else vectors


def _by_ids(path: Path, ids: Sequence[Any], vectors: np.ndarray) -> Mapping[str, Any]:
    if len(ids) != len(vectors):
        raise InputError(
            f"{path}: has {len(ids)} ids and {len(vectors)} vectors; expected one vector for each id; write the file "
            "again"
        )
    found = dict(zip(map(raw_id, ids), vectors, strict=True))
    if len(found) != len(ids):
        raise InputError(
            f"{path}: {len(ids) - len(found)} ids appear twice; expected each id once; write the file again without "
            "the others"
        )
    return found


def raw_id(value: Any) -> str:
    """A raw id in the form that launch.prepare writes: a whole float as an integer."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def _joined(path: Path, found: Mapping[str, Any], raw_ids: Sequence[str] | None, kind: str) -> Found:
    """The vectors in order of id; zeros for missing ones."""
    if raw_ids is None:
        raise InputError(
            f"{path}: has vectors by raw id, but the raw ids of these {kind} are not known; expected "
            f"{kind.removesuffix('s')}_ids.txt, as launch.prepare writes it, or one array in order of id"
        )
    vectors = {raw_id(name): np.asarray(vector) for name, vector in found.items()}
    shapes = {vector.shape for vector in vectors.values()}
    if len(shapes) != 1 or len(shape := next(iter(shapes))) != 1 or not shape[0]:
        raise InputError(
            f"{path}: holds vectors of the shapes {sorted(shapes)[:_MOST_SHOWN]}; expected one width; embed all with "
            "the same model"
        )
    here = [name for name in raw_ids if name in vectors]
    if not here:
        raise InputError(
            f"{path}: none of its {len(vectors)} ids is among the {kind}: the file has {repr(next(iter(vectors)))}, "
            f"but {kind.removesuffix('s')} 1 is {repr(raw_ids[0])}; expected raw ids"
        )
    joined = np.zeros((len(raw_ids), shape[0]), as_floats(path, vectors[here[0]]).dtype)
    for row, name in enumerate(raw_ids):
        if name in vectors:
            joined[row] = as_floats(path, vectors[name])
    return Found(joined, len(raw_ids) - len(here), len(vectors) - len(set(here)))
