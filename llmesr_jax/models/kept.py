"""Traced programs, kept in a folder so that later runs need not trace them again.

JAX's own cache stores compiled code and finds it by the traced program, so every run has to trace first: seconds for a
training step. While that cache is on, `jit` stores the traced program too (`jax.export`), under a name made of
everything that it depends on: the sources of this package, the versions of its dependencies, the device, JAX's
settings, the static arguments (`models.fingerprint`), and the shapes of the arrays. A program whose dependencies cannot
be described with certainty, because of a plug-in from another package or a patched function, is traced in each run, as
by `jax.jit`. So are programs for several devices.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.export
import numpy as np

from llmesr_jax.core import files
from llmesr_jax.models import fingerprint
from llmesr_jax.models.fingerprint import Unknown

_FORMAT = 1
_BELOW = "llmesr_jax-traced"  # in the folder of JAX's own cache


def folder() -> Path | None:
    """Where programs are kept: below the folder of JAX's own cache.

    None while that cache is off or not on a disk, and while one of JAX's debugging settings (no jit, NaNs, infs, leaked
    tracers) needs the functions themselves.
    """
    config = jax.config
    cache = config.jax_compilation_cache_dir
    if not cache or not config.jax_enable_compilation_cache or "://" in cache:
        return None
    if config.jax_disable_jit or config.jax_debug_nans or config.jax_debug_infs or config.jax_check_tracer_leaks:
        return None
    return Path(cache, _BELOW)


def jit(
    function: Callable[..., Any] | None = None,
    *,
    static_argnames: Sequence[str] | str = (),
    donate_argnames: Sequence[str] | str = (),
) -> Any:
    """`jax.jit` whose programs are kept while JAX's own cache is on; a decorator, with or without arguments.

    Args:
      function: to be jitted.
      static_argnames, donate_argnames: as in `jax.jit`.
    """
    if function is None:
        return functools.partial(jit, static_argnames=static_argnames, donate_argnames=donate_argnames)
    return Kept(function, _names(static_argnames), _names(donate_argnames))


class Kept:
    """A jitted function whose programs are kept; `plain` is the function under `jax.jit`."""

    def __init__(self, function: Callable[..., Any], static: tuple[str, ...], donated: tuple[str, ...]):
        functools.update_wrapper(self, function)
        self.plain = jax.jit(function, static_argnames=static, donate_argnames=donated)
        self.lower, self.trace, self.eval_shape = self.plain.lower, self.plain.trace, self.plain.eval_shape
        self._signature = inspect.signature(function)
        self._static, self._donated = static, donated
        self._arrays = tuple(name for name in self._signature.parameters if name not in static)
        self._programs: dict[Any, _Program | None] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        where = folder()
        if where is None:
            return self.plain(*args, **kwargs)
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        static = {name: bound.arguments[name] for name in self._static}
        arrays = tuple(bound.arguments[name] for name in self._arrays)
        leaves, tree = jax.tree.flatten(arrays)
        if any(map(_of_no_single_device, leaves)):
            return self.plain(*args, **kwargs)
        types = tuple(map(jax.typeof, leaves))
        key = where, tuple(static.values()), tree, types
        if key not in self._programs:
            self._programs[key] = self._found(where, static, arrays, tree, types)
        program = self._programs[key]
        return self.plain(*args, **kwargs) if program is None else program.out.unflatten(program.call(*leaves))

    def _found(
        self, where: Path, static: Mapping[str, Any], arrays: tuple[Any, ...], tree: Any, types: tuple[Any, ...]
    ) -> _Program | None:
        """The program for arrays of these types: read, or traced and kept; None if it cannot be kept.

        Args:
          where: the folder.
          static: the static arguments, by name.
          arrays, tree, types: the other arguments; their tree; the types of its leaves.
        """
        counts = [len(jax.tree.leaves(one)) for one in arrays]
        donated = tuple(np.flatnonzero(np.repeat([name in self._donated for name in self._arrays], counts)).tolist())
        try:
            path = where / f"{self.__name__}-{self._digest(static, tree, types)}"
        except Unknown:
            return None
        found = _read(path)
        if found is None:
            try:
                found = self._traced(static, tree, types, donated)
            except Exception:  # the plain call ends in the same error, or can do what an export cannot
                return None
            _write(path, *found)
        return _Program.of(self.__name__, *found, donated)

    def _digest(self, static: Mapping[str, Any], tree: Any, types: tuple[Any, ...]) -> str:
        """Hex digest of everything that the program depends on."""
        described = tree.unflatten(f"{kind.dtype} {kind.shape} {kind.weak_type}" for kind in types)
        about = (_FORMAT, self.__module__, self.__qualname__, self._donated, fingerprint.environment())
        return fingerprint.digest((about, static, described))

    def _traced(
        self, static: Mapping[str, Any], tree: Any, types: tuple[Any, ...], donated: tuple[int, ...]
    ) -> tuple[jax.export.Exported, Any]:
        """The exported program on flat arguments, and the tree of its results."""
        out = None

        def flat(*leaves):
            nonlocal out
            found, out = jax.tree.flatten(self.__wrapped__(**dict(zip(self._arrays, tree.unflatten(leaves))), **static))
            return found

        flat.__name__ = self.__name__
        shapes = [jax.ShapeDtypeStruct(kind.shape, kind.dtype, weak_type=kind.weak_type) for kind in types]
        return jax.export.export(jax.jit(flat, donate_argnums=donated))(*shapes), out


class _Program(NamedTuple):
    """Attributes:
    call: takes the arrays of all arguments, and returns those of the results.
    out: the tree of the results.
    """

    call: Callable[..., Sequence[jax.Array]]
    out: Any

    @classmethod
    def of(cls, name: str, exported: jax.export.Exported, out: Any, donated: tuple[int, ...]) -> _Program:
        def call(*leaves):
            return exported.call(*leaves)

        call.__name__ = name  # as profiles and lists of programs show it
        return cls(jax.jit(call, donate_argnums=donated), out)


def _of_no_single_device(leaf: Any) -> bool:
    return isinstance(leaf, jax.core.Tracer) or (isinstance(leaf, jax.Array) and len(leaf.devices()) > 1)


def _names(names: Sequence[str] | str) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


# A file is one line of JSON, followed by the exported program.


def _write(path: Path, exported: jax.export.Exported, out: Any) -> None:
    """Stores a program; does nothing if its results have no JSON form or the folder cannot be written."""
    with contextlib.suppress(Unknown, OSError):
        tree = _to_json(out.unflatten(range(out.num_leaves)))
        payload = bytes(exported.serialize())
        head = {"format": _FORMAT, "sha256": hashlib.sha256(payload).hexdigest(), "out": tree}
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(path, path.with_name(f"{path.name}.{os.getpid()}.partial")) as file:
            file.write(json.dumps(head).encode() + b"\n" + payload)


def _read(path: Path) -> tuple[jax.export.Exported, Any] | None:
    """A stored program and the tree of its results; None if there is none, or its file is damaged."""
    try:
        head, _, payload = path.read_bytes().partition(b"\n")
        about = json.loads(head)
        if hashlib.sha256(payload).hexdigest() != about["sha256"]:
            return None
        os.utime(path)  # what was unused for longest is deleted first
        out = jax.tree.structure(_from_json(about["out"]))
        return jax.export.deserialize(bytearray(payload)), out
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, Unknown):
        return None


def _to_json(tree: Any) -> Any:
    """A tree with integers as leaves, as JSON: each container is a list of its kind and its contents."""
    if tree is None or isinstance(tree, int):
        return tree
    if type(tree) is dict and all(isinstance(key, str) for key in tree):
        return ["dict", {key: _to_json(value) for key, value in tree.items()}]
    if type(tree) in (tuple, list):
        return [type(tree).__name__, [_to_json(value) for value in tree]]
    kind = f"{type(tree).__module__}:{type(tree).__qualname__}"
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return [kind, {name: _to_json(getattr(tree, name)) for name in tree._fields}]
    if dataclasses.is_dataclass(tree) and all(f.metadata.get("pytree_node", True) for f in dataclasses.fields(tree)):
        return [kind, {field.name: _to_json(getattr(tree, field.name)) for field in dataclasses.fields(tree)}]
    raise Unknown(kind)


def _from_json(tree: Any) -> Any:
    """Inverse of `_to_json`."""
    if not isinstance(tree, list):
        return tree
    kind, held = tree
    values = [*map(_from_json, held.values() if isinstance(held, dict) else held)]
    if kind in ("tuple", "list"):
        return tuple(values) if kind == "tuple" else values
    named = dict(zip(held, values))
    return named if kind == "dict" else fingerprint.class_of(kind)(**named)
