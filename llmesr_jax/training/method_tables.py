"""The tables that a run's method makes itself."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import inspect
from types import ModuleType

from ml_collections import ConfigDict

from llmesr_jax.core import knobs
from llmesr_jax.core.errors import InputError
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.models import methods, recommender
from llmesr_jax.semantic import own_tables
from llmesr_jax.semantic.tables import Tables
from llmesr_jax.training import config as config_lib


def own(config: ConfigDict, corpus: Corpus) -> Tables:
    """The tables that `tables` of the method's file makes; none if its needs name no tables of its own.

    Raises:
      InputError: the file has no such function; it makes other tables than its needs name; or a number is not finite.
    """
    settings, name = config_lib.section(config, config.method), config.method
    kinds, module = recommender.needs(name, settings).own, methods.PLUGINS.load(name)
    if kinds and not hasattr(module, "tables"):
        raise InputError(
            f"method {name!r}: its needs name own tables ({', '.join(kinds)}), but its file has no function "
            "`tables` that makes them; add one (docs/forking.md)"
        )
    fixed = knobs.fixed(settings)
    wanted = own_tables.Own(
        method=name,
        kinds=kinds,
        make=lambda: module.tables(corpus, fixed),
        settings=dataclasses.asdict(fixed),
        version=getattr(module, "TABLES_VERSION", 1),
        source=source_of(module) if kinds else "",
    )
    return own_tables.prepare(corpus, config_lib.section(config, "semantic"), wanted)


def source_of(module: ModuleType) -> str:
    """Digest of the code that makes a method's tables: `tables`, and what it uses of its own file, directly or not.

    Comments, docstrings and formatting do not matter. Code in other files is not included: `TABLES_VERSION` is for
    that.
    """
    parts: dict[str, ast.stmt] = {}
    for part in ast.parse(inspect.getsource(module)).body:
        if isinstance(part, (ast.FunctionDef, ast.ClassDef)):
            parts[part.name] = part
        elif isinstance(part, (ast.Assign, ast.AnnAssign)):
            targets = part.targets if isinstance(part, ast.Assign) else [part.target]
            names = [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
            parts |= dict.fromkeys(names, part)
    used, ahead = set(), ["tables"]
    while ahead:
        name = ahead.pop()
        if name in parts and name not in used:
            used.add(name)
            ahead += [node.id for node in ast.walk(parts[name]) if isinstance(node, ast.Name)]
    code = "\n".join(f"{name} {ast.dump(_without_docstrings(parts[name]))}" for name in sorted(used))
    return hashlib.sha256(code.encode()).hexdigest()


def _without_docstrings(tree: ast.stmt) -> ast.stmt:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree
