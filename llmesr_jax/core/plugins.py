"""Plug-ins: files of a package, and modules of other installed packages, found by their names.

A new plug-in is one new file, with no list to edit: in the package of its kind, such as `llmesr_jax/models/losses/`, or
in a package of your own that names it under an entry point:

    [project.entry-points."llmesr_jax.backbones"]       # in pyproject.toml of your package
    mean = "my_package.mean"                            # the plug-in's name, and its module

What a module must have is the `typing.Protocol` beside `PLUGINS` in the package of its kind.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.metadata
import logging
import pkgutil
import sys
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from llmesr_jax.core import knobs
from llmesr_jax.core.errors import InputError
from llmesr_jax.core.nearest import not_known

P = TypeVar("P")
_SETTINGS = ("Config", "Options")  # a plug-in's dataclass of settings, where it has one


@dataclasses.dataclass(frozen=True)
class Plugins(Generic[P]):
    """The plug-ins of one kind: entry points, and the modules of a package whose names do not begin with "_".

    Attributes:
      kind: what messages call one of them, such as "backbone".
      package: the package's dotted name; a package makes its `Plugins("backbone", __name__, ...)`. The last part of the
        name is that of the entry points: "llmesr_jax.backbones".
      contract: the Protocol of a module: what it must have.
      form: an attribute whose value selects the Protocol, where a kind has several forms.
      forms: {value: Protocol}.
      parts: {attribute of the module: Protocol of it}, such as the methods of a class.
    """

    kind: str
    package: str
    contract: type[P] | None = None
    form: str = ""
    forms: Mapping[str, type] = dataclasses.field(default_factory=dict, hash=False)
    parts: Mapping[str, type] = dataclasses.field(default_factory=dict, hash=False)

    @property
    def group(self) -> str:
        """The entry-point group of this kind, through which installed packages add plug-ins."""
        return f"llmesr_jax.{self.package.rpartition('.')[2]}"

    def names(self) -> list[str]:
        """The names of all plug-ins of this kind, sorted. Nothing is imported.

        Raises:
          InputError: an installed package uses a name that is taken, or that is not a valid file name.
        """
        return sorted([*self._own(), *self._installed()])

    def load(self, name: str) -> P:
        """The module of one plug-in.

        Raises:
          InputError: no plug-in has this name (the message lists the known names), it cannot be imported, or it
            lacks an attribute that its kind must have.
        """
        if name in self._own():
            module: Any = importlib.import_module(f"{self.package}.{name}")
        elif found := self._installed().get(name):
            module = self._imported(found)
        else:
            raise InputError(not_known(self.kind, name, self.names()))
        _check(self, name, module)
        return module

    def modules(self) -> dict[str, P]:
        """{name: module} of all plug-ins of this kind, for code that needs every one.

        A broken installed package is left out with a warning, as the command may not need it;
        `load` of its name raises the same message as an error.

        Raises:
          InputError: see `names`; or a plug-in of this library is incomplete.
        """
        found = {}
        for name in self.names():
            try:
                found[name] = self.load(name)
            except InputError as error:
                if name in self._own():
                    raise
                logging.warning("%s; left out", error)
        return found

    def listing(self) -> str:
        """A line for each plug-in: its name, and the first line of its docstring."""
        found = {name: (module.__doc__ or "").strip().splitlines() for name, module in self.modules().items()}
        width = max(map(len, found))
        return "\n".join(f"{name:<{width}}  {next(iter(lines), '')}".rstrip() for name, lines in found.items())

    def _own(self) -> list[str]:
        """Names of the package's files; no module is imported."""
        found = pkgutil.iter_modules(sys.modules[self.package].__path__)
        return [module.name for module in found if not module.name.startswith("_")]

    def _installed(self) -> dict[str, importlib.metadata.EntryPoint]:
        found: dict[str, importlib.metadata.EntryPoint] = {}
        own = self._own()
        for point in _entry_points(self.group):
            where = f"entry point {point.name} of {_of(point)}, group {self.group}"
            if not point.name.isidentifier() or point.name.startswith("_"):
                raise InputError(
                    f"{where}: the name is not valid; expected letters, digits and _, as it also names settings; "
                    "rename it"
                )
            if point.name in own or point.name in found:
                taken = "this library" if point.name in own else _of(found[point.name])
                raise InputError(
                    f"{where}: {taken} already has a {self.kind} of this name; rename it, or uninstall one of them"
                )
            found[point.name] = point
        return found

    def _imported(self, point: importlib.metadata.EntryPoint) -> Any:
        try:
            return point.load()
        except Exception as error:  # whatever its module does while it is imported
            what = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
            raise InputError(
                f"{self.kind} {point.name!r}: {point.value} of {_of(point)} cannot be imported ({what}); check the "
                f"entry point and the package, or uninstall {_of(point)}"
            ) from error


@functools.cache
def _entry_points(group: str) -> tuple[importlib.metadata.EntryPoint, ...]:
    """The entry points of a group, each once: they are listed twice if sys.path contains a folder twice."""
    return tuple(dict.fromkeys(importlib.metadata.entry_points(group=group)))


def _of(point: importlib.metadata.EntryPoint) -> str:
    return f"package {point.dist.name}" if point.dist else "an installed package"


def members(contract: type) -> list[str]:
    """What a Protocol requires: its properties, which are plain attributes of a module, and its functions."""
    own = [name for name, value in vars(contract).items() if callable(value) or isinstance(value, property)]
    return [name for name in own if not name.startswith("_") or name == "__call__"]


def _check(plugins: Plugins, name: str, module: Any) -> None:
    """Raises InputError if a module lacks an attribute."""
    where = f"{plugins.kind} {name!r} ({getattr(module, '__file__', module)})"
    contract = plugins.contract
    if plugins.form and hasattr(module, plugins.form):
        value = getattr(module, plugins.form)
        if value not in plugins.forms:
            raise InputError(f"{where}: {plugins.form} is {value!r}; expected one of: {', '.join(plugins.forms)}")
        contract = plugins.forms[value]
    wanted = members(contract) if contract else [plugins.form]
    missing = [one for one in wanted if not hasattr(module, one)]
    for part, contract in plugins.parts.items():
        if isinstance(getattr(module, part, None), type):  # it may be a function that makes one
            missing += [f"{part}.{one}" for one in members(contract) if not _has(getattr(module, part), one)]
    if missing:
        raise InputError(f"{where}: lacks {', '.join(missing)}; docs/forking.md says what a {plugins.kind} must have")
    for attribute in _SETTINGS:
        cls = getattr(module, attribute, None)
        if cls is not None and (problem := knobs.problem(cls)):
            raise InputError(f"{where}: {attribute} {problem}")


def _has(cls: Any, name: str) -> bool:
    """Whether a class defines it; every class can be called, so `__call__` must be defined by the class itself."""
    if name == "__call__":
        return any("__call__" in vars(base) for base in cls.__mro__[:-1])
    return hasattr(cls, name)
