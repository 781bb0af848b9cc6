"""Long-tail sequential recommendation with frozen LLM embeddings, in JAX and Flax.

    import llmesr_jax

    config = llmesr_jax.settings({"dataset": "demo", "method": "llmesr"})
    experiment = llmesr_jax.prepare(config)
    results = llmesr_jax.train(experiment)

Names are imported when they are first asked for: `import llmesr_jax` alone imports no JAX.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "InputError": "core.errors:InputError",
    "default_settings": "training.config:default",
    "settings": "training.config:build",
    "prepare": "training.experiment:prepare",
    "Experiment": "training.experiment:Experiment",
    "train": "training.loop:train",
    "load_run": "training.runs:load",
    "Run": "training.runs:Run",
    "evaluate": "training.runs:evaluate_run",
    "loss_fn": "models.recommender:loss_fn",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _PUBLIC[name].partition(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
