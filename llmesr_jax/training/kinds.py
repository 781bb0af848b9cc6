"""The kinds of plug-ins."""

from __future__ import annotations

from typing import Any

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.nearest import not_known
from llmesr_jax.core.plugins import Plugins


def kinds() -> dict[str, Plugins[Any]]:
    """{name of a kind: its plug-ins}."""
    from llmesr_jax.data import importers
    from llmesr_jax.models import backbones, losses, methods
    from llmesr_jax.ranking import metrics
    from llmesr_jax.semantic import encoders
    from llmesr_jax.training import loggers, optimizers, surgeries

    found = (backbones, methods, losses, metrics, optimizers, surgeries, loggers, encoders, importers)
    return {module.PLUGINS.kind: module.PLUGINS for module in found}


def plugin(kind: str, name: str) -> Any:
    """The module of a plug-in, such as `plugin("method", "llmesr")`: to wrap it, or to use a part of it.

    Args:
      kind: backbone, method, loss, metric, optimizer, surgery, logger, encoder or importer.
      name: of the plug-in.
    Raises:
      InputError: an unknown kind or name, or an incomplete plug-in.
    """
    known = kinds()
    if kind not in known:
        raise InputError(not_known("kind of plug-in", kind, known))
    return known[kind].load(name)
