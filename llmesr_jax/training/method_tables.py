"""From the configuration of a run to the tables that its method makes itself."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect

from ml_collections import ConfigDict

from llmesr_jax.core import knobs
from llmesr_jax.core.errors import InputError
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.models import methods, recommender
from llmesr_jax.semantic import own_tables
from llmesr_jax.semantic.tables import Tables
from llmesr_jax.training import config as config_lib


def own(config: ConfigDict, corpus: Corpus) -> Tables:
    """What `tables` of the method's file makes; nothing, where its needs name no tables of its own.

    Raises:
      InputError: it makes others than its needs name, or they hold no finite numbers.
    """
    settings, name = config_lib.section(config, config.method), config.method
    kinds, module = recommender.needs(name, settings).own, methods.PLUGINS.load(name)
    if kinds and not hasattr(module, "tables"):
        raise InputError(
            f"method {name!r}: its needs name tables of its own ({', '.join(kinds)}), and its file has no function "
            "`tables` that makes them"
        )
    fixed = knobs.fixed(settings)
    wanted = own_tables.Own(
        method=name,
        kinds=kinds,
        make=lambda: module.tables(corpus, fixed),
        settings=dataclasses.asdict(fixed),
        version=getattr(module, "TABLES_VERSION", 1),
        source=hashlib.sha256(inspect.getsource(module).encode()).hexdigest() if kinds else "",
    )
    return own_tables.prepare(corpus, config_lib.section(config, "semantic"), wanted)
