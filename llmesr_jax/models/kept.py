"""Traced programs, kept in a folder so that later runs need not trace them again.

JAX's own cache stores compiled code and finds it by the traced program, so every run has to trace first: seconds for a
training step. While that cache is on, `jit` stores the traced program too (`jax.export`), under a name made of
everything that it depends on: the sources of this package, the versions of its dependencies, the device, JAX's
settings, the static arguments (`models.fingerprint`), and the shapes of the arrays. A program whose dependencies cannot
be described with certainty, because of a plug-in from another package or a patched function, is traced in each run, as
by `jax.jit`. So are programs for several devices.

While that cache is on, a program that will be called can also be compiled `ahead`, in a thread: XLA leaves a part of the
cores idle while it compiles one program.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import inspect
import json
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.export
import numpy as np

from llmesr_jax.core import files
from llmesr_jax.core.spans import span
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
        self._programs: dict[Any, _Program | Future[_Program | None] | None] = {}
        _ALL.add(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        asked = self._asked(args, kwargs)
        if asked is None:
            return self.plain(*args, **kwargs)
        if asked.key not in self._programs:
            self._programs[asked.key] = self._found(asked)
        program = self._programs[asked.key]
        if isinstance(program, Future):
            with span("compile"):
                program = self._programs[asked.key] = program.result()
        return self.plain(*args, **kwargs) if program is None else program.out.unflatten(program.call(*asked.leaves))

    def ahead(self, *args: Any, **kwargs: Any) -> None:
        """Begins to trace and compile, in a thread, what a later call with such arguments needs.

        Does nothing where programs are not kept.

        Args: those of the call; arrays may be `jax.ShapeDtypeStruct`.
        """
        asked = self._asked(args, kwargs)
        if asked is None or asked.key in self._programs:
            return
        try:
            here = fingerprint.environment()
        except Unknown:
            return

        def compiled() -> _Program | None:
            # A setting of JAX may hold in the caller's thread alone; then the call traces for itself.
            return self._found(asked) if fingerprint.environment() == here else None

        self._programs[asked.key] = in_thread(compiled)

    def _asked(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Asked | None:
        """What a call asks for; None if its program is not kept."""
        where = folder()
        if where is None:
            return None
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        static = {name: bound.arguments[name] for name in self._static}
        arrays = tuple(bound.arguments[name] for name in self._arrays)
        leaves, tree = jax.tree.flatten(arrays)
        device = _default_device()
        if any(_is_elsewhere(leaf, device) for leaf in leaves):
            return None
        return _Asked(where, device, _SETTINGS.number(), static, arrays, leaves, tree, tuple(map(jax.typeof, leaves)))

    def _found(self, asked: _Asked) -> _Program | None:
        """The program that is asked for: read, or traced and kept; None if it cannot be kept."""
        where, _, _, static, arrays, _, tree, types = asked
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
        return _Program.of(self.__name__, *found, donated, types)

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
        return jax.export.export(jax.jit(flat, donate_argnums=donated))(*_shapes(types)), out

    def forget(self) -> None:
        """Drops the compiled programs; a later call reads them again."""
        self._programs.clear()


_ALL: weakref.WeakSet[Kept] = weakref.WeakSet()


def forget() -> None:
    """Drops all compiled programs that were kept, as `jax.clear_caches` drops those that JAX holds."""
    for one in _ALL:
        one.forget()


class _Settings:
    """Numbers the sets of JAX's settings that calls are made under; one number is quicker to look up than all of them."""

    def __init__(self):
        self._seen: list[tuple[Any, ...]] = []

    def number(self) -> int:
        now = fingerprint.settings()
        if now not in self._seen:
            self._seen.append(now)
        return self._seen.index(now)


_SETTINGS = _Settings()


class _Asked(NamedTuple):
    """A call.

    Attributes:
      where: the folder of the programs.
      device: that the call runs on.
      settings: the number of JAX's settings, see `_Settings`.
      static: the static arguments, by name.
      arrays, leaves, tree, types: the other arguments; their leaves, their tree, and the types of the leaves.
    """

    where: Path
    device: Any
    settings: int
    static: Mapping[str, Any]
    arrays: tuple[Any, ...]
    leaves: list[Any]
    tree: Any
    types: tuple[Any, ...]

    @property
    def key(self) -> Any:
        return self.where, self.device, self.settings, tuple(self.static.values()), self.tree, self.types


class _Program(NamedTuple):
    """Attributes:
    call: takes the arrays of all arguments, and returns those of the results.
    out: the tree of the results.
    """

    call: Callable[..., Sequence[jax.Array]]
    out: Any

    @classmethod
    def of(
        cls, name: str, exported: jax.export.Exported, out: Any, donated: tuple[int, ...], types: tuple[Any, ...]
    ) -> _Program:
        def call(*leaves):
            return exported.call(*leaves)

        call.__name__ = name  # as profiles and lists of programs show it
        # Compiled for types alone: JAX's cache would not find it again for arrays that say where they are.
        return cls(jax.jit(call, donate_argnums=donated).lower(*_shapes(types)).compile(), out)


class _Ahead:
    """The thread that compiles ahead, and the work that it has not finished.

    (A list in this module would be a part of `fingerprint.environment`; an object of a class is not.)
    """

    def __init__(self):
        self.begun: list[Future[Any]] = []

    @functools.cached_property
    def thread(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, thread_name_prefix="ahead")

    def submit(self, work: Callable[[], Any]) -> Future[Any]:
        future = self.thread.submit(work)
        self.begun = [one for one in (*self.begun, future) if not one.done()]
        return future


_AHEAD = _Ahead()


def in_thread(work: Callable[[], Any]) -> Future[Any]:
    """Begins the work in the thread that compiles ahead, after what that thread has to do already."""
    return _AHEAD.submit(work)


def is_compiling() -> bool:
    """Whether something is being compiled ahead. Python would wait for it before it exits."""
    return not all(one.done() for one in _AHEAD.begun)


def _shapes(types: tuple[Any, ...]) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(kind.shape, kind.dtype, weak_type=kind.weak_type) for kind in types]


def _default_device() -> Any:
    """The device for which a program is compiled: that of a setting of JAX, or this process's first one."""
    chosen = jax.config.jax_default_device
    return jax.local_devices()[0] if chosen is None else chosen


def _is_elsewhere(leaf: Any, device: Any) -> bool:
    """Whether an argument is an array on another device or on several, or a part of another program."""
    return isinstance(leaf, jax.core.Tracer) or (isinstance(leaf, jax.Array) and leaf.devices() != {device})


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
