"""The settings of all encoders as flags, and back."""

from __future__ import annotations

import typing
from typing import Any

from absl import flags

from llmesr_jax.core import knobs
from llmesr_jax.core.errors import InputError
from llmesr_jax.semantic import encoders

flags.disclaim_key_flags()  # so that `--help` of a command lists these flags as its own

_DEFINE = {bool: flags.DEFINE_boolean, int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}


def define() -> None:
    """A flag for each field of each encoder's `Config`; encoders with a field of one name share the flag."""
    found: dict[str, list[tuple[str, knobs.Setting]]] = {}
    for encoder in encoders.PLUGINS.names():
        for name, setting in knobs.fields(encoders.PLUGINS.load(encoder).Config).items():
            found.setdefault(name, []).append((encoder, setting))
    for name, users in found.items():
        defaults = "; ".join(f"{encoder}: {setting.default!r}" for encoder, setting in users)
        _DEFINE[users[0][1].kind](name, None, f"{users[0][1].doc} (default, {defaults})")


def config(encoder: str) -> Any:
    """The `Config` of an encoder, as the command line has it.

    Raises:
      InputError: no such encoder, a flag of another one, or a value that is not allowed.
    """
    cls = encoders.PLUGINS.load(encoder).Config
    settings, given = knobs.fields(cls), {}
    for other in encoders.PLUGINS.names():
        for name in knobs.fields(encoders.PLUGINS.load(other).Config):
            if (value := flags.FLAGS[name].value) is not None:
                given[name] = value
    for name, value in given.items():
        if name not in settings:
            known = ", ".join(settings)
            raise InputError(f"--{name}: not a setting of --encoder={encoder}; wanted some of: {known}")
        knobs.check_value("--encoder=" + encoder, name, value, settings[name])
    return cls(**typing.cast(dict, given))
