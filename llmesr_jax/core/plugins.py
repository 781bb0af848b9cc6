"""Plug-ins: files of a package, and modules of other installed packages, found by their names.

A new one is one new file, with no list to edit: in the package of its kind, such as `llmesr_jax/models/backbones/`, or
in a package of your own that names it under an entry point:

    [project.entry-points."llmesr_jax.backbones"]       # in pyproject.toml of your package
    mean = "my_package.mean"                            # the plug-in's name, and its module

What a module must have is the `typing.Protocol` that stands beside `PLUGINS` in the package of its kind.
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
    """The plug-ins of one kind: modules of a package but those whose name begins with "_", and entry points.

    Attributes:
      kind: what messages call one of them, such as "backbone".
      package: the package's dotted name; the package makes its own with `Plugins("backbone", __name__, ...)`. Its last
        part names the entry points: "llmesr_jax.backbones".
      contract: the Protocol of a module: what it must have.
      form: an attribute whose value says which Protocol that is, where a kind has several forms.
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
        """The name of the entry points by which installed packages bring plug-ins of this kind."""
        return f"llmesr_jax.{self.package.rpartition('.')[2]}"

    def names(self) -> list[str]:
        """The names of all of them, sorted. Nothing is imported.

        Raises:
          InputError: an installed package has a name that is taken, or that no file could have.
        """
        return sorted([*self._own(), *self._installed()])

    def load(self, name: str) -> P:
        """The module of one of them.

        Raises:
          InputError: there is none of this name, and the message lists the names there are; it cannot be imported; it
            lacks something that its kind must have.
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
        """{name: module} of all of them, for what cares about every one.

        An installed package that is broken is left out with a warning, since it may have nothing to do with what is
        asked for; `load` of its name says the same as an error.

        Raises:
          InputError: see `names`; a plug-in of this library that is not whole.
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
        """A line for each of them: its name, and the first line of its docstring."""
        found = {name: (module.__doc__ or "").strip().splitlines() for name, module in self.modules().items()}
        width = max(map(len, found))
        return "\n".join(f"{name:<{width}}  {next(iter(lines), '')}".rstrip() for name, lines in found.items())

    def _own(self) -> list[str]:
        """Files of the package; none of its modules is imported."""
        found = pkgutil.iter_modules(sys.modules[self.package].__path__)
        return [module.name for module in found if not module.name.startswith("_")]

    def _installed(self) -> dict[str, importlib.metadata.EntryPoint]:
        found: dict[str, importlib.metadata.EntryPoint] = {}
        own = self._own()
        for point in _entry_points(self.group):
            where = f"entry point {point.name} of {_of(point)}, group {self.group}"
            if not point.name.isidentifier() or point.name.startswith("_"):
                raise InputError(f"{where}: expected a name of letters, digits and _, as it names settings; rename it")
            if point.name in own or point.name in found:
                taken = "this library" if point.name in own else _of(found[point.name])
                raise InputError(f"{where}: {taken} has a {self.kind} of this name; rename it, or uninstall one")
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
    """Each once: a folder may stand twice in sys.path."""
    return tuple(dict.fromkeys(importlib.metadata.entry_points(group=group)))


def _of(point: importlib.metadata.EntryPoint) -> str:
    return f"package {point.dist.name}" if point.dist else "an installed package"


def members(contract: type) -> list[str]:
    """What a Protocol asks for: its properties, which a module has as plain attributes, and its functions."""
    own = [name for name, value in vars(contract).items() if callable(value) or isinstance(value, property)]
    return [name for name in own if not name.startswith("_") or name == "__call__"]


def _check(plugins: Plugins, name: str, module: Any) -> None:
    """Raises InputError for what a module lacks."""
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
        raise InputError(f"{where}: lacks {', '.join(missing)}; docs/forking.md says where to read what it must have")
    for attribute in _SETTINGS:
        cls = getattr(module, attribute, None)
        if cls is not None and (problem := knobs.problem(cls)):
            raise InputError(f"{where}: {attribute} {problem}")


def _has(cls: Any, name: str) -> bool:
    """Whether a class defines it; every class can be called, so `__call__` must be one of its own."""
    if name == "__call__":
        return any("__call__" in vars(base) for base in cls.__mro__[:-1])
    return hasattr(cls, name)
