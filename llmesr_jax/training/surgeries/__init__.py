"""Gradient surgery: ways to combine the gradients of the loss's terms, one file each (`--config.train.surgery=pcgrad`).

Without a surgery, the optimiser gets the sum of the terms' gradients; with one, the result of `combine` in its file.
Gradients and values include the terms' weights. Such a file has the members of `Surgery`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from llmesr_jax.core.plugins import Plugins

if TYPE_CHECKING:
    from llmesr_jax.models.types import Array

NONE = "none"  # of train.surgery: the sum


class Terms(NamedTuple):
    """The terms of the loss in a step; gradients and values have the same order.

    Attributes:
      gradients: {term: gradient of weight times value, a tree like the parameters}.
      values: {term: weight times value, ()}.
      key: random key, a new one in each step.
    """

    gradients: Mapping[str, Any]
    values: Mapping[str, Array]
    key: Array


class Surgery(Protocol):
    """What the file of a surgery must have. Its functions are pure, and run under `vmap` over seeds."""

    @property
    def Config(self) -> type:
        """Frozen dataclass; every field a `knob(default, help)`, set as `--config.<file>.<field>`."""
        ...

    def init(self, config: Any, count: int, /) -> Any:
        """The state before the first step: a tree of arrays, which checkpoints keep.

        Args:
          config: the file's `Config`.
          count: the number of terms of the loss.
        """
        ...

    def combine(self, config: Any, terms: Terms, state: Any, /) -> tuple[Any, Any]:
        """Returns (the gradient for the optimiser, a tree like the parameters; the next state)."""
        ...


PLUGINS: Plugins[Surgery] = Plugins("surgery", __name__, Surgery)
