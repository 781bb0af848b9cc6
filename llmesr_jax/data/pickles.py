"""Reads NumPy arrays from untrusted pickles.

A pickle is a program: it may call anything that it names. This reader admits only the few names that NumPy writes for a
numeric array, and replaces each by a harmless function of this module. So no code of the file runs, and NumPy's own
state setters, which check nothing, do not run on its content. Any other name is refused before anything is called.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from llmesr_jax.core.errors import InputError

T = TypeVar("T")
_WANTED = "NumPy arrays of numbers only"
_NUMBER = re.compile(r"[<>=|]?([fiu][248]|[iub]1)")


def load_arrays(path: str | Path) -> np.ndarray:
    """The array of numbers (or nested list of numbers) that the pickle at `path` holds, in native byte order.

    Raises:
      InputError: the file is missing, unreadable, truncated, or holds anything but numbers.
    """
    return _load(Path(path), lambda tree: _native(np.asarray(_arrays(tree))))


def load_vectors(path: str | Path) -> np.ndarray | dict[Any, np.ndarray]:
    """As `load_arrays`, or the dict {id: array or list of numbers} that the pickle holds; ids are texts or numbers.

    Raises:
      InputError: see `load_arrays`.
    """

    def vectors(tree: Any) -> np.ndarray | dict[Any, np.ndarray]:
        if not isinstance(tree, dict):
            return _native(np.asarray(_arrays(tree)))
        if wrong := next((key for key in tree if not isinstance(key, (str, int, float, bytes, np.number))), None):
            raise _Refused(f"an id of type {type(wrong).__name__}")
        return {key: _native(np.asarray(_arrays(value))) for key, value in tree.items()}

    return _load(Path(path), vectors)


def load_object_npy(path: str | Path) -> np.ndarray:
    """The rows that an `.npy` file of Python objects holds, which is a header and a pickle: arrays of one length.

    Raises:
      InputError: see `load_arrays`.
    """

    def skip_header(file: Any) -> None:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        read(file)

    return _load(Path(path), lambda tree: _native(np.asarray(_arrays(tree))), skip_header)


def _load(path: Path, then: Callable[[Any], T], before: Callable[[Any], None] = lambda file: None) -> T:
    try:
        with path.open("rb") as file:
            before(file)
            tree = _ArrayUnpickler(file).load()
        return then(tree)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a pickle of {_WANTED}") from error
    except _Refused as error:
        raise InputError(
            f"{path}: refused, as it holds {error}; expected {_WANTED}; none of its code was run"
        ) from error
    # Damaged bytes may fail in any opcode, with any exception; each of them means the same to the user.
    except Exception as error:
        reason = f"{type(error).__name__}: {repr(str(error))[1:81]}"
        raise InputError(
            f"{path}: is a truncated or damaged pickle ({reason}); expected {_WANTED}; copy the file again"
        ) from error


class _Refused(Exception):
    """A name or a data type that the unpickler does not admit."""


class _Dtype:
    """Stands for a `numpy.dtype` while loading: a numeric type and its byte order."""

    def __init__(self, code: Any, *_: Any):
        self.is_object = code in ("O", "O8")
        if not self.is_object and (not isinstance(code, str) or not _NUMBER.fullmatch(code)):
            raise _Refused(f"data type {repr(code)[:40]}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for a `numpy.ndarray` while loading, until its shape and bytes are known."""

    array: np.ndarray | list

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, data = state
        if isinstance(dtype, _Dtype) and dtype.is_object and isinstance(data, list) and len(shape) == 1:
            self.array = data  # a list of further stand-ins, or of numbers
            return
        self.array = _frombuffer(data, dtype, shape, "F" if is_fortran else "C")


def _frombuffer(data: Any, dtype: Any, shape: tuple, order: str, axis_order: tuple | None = None) -> np.ndarray:
    if isinstance(dtype, _Dtype) and dtype.is_object:
        raise _Refused("data type 'O8'")
    if not isinstance(dtype, _Dtype) or not isinstance(data, (bytes, bytearray)):
        raise _Refused(f"an array made of {type(data).__name__}")
    flat = np.frombuffer(data, dtype.dtype)
    if order == "K" and axis_order is not None:
        return flat.reshape(shape).transpose(axis_order)
    return flat.reshape(shape, order=order)


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _scalar(dtype: _Dtype, data: bytes) -> np.generic:
    return _frombuffer(data, dtype, (), "C")[()]


def _encode(text: str, codec: str) -> bytes:
    if codec != "latin1":
        raise _Refused(f"codec {repr(codec)[:40]}")
    return text.encode("latin1")


def _empty_bytes() -> bytes:
    return b""


_NUMPY = {
    ("multiarray", "_reconstruct"): _reconstruct,
    ("multiarray", "scalar"): _scalar,
    ("numeric", "_frombuffer"): _frombuffer,  # protocol 5
}
_ADMITTED = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    # protocols 0 to 2 have no bytes of their own
    ("_codecs", "encode"): _encode,
    ("builtins", "bytes"): _empty_bytes,
    # `numpy.core` is NumPy 1, `numpy._core` NumPy 2
    **{(f"numpy.{core}.{module}", name): f for core in ("core", "_core") for (module, name), f in _NUMPY.items()},
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = "builtins" if module == "__builtin__" else module
        if (module, name) not in _ADMITTED:
            raise _Refused(repr(f"{module}.{name}")[1:-1])
        return _ADMITTED[module, name]


def _arrays(tree: Any) -> Any:
    """Replaces the stand-ins in nested lists and tuples; refuses anything that is not a number."""
    if isinstance(tree, _Array):
        return _arrays(tree.array) if isinstance(tree.array, list) else tree.array
    if isinstance(tree, (list, tuple)):
        # A list of plain numbers is checked in one pass: similar users are millions of them.
        return list(tree) if set(map(type, tree)) <= {int, float} else [_arrays(part) for part in tree]
    if isinstance(tree, (int, float, np.ndarray, np.number, np.bool_)):
        return tree
    raise _Refused(f"a value of type {type(tree).__name__}")


def _native(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiub":
        raise _Refused(f"data type {str(array.dtype)!r}")
    return array.astype(array.dtype.newbyteorder("="), copy=False)
