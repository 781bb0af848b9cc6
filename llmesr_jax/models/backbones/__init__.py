"""Sequence encoders, one file each, found by its name (`--backbone=sasrec`).

A file has `Config`, `supervision`, `needs_padding` and `Backbone`; see docs/architecture.md.
"""

from llmesr_jax.core.plugins import Plugins

PLUGINS = Plugins("backbone", __name__)
