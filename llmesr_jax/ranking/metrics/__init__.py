"""Metrics of a ranking, one file each, found by its name; their means over groups of users.

Such a file has the members of `OfRanks` or `OfLists`. Larger is better, for all of them.

A rank is two counts over the target's competitors: `higher` scored above it and `tied` scored the same. Each
metric is its mean over all orders of the tied candidates, that is over ranks r = higher .. higher + tied (from 0):
a model that scores all items alike gets exactly what chance gets.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from llmesr_jax.core.plugins import Plugins

PROTOCOLS = ("full", "sampled")  # what the target is ranked among
CUTOFFS = (5, 10, 20)


class Lists(NamedTuple):
    """The lists of best items that one model has for the users of a split, under `full`.

    Attributes:
      best_V: uint8 (V,), the best place, from 1, of each item in any user's list of 20; 0 if it is in none.
      tail_V: bool (V,), tail items; row 0 is id 1.
      counts_V: int (V,), interactions of each item in training.
      top_ExK: int (E, 20) item ids, best first, 0 = none. None if a report computes the metric again, for another
        definition of tail items, from what a run stored: then a metric that needs it returns {}, and the report keeps
        the numbers of the run.
    """

    best_V: np.ndarray
    tail_V: np.ndarray
    counts_V: np.ndarray
    top_ExK: np.ndarray | None


class OfRanks(Protocol):
    """What the file of a metric must have if the metric is a mean over users."""

    @property
    def FROM(self) -> str:
        """The form of the metric: "ranks"."""
        ...

    @property
    def NAMES(self) -> tuple[str, ...]:
        """The names of its numbers, such as "N@5", "N@10" and "N@20"; no other metric may have these."""
        ...

    def values(self, higher: np.ndarray, tied: np.ndarray, /) -> Mapping[str, np.ndarray]:
        """{name: float64 (n,)} for each of n users.

        Args:
          higher: int64 (n,), candidates scored above the target.
          tied: int64 (n,), other candidates scored the same as the target.
        """
        ...


class OfLists(Protocol):
    """What the file of a metric must have if the metric is computed from all users' lists together.

    Its numbers are in results.json under `full`, in a group with the file's name.
    """

    @property
    def FROM(self) -> str:
        """The form of the metric: "lists"."""
        ...

    @property
    def NAMES(self) -> tuple[str, ...]:
        """The names of its numbers."""
        ...

    @property
    def SHOWN(self) -> Mapping[str, str]:
        """{name: its meaning in a few words} of the one or two numbers that tables and figures show."""
        ...

    @property
    def TITLE(self) -> str:
        """The title of its figure."""
        ...

    @property
    def CAPTION(self) -> str:
        """A sentence below the figure."""
        ...

    @property
    def SHARE(self) -> bool:
        """Whether the numbers are shares, from 0 to 1."""
        ...

    def values(self, lists: Lists, /) -> Mapping[str, float | None]:
        """{name: number}; None for a number that is not defined, as over no items."""
        ...


PLUGINS: Plugins[Any] = Plugins("metric", __name__, form="FROM", forms={"ranks": OfRanks, "lists": OfLists})


@functools.cache
def _modules(kind: str) -> dict[str, Any]:
    return {name: module for name, module in PLUGINS.modules().items() if kind == module.FROM}


@functools.cache
def names() -> tuple[str, ...]:
    """The numbers of all metrics that are means over users, such as "N@10"."""
    return tuple(name for module in _modules("ranks").values() for name in module.NAMES)


def lists() -> dict[str, OfLists]:
    """{name: module} of the metrics of all lists together."""
    return _modules("lists")


def from_ranks(higher: np.ndarray, tied: np.ndarray) -> dict[str, np.ndarray]:
    """Expected metrics of each user under a random order of the tied candidates.

    Args:
      higher: int (n,), candidates scored above the target.
      tied: int (n,), other candidates scored the same as the target.

    Returns:
      {metric: float64 (n,)} for every one of `names`.
    """
    first, same = np.asarray(higher, np.int64), np.asarray(tied, np.int64)
    found: dict[str, np.ndarray] = {}
    for module in _modules("ranks").values():
        values = module.values(first, same)
        found |= {name: values[name] for name in module.NAMES}
    return found


def from_lists(given: Lists) -> dict[str, dict[str, float | None]]:
    """{metric: {name: number}} for every one of `lists`."""
    return {name: dict(module.values(given)) for name, module in lists().items()}


def prefix_sums(terms: np.ndarray) -> np.ndarray:
    """(n + 1,): sums of the first 0 .. n terms, so that a sum over a range is a difference of two."""
    return np.concatenate([[0.0], np.cumsum(terms)])


def summarise(per_user: Mapping[str, np.ndarray], members: Mapping) -> dict:
    """Means of the metrics over each group of users.

    Args:
      per_user: {metric: float (n,)}.
      members: {group: bool (n,)}, or nested dicts of such.

    Returns:
      The nesting of `members`, with `{"count": users in the group, metric: mean, ...}` in place of each mask; the
      mean over an empty group is None.
    """
    values_MxN = np.stack(list(per_user.values()))

    def group_mean(mask: np.ndarray) -> dict:
        count = int(np.count_nonzero(mask))
        means = values_MxN[:, mask].mean(axis=1).tolist() if count else [None] * len(per_user)
        return {"count": count, **dict(zip(per_user, means))}

    def walk(node):
        return {name: walk(child) for name, child in node.items()} if isinstance(node, Mapping) else group_mean(node)

    return walk(members)
