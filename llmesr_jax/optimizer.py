"""The optimiser: Adam, as in both papers."""

from __future__ import annotations

import optax


def adam(learning_rate: float) -> optax.GradientTransformation:
    """Adam with optax's (and PyTorch's) defaults: betas 0.9 and 0.999, epsilon 1e-8."""
    return optax.adam(learning_rate)
