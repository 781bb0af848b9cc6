"""Plug-ins: files of a package, found by their names. A new one is one new file, with no list to edit."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import types
from typing import NamedTuple

from llmesr_jax.core.errors import InputError


class Plugins(NamedTuple):
    """The plug-ins of one kind: the modules of a package, but those whose name begins with "_".

    Attributes:
      kind: what messages call one of them, such as "backbone".
      package: the package's dotted name; the package makes its own with `Plugins("backbone", __name__)`.
    """

    kind: str
    package: str

    def names(self) -> list[str]:
        """The names of all of them, sorted."""
        found = pkgutil.iter_modules(sys.modules[self.package].__path__)
        return sorted(module.name for module in found if not module.name.startswith("_"))

    def load(self, name: str) -> types.ModuleType:
        """The module of one of them.

        Raises:
          InputError: there is none of this name; the message lists the names there are.
        """
        known = self.names()
        if name not in known:
            raise InputError(f"{self.kind} {name!r} is not known; wanted one of: {', '.join(known)}")
        return importlib.import_module(f"{self.package}.{name}")

    def listing(self) -> str:
        """A line for each of them: its name, and the first line of its docstring."""
        found = {name: (self.load(name).__doc__ or "").strip().splitlines() for name in self.names()}
        width = max(map(len, found))
        return "\n".join(f"{name:<{width}}  {next(iter(lines), '')}".rstrip() for name, lines in found.items())
