"""Numeric settings as arguments of compiled programs: one program serves all alphas and learning rates.

A field made by `knob(..., traced=True)` reaches the loss and the optimiser as an array. Runs that differ only in such
numbers and in their seeds share a program, and can be lanes of one `vmap`. A number that is 0 switches something off,
possibly including a table that is then not needed; so it stays a plain 0, and makes another program.
"""

from __future__ import annotations

import hashlib
import json

from ml_collections import ConfigDict

from llmesr_jax.training import config as config_lib
from llmesr_jax.training import schema

_OF_A_RUN = ("workdir", "seeds", "start")


def numbers(config: ConfigDict) -> dict[str, float]:
    """{key: value} of the traced settings that the run uses, without those that are 0."""
    known = schema.settings()
    return {key: value for key, value in config_lib.used(config).items() if known[key].traced and value != 0}


def program(config: ConfigDict) -> str:
    """16 hex digits that are equal for runs that differ only in traced numbers, seeds, folder and start."""
    free = numbers(config)
    fixed = {k: v for k, v in config_lib.used(config).items() if k not in free and k not in _OF_A_RUN}
    text = json.dumps([fixed, sorted(free)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
