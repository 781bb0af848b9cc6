"""Starts from another run of the same command: `--start=@none` names it by its method."""

from __future__ import annotations

from collections.abc import Sequence

from llmesr_jax.core.config_dict import ConfigDict
from llmesr_jax.core.errors import InputError

HERE = "@"


def among(configs: Sequence[ConfigDict]) -> list[ConfigDict]:
    """The configurations of one command, one per method, with `start` set to the folder of the named method's run.

    The run of the named method starts from no run, and comes first.

    Raises:
      InputError: no configuration is of the named method.
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
