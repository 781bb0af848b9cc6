"""Makes flags of the settings of all encoders, and reads the flags of one encoder."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from llmesr_jax.core import knobs
from llmesr_jax.core.errors import InputError
from llmesr_jax.core.nearest import did_you_mean
from llmesr_jax.semantic import encoders

from . import setting_flags


def define(taken: Collection[str]) -> None:
    """Defines a flag for each field of each encoder's `Config`; fields with the same name share a flag."""
    setting_flags.define(setting_flags.shared(_configs(), taken), optional=True)


def config(encoder: str) -> Any:
    """The `Config` of an encoder from the command line.

    Raises:
      InputError: no such encoder, a flag of another one, or a value that is not allowed.
    """
    cls = encoders.PLUGINS.load(encoder).Config
    known, given = knobs.fields(cls), setting_flags.given(setting_flags.shared(_configs()))
    for name in given:
        if name not in known:
            hint = f"expected some of: {', '.join(known)}{did_you_mean(name, known)}"
            raise InputError(f"--{name}: is not a setting of --encoder={encoder}; {hint}")
    return knobs.made(cls, given, f"--encoder={encoder}")


def _configs() -> Mapping[str, type]:
    return {name: encoders.PLUGINS.load(name).Config for name in encoders.PLUGINS.names()}
