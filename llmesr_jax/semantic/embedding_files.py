"""Reads and checks embedding files in a data folder: `.npy`, or the pickles of the LLM-ESR release."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import handled
from llmesr_jax.data.pickles import load_arrays

_FILES = {"item_llm": "item_emb.npy", "user_llm": "user_emb.npy"}
_DERIVED_FROM = {"item_pca": "item_llm", "similar_users": "user_llm"}
_BLOCK = 4096  # rows that are checked together


def find(folder: Path) -> dict[str, Path]:
    """The existing files: "item_llm", "user_llm", "item_pca", "similar_users" -> path.

    A `.npy` file takes precedence over the pickle of the same table; then the table that the authors derived from that
    pickle is not used either.
    """
    files = {name: path for name, file in _FILES.items() if (path := folder / file).is_file()}
    for name, file in handled.FILES.items():
        path = folder / file
        superseded = name in files or files.get(_DERIVED_FROM.get(name), path).suffix == ".npy"
        if path.is_file() and not superseded:
            files[name] = path
    return files


def read_embedding(path: Path, rows: int, kind: str, command: str = "") -> np.ndarray:
    """(rows, F) float32: one finite vector per item or user, row 0 = id 1. A float32 `.npy` file is memory-mapped.

    Args:
      path: a `.npy` file (float16, 32 or 64) or a pickle of such an array.
      rows: rows it must have.
      kind: "items" or "users", for the messages.
      command: the command that makes missing rows, for the messages.

    Raises:
      InputError: the file contains anything else, or cannot be read.
    """
    return np.asarray(map_embedding(path, rows, kind, command), np.float32)


def map_embedding(path: Path, rows: int, kind: str, command: str = "") -> np.ndarray:
    """As `read_embedding`, but in the file's own type: float16, float32 or float64."""
    return checked(_open(path), path, rows, kind, command)


def open_embedding(path: Path, rows: int, kind: str) -> np.ndarray:
    """As `map_embedding`, for a file whose rows were checked before: only its shape is checked, and no row is read."""
    array = _open(path)
    _check_shape(array, path, rows, kind)
    return array


def checked(array: np.ndarray, path: Path, rows: int, kind: str, command: str = "") -> np.ndarray:
    """The array, in its own type, after the checks of `read_embedding`, which has the same arguments.

    Raises:
      InputError: it is not (rows, F), not float16, float32 or float64, or not finite as float32.
    """
    _check_shape(array, path, rows, kind, command)
    if array.dtype.kind != "f" or array.dtype.itemsize not in (2, 4, 8):
        raise InputError(
            f"{path}: holds {array.dtype}; expected float16, float32 or float64; save the array as one of these"
        )
    wrong, first = 0, 0
    for start in range(0, rows, _BLOCK):
        with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinity, which is reported below
            finite = np.isfinite(np.asarray(array[start : start + _BLOCK], np.float32)).all(axis=1)
        if not wrong and not finite.all():
            first = start + int(finite.argmin())
        wrong += len(finite) - int(finite.sum())
    if wrong:
        raise InputError(
            f"{path}: row {first} (id {first + 1}) holds NaN or infinity (as float32); in all, {wrong} of {rows} rows do; "
            f"expected finite numbers; embed these {kind} again"
        )
    return array


def read_similar_users(path: Path, num_users: int) -> np.ndarray:
    """(num_users, N) int32: rows (from 0) of each user's similar users, from the authors' pickle.

    Raises:
      InputError: the file contains anything else, or cannot be read.
    """
    array = _open(path)
    _check_shape(array, path, num_users, "users")
    if array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= num_users:
        raise InputError(
            f"{path}: holds {array.dtype} from {array.min()} to {array.max()}; expected user rows, integers from 0 to "
            f"{num_users - 1}; remove the file to compute them"
        )
    return array.astype(np.int32)


def _open(path: Path) -> np.ndarray:
    """The file's array; a `.npy` file is memory-mapped."""
    return load_arrays(path) if path.suffix == ".pkl" else _map_npy(path)


def _check_shape(array: np.ndarray, path: Path, rows: int, kind: str, command: str = "") -> None:
    if array.ndim != 2 or array.shape[1] == 0:
        raise InputError(f"{path}: has shape {array.shape}; expected ({rows}, width): one row for each of the {kind}")
    if len(array) != rows:
        extra = len(array) - rows
        hint = "; row 0 must be id 1: remove the rows of padding and mask ids" if extra in (1, 2) else ""
        hint = f"; make the missing rows with {command}" if command and extra < 0 else hint
        raise InputError(f"{path}: has {len(array)} rows; expected {rows}, one for each of the {kind}{hint}")


def _map_npy(path: Path) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InputError(f"{path}: is not a readable .npy file ({reason}); write it with numpy.save") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise InputError(f"{path}: is an .npz archive; expected one array; write the array with numpy.save")
    return array
