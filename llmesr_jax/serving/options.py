"""The options of a call, checked, and the items that they allow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.nearest import did_you_mean
from llmesr_jax.serving import conditions
from llmesr_jax.serving.catalogue import Catalogue


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of a list.

    Attributes:
      k: items of a list.
      hide_seen: leave out the items of the history.
      allow: raw ids that may be recommended; None for all.
      deny: raw ids that must not be recommended.
      where: conditions on columns of the items' file, all of which must be met: `brand=Acme`, `price<20`, `title~tea`
        (contains).
      tail_share: from 0 to 1, the minimum share of tail items in a list, as far as there are enough.
      diversity: from 0, the best scores, to 1, items whose frozen embeddings differ from each other (maximal marginal
        relevance).
    """

    k: int = 10
    hide_seen: bool = True
    allow: Sequence[Any] | None = None
    deny: Sequence[Any] = ()
    where: Sequence[str] = ()
    tail_share: float = 0.0
    diversity: float = 0.0


class Allowed(NamedTuple):
    """The items that options allow.

    Attributes:
      items_V: bool mask of the allowed items; None if all are.
      tail_V: bool mask of the allowed tail items.
      on_device: both masks on the device, for `index.search`; None for a mask that is not needed.
    """

    items_V: np.ndarray | None
    tail_V: np.ndarray
    on_device: tuple[Any, Any]


def of_call(k: int, given: Mapping[str, Any]) -> Options:
    """The options of a call in Python.

    Raises:
      InputError: an option is not known.
    """
    known = [field.name for field in dataclasses.fields(Options)]
    if unknown := sorted(set(given) - set(known)):
        near = did_you_mean(unknown[0], known)
        raise InputError(f"{unknown[0]} is not an option of recommend; expected some of: {', '.join(known)}{near}")
    return Options(k=k, **given)


def check_whole(name: str, value: Any) -> None:
    """Raises InputError if the value is not a whole number from 1."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
        raise InputError(f"{name}={value!r}: is not valid; expected a whole number from 1")


def check(options: Options, catalogue: Catalogue, has_embeddings: bool) -> tuple[Options, Allowed]:
    """The options, and the items of the catalogue that they allow.

    Raises:
      InputError: an option is not valid, or no item is allowed.
    """
    check_whole("k", options.k)
    for name in ("tail_share", "diversity"):
        value = getattr(options, name)
        if not isinstance(value, (int, float, np.integer, np.floating)) or not 0 <= value <= 1:
            raise InputError(f"{name}={value!r}: is not valid; expected a number from 0 to 1")
    if options.diversity and not has_embeddings:
        raise InputError(
            "diversity: compares items by their frozen embeddings, but this model has none (data without texts, or a "
            "bundle made with --embeddings=False); leave diversity at 0"
        )
    where = (options.where,) if isinstance(options.where, str) else tuple(options.where or ())
    allow = options.allow if options.allow is None or isinstance(options.allow, str) else list(options.allow)
    deny = options.deny if isinstance(options.deny, str) else list(options.deny or ())  # a generator is read once
    options = dataclasses.replace(options, where=where, allow=allow, deny=deny)
    allowed_V = np.ones(len(catalogue), bool)
    if options.allow is not None:
        allowed_V &= catalogue.mask(options.allow, "allow")
    if options.deny:
        allowed_V &= ~catalogue.mask(options.deny, "deny")
    if options.where:
        allowed_V &= conditions.meet(catalogue, options.where)
    if not allowed_V.any():
        raise InputError("allow, deny and where leave no item to recommend; relax one of them")
    if allowed_V.all() and not options.tail_share:
        return options, Allowed(None, catalogue.tail_V, (None, None))
    tail_V = allowed_V & catalogue.tail_V
    return options, Allowed(allowed_V, tail_V, (jnp.asarray(allowed_V), jnp.asarray(tail_V)))
