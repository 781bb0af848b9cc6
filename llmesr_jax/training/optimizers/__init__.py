"""Optimisers, one file each, found by its name (`--config.train.optimizer=adamw`), with the members of `Optimizer`.

A method may have its own optimiser, by a function `optimizer` in its file (`llmesr_jax.models.methods`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from llmesr_jax.core.plugins import Plugins

if TYPE_CHECKING:
    import optax


class Optimizer(Protocol):
    """What the file of an optimiser must have."""

    @property
    def Config(self) -> type:
        """Frozen dataclass; every field a `knob(default, help)`, set as `--config.<file>.<field>`."""
        ...

    def optimizer(self, config: Any, learning_rate: Any, /) -> optax.GradientTransformation:
        """Any optax transformation.

        Args:
          config: the file's `Config`.
          learning_rate: `train.learning_rate`: a number, or in training a traced array, because seeds and runs that
            train together may differ in it. So Python's `if` must not depend on it.
        """
        ...


PLUGINS: Plugins[Optimizer] = Plugins("optimizer", __name__, Optimizer)
