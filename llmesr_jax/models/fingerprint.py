"""A digest of everything that a traced program depends on: values, functions and classes, this package, JAX, settings.

Values have the same digest in two processes only if the same program is traced from them. Where that cannot be
guaranteed, `Unknown` is raised: for functions and classes outside of the packages whose versions or sources are part of
`environment`, for objects that hide what they hold, and for this package while something in it is replaced from
outside.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import importlib
import importlib.metadata
import operator
import sys
import time
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

_ROOT = Path(__file__).resolve().parents[1]
_PACKAGE = __name__.partition(".")[0]
_VERSIONS = ("jax", "jaxlib", "flax", "optax", "numpy", "ml_dtypes")
_TRUSTED = (sys.stdlib_module_names | {_PACKAGE, *_VERSIONS}) - {"unittest", "__main__"}
# Other packages that the traced parts of this package import; they compute nothing inside a program.
_IMPORTED = ("absl", "etils", "ml_collections", "orbax", "polars", "scipy", "sklearn", "tqdm")
_TRACED = tuple(f"{_PACKAGE}.{part}." for part in ("core", "data", "models", "ranking", "training"))
_LOADED, _MARGIN = time.time(), 10.0  # seconds: a process loads its modules within the margin
_OF_THIS_PROCESS = (f"{__name__}._LOADED",)  # values of the package from which no program follows
_OF_STATES = (_PACKAGE, "flax", "optax")
_PLAIN = (type(None), bool, int, float, complex, str, bytes)
# JAX's settings with these words say where files are kept or what is printed, not what is traced.
_OF_NO_MATTER = ("cache", "dump", "log", "traceback", "distributed", "timeout", "address")


class Unknown(Exception):
    """The same digest in two processes would not guarantee that both trace the same program."""


def digest(value: Any) -> str:
    """Hex digest of a value: nested containers, dataclasses, arrays, classes, functions with what they close over.

    Raises:
      Unknown: it has a part that cannot be described.
    """
    sha = hashlib.sha256()
    for part in _parts(value, ()):
        part = part.encode() if isinstance(part, str) else part
        sha.update(len(part).to_bytes(8, "little") + part)
    return sha.hexdigest()


def environment() -> str:
    """A digest of everything that a program of this process depends on, except its arguments.

    Raises:
      Unknown: a function, class or value of this package was replaced by something from elsewhere.
    """
    settings = [(name, repr(getattr(jax.config, name, jax.config.values[name]))) for name in _settings()]
    return hashlib.sha256(repr((_fixed(), _devices(), settings, _as_loaded())).encode()).hexdigest()


def settings() -> tuple[Any, ...]:
    """JAX's settings that may change what is traced, in this thread: the part of `environment` that a process changes."""
    return _all_settings()(jax.config)


def class_of(name: str) -> type:
    """The NamedTuple or dataclass of this name, as in llmesr_jax.training.state:State.

    Raises:
      Unknown: it is neither of these, or of a package that defines no states.
      ImportError, AttributeError: there is nothing of this name.
    """
    module, _, path = name.partition(":")
    if module.partition(".")[0] not in _OF_STATES:
        raise Unknown(name)
    found = functools.reduce(getattr, path.split("."), importlib.import_module(module))
    if not isinstance(found, type) or not (dataclasses.is_dataclass(found) or hasattr(found, "_fields")):
        raise Unknown(name)
    return found


def _parts(x: Any, above: tuple[int, ...]) -> Iterable[str | bytes]:
    """The description of a value, piece by piece; `above`: the ids of the containers around it, against cycles."""
    if id(x) in above:
        yield f"again {len(above) - above.index(id(x))}"
        return
    within = (*above, id(x))
    if isinstance(x, enum.Enum):
        yield f"enum {_named(type(x))} {x.name}"
    elif type(x) in _PLAIN:
        yield f"{type(x).__name__} {x!r}"
    elif isinstance(x, (np.ndarray, np.generic, jax.Array)):
        array = np.asarray(x)
        yield f"array {type(x).__name__} {array.dtype} {array.shape}"
        yield array.tobytes()
    elif isinstance(x, np.dtype):
        yield f"dtype {x}"
    elif isinstance(x, Mapping):
        yield f"mapping {_named(type(x))} {len(x)}"
        for pair in x.items():
            yield from _parts(pair, within)
    elif isinstance(x, (tuple, list)):
        yield f"sequence {_named(type(x))} {len(x)}"
        for one in x:
            yield from _parts(one, within)
    elif isinstance(x, (set, frozenset)):
        yield f"set {len(x)}"
        yield from sorted(digest(one) for one in x)
    elif isinstance(x, type):
        yield f"class {_named(x)}"
    elif isinstance(x, functools.partial):
        yield "partial"
        yield from _parts((x.func, x.args, x.keywords), within)
    elif isinstance(x, types.FunctionType):
        yield f"function {_defined(x)}"
        yield x.__code__.co_code  # one line may hold two lambdas
        yield from _parts((x.__defaults__, x.__kwdefaults__), within)
        for cell in x.__closure__ or ():
            yield from _parts(cell.cell_contents, within)
    elif isinstance(x, types.MethodType):
        yield from _parts((x.__func__, x.__self__), within)
    elif isinstance(x, types.BuiltinFunctionType):
        yield f"builtin {_named(x)}"
    elif isinstance(x, types.ModuleType):
        yield f"module {_trusted(x.__name__)}"
    elif dataclasses.is_dataclass(x):
        yield f"dataclass {_named(type(x))}"
        for field in dataclasses.fields(x):
            if field.compare:  # a field that == ignores follows from the others
                yield from _parts((field.name, getattr(x, field.name)), within)
    elif callable(getattr(x, "__wrapped__", None)):
        yield f"wrapper {_named(type(x))}"
        yield from _parts(x.__wrapped__, within)
    else:
        raise Unknown(f"a value of {type(x)}")


def _named(x: Any) -> str:
    return f"{_trusted(x.__module__)}:{x.__qualname__}"


def _defined(x: types.FunctionType) -> str:
    """A function's module, name and line; the module as in its globals, for `functools.wraps` alters `__module__`."""
    module = x.__globals__.get("__name__")
    if not str(module).startswith("namedtuple_"):  # made by `collections`, with globals of its own
        _trusted(module)
    return f"{module}:{x.__qualname__}:{x.__code__.co_firstlineno}"


def _trusted(module: Any) -> str:
    if str(module).partition(".")[0] not in _TRUSTED:
        raise Unknown(f"something of {module}")
    return module


@functools.cache
def _fixed() -> tuple[str, ...]:
    """Versions, and a digest of this package's sources; computed once, because a process also loads them once.

    Raises:
      Unknown: a file changed so recently that this process may have loaded its previous version.
    """
    sha = hashlib.sha256()
    for path in sorted(_ROOT.rglob("*.py")):
        if path.stat().st_mtime > _LOADED - _MARGIN:
            raise Unknown(f"{path}, which changed while it was loaded")
        text = path.read_bytes()
        sha.update(f"{path.relative_to(_ROOT)} {len(text)}\n".encode() + text)
    return (sys.version, *(importlib.metadata.version(name) for name in _VERSIONS), sha.hexdigest())


@functools.cache
def _devices() -> tuple[str, str, int]:
    return jax.default_backend(), jax.devices()[0].device_kind, jax.device_count()


@functools.cache
def _all_settings() -> Callable[[Any], tuple[Any, ...]]:
    """Reads them from `jax.config`; its dictionary, which also has those that are no attributes, is slow."""
    return operator.attrgetter(*(name for name in _settings() if hasattr(jax.config, name)))


@functools.cache
def _settings() -> tuple[str, ...]:
    """Names of JAX's settings that may change what is traced."""
    return tuple(name for name in sorted(jax.config.values) if not any(word in name for word in _OF_NO_MATTER))


def _as_loaded() -> list[str]:
    """The current origin of each function, class and plain value of this package: sources do not show replaced ones."""
    found = []
    for module in [name for name in sorted(sys.modules) if f"{name}.".startswith(_TRACED)]:
        for name, value in vars(sys.modules[module]).items():
            if isinstance(value, type) and value.__module__ == module:
                found += [
                    f"{module}.{name}.{member}={_origin(one)}"
                    for member, one in vars(value).items()
                    if member != "__doc__"
                ]
            elif not name.startswith("__") and f"{module}.{name}" not in _OF_THIS_PROCESS:
                found.append(f"{module}.{name}={_origin(value)}")
    return found


def _origin(x: Any) -> str:
    """Where a function or class is defined, and what it wraps; a plain value itself; the type of anything else."""
    module = x.__globals__.get("__name__") if isinstance(x, types.FunctionType) else getattr(x, "__module__", None)
    if str(module).partition(".")[0] in _IMPORTED:
        return f"{module}:{getattr(x, '__qualname__', type(x).__qualname__)}"
    if isinstance(x, (staticmethod, classmethod, property)):
        return _origin(x.fget if isinstance(x, property) else x.__func__)
    if isinstance(x, types.FunctionType):
        inner = getattr(x, "__wrapped__", None)
        return _defined(x) + (f" of {_origin(inner)}" if inner is not None else "")
    if type(x) in _PLAIN:
        return repr(x)
    if isinstance(x, (set, frozenset)):
        return f"set {sorted(map(_origin, x))}"  # whose order differs from process to process
    if isinstance(x, (tuple, list)):
        return f"{type(x).__name__} {[*map(_origin, x)]}"
    if isinstance(x, dict):
        return f"dict {[(_origin(key), _origin(value)) for key, value in x.items()]}"
    if isinstance(x, (np.ndarray, jax.Array)):
        return digest(x)
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        return f"{_named(type(x))} {[_origin(getattr(x, field.name)) for field in dataclasses.fields(x)]}"
    return _named(x if isinstance(x, type) else type(x))
