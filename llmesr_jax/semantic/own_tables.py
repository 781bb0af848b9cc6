"""The tables that a method makes itself, on the host; they are cached and digested like those of `tables`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from llmesr_jax.core.axes import Table
from llmesr_jax.core.errors import InputError
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.semantic.cache import Recipe
from llmesr_jax.semantic.sources import SemanticConfig, cache_of
from llmesr_jax.semantic.tables import Tables, copied, digest


class Own(NamedTuple):
    """The tables that a method makes itself, and what they depend on besides the interactions.

    Attributes:
      method: the method's name.
      kinds: {name of a table: what it is}.
      make: () -> {name: array}; a table over items has V + 2 rows, one over users U.
      settings: the method's settings.
      version: of the tables; it is raised when `make` computes something else.
      source: digest of the code of `make`, so that changed code makes the tables again.
    """

    method: str
    kinds: Mapping[str, Table]
    make: Callable[[], Mapping[str, np.ndarray]]
    settings: Mapping[str, Any]
    version: int
    source: str


def prepare(corpus: Corpus, config: SemanticConfig, own: Own) -> Tables:
    """A method's own tables, cached like the others.

    The recipe contains the content of tables of whole numbers or flags, which is the same on every machine. For tables
    of floats it contains what they were made from: interactions, settings, version and code.

    Raises:
      InputError: the tables are not those that the method's `needs` name as its own, or they contain anything but
        finite numbers and flags.
    """
    if not own.kinds:
        return Tables({}, "")
    names = tuple(sorted(own.kinds))

    def build() -> tuple[np.ndarray, ...]:
        made = {name: np.asarray(table) for name, table in own.make().items()}
        if made.keys() != own.kinds.keys():
            raise InputError(
                f"method {own.method!r}: `tables` made {sorted(made)}; expected those that its needs name as its own: "
                f"{list(names)}"
            )
        for name, table in made.items():
            _check_own(f"method {own.method!r}: its table {name}", table)
        return tuple(made[name] for name in names)

    recipe = Recipe(
        f"{own.method}.tables",
        own.version,
        {name: str(value) for name, value in own.settings.items()},
        {"interactions": corpus.digest, "code": own.source},
    )
    kept = cache_of(corpus, config).arrays(tuple(f"{own.method}_{name}.npy" for name in names), recipe, build)
    as_int32 = lambda x: x.astype(np.int32) if x.dtype.kind in "iu" else x  # noqa: E731
    arrays = {name: copied(as_int32(table)) for name, table in zip(names, kept)}
    described = f"{corpus.digest} version {own.version} {own.source} {sorted(recipe.parameters.items())}"
    exact = {name: table.dtype.kind != "f" for name, table in arrays.items()}
    inputs = {name: digest({name: table}) if exact[name] else described for name, table in arrays.items()}
    return Tables(arrays, hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest())


def _check_own(where: str, table: np.ndarray) -> None:
    limits = np.iinfo(np.int32)
    if table.dtype.kind not in "fiub":
        raise InputError(f"{where} holds {table.dtype}; expected numbers or flags")
    if table.dtype.kind == "f" and not np.isfinite(table).all():
        raise InputError(f"{where} holds numbers that are not finite; expected finite numbers")
    if table.dtype.kind in "iu" and table.size and (table.min() < limits.min or table.max() > limits.max):
        raise InputError(f"{where} holds {table.min()} to {table.max()}; expected 32-bit numbers")
