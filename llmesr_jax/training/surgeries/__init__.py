"""Gradient surgery: how a step combines the loss's terms' gradients, one file each (`--config.train.surgery=pcgrad`).

Without one, the optimiser gets the sum of the terms' gradients. With one, it gets what the file's `combine` makes of them.
Gradients and values carry the terms' weights. Such a file has the members of `Surgery`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from llmesr_jax.core.plugins import Plugins

if TYPE_CHECKING:
    from llmesr_jax.models.types import Array

NONE = "none"  # of train.surgery: the sum


class Terms(NamedTuple):
    """What a step knows of the loss's terms, in one order.

    Attributes:
      gradients: {term: tree like the parameters}, of weight times value.
      values: {term: weight times value, ()}.
      key: for random choices, new in each step.
    """

    gradients: Mapping[str, Any]
    values: Mapping[str, Array]
    key: Array


class Surgery(Protocol):
    """What the file of a surgery must have. All of it is pure, and runs under `vmap` over seeds."""

    @property
    def Config(self) -> type:
        """Frozen dataclass; every field a `knob(default, help)`, set as `--config.<file>.<field>`."""
        ...

    def init(self, config: Any, count: int, /) -> Any:
        """The state before the first step: a tree of arrays, which checkpoints keep.

        Args:
          config: the file's `Config`.
          count: how many terms the loss has.
        """
        ...

    def combine(self, config: Any, terms: Terms, state: Any, /) -> tuple[Any, Any]:
        """(the gradient that the optimiser gets, the next state)."""
        ...


PLUGINS: Plugins[Surgery] = Plugins("surgery", __name__, Surgery)
