"""Starts that name a method, `--start=@none`: the run of that method in the same command."""

from __future__ import annotations

from collections.abc import Sequence

from llmesr_jax.core.config_dict import ConfigDict
from llmesr_jax.core.errors import InputError

HERE = "@"


def among(configs: Sequence[ConfigDict]) -> list[ConfigDict]:
    """The configurations of one command, each of another method, with the folders of those that they start from.

    The method that is named starts from nothing, and comes first.

    Raises:
      InputError: a method is named that is not among them.
    """
    found = {config.method: config for config in configs}
    named = {config.start.removeprefix(HERE) for config in configs if config.start.startswith(HERE)}
    for method in named:
        if method not in found:
            raise InputError(
                f"--start={HERE}{method}: this command has no run of method {method}; expected one, as in "
                f"--method={method},{next(iter(found))}; or set --start to the folder of a run"
            )
    for config in configs:
        method = config.start.removeprefix(HERE)
        if config.start.startswith(HERE):
            config.start = "" if config.method == method else found[method].workdir
    return sorted(configs, key=lambda config: config.method not in named)
