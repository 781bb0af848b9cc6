"""Methods, one file each, found by its name (`--method=llmesr`).

A file has `Config`, `needs` and `Method`; see docs/architecture.md.
"""

from llmesr_jax.core.plugins import Plugins

PLUGINS = Plugins("method", __name__)
