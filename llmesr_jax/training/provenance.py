"""The origin of a run's numbers: a line in its folder each time that the run is started or continued."""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import json
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

from llmesr_jax.training.experiment import Experiment

STARTS_FILE = "starts.jsonl"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "llmesr-jax")


def write(experiment: Experiment) -> None:
    """Appends a line to starts.jsonl in the run's folder: `describe`, and digests of the data.

    The lines do not identify the run, as `config.json` does, because it may be continued on another machine.
    """
    path = Path(experiment.config.workdir) / STARTS_FILE
    line = json.dumps(describe() | {"data": experiment.identity()})
    torn = path.exists() and not path.read_bytes().endswith(b"\n")  # a kill cut off the previous line
    with path.open("a") as file:
        file.write("\n" * torn + line + "\n")


def describe() -> dict[str, Any]:
    """JSON values: time, command, device, versions, and the commit of the code."""
    device = jax.devices()[0]
    return {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.orig_argv),
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
        "python": platform.python_version(),
        "versions": {name.replace("-", "_"): _version(name) for name in _PACKAGES},
        "git": git_state(),
    }


@functools.cache
def git_state() -> dict[str, Any] | None:
    """{"commit", "dirty"} of the repository that this code is checked out from; None if there is none.

    `dirty`: a tracked file has changed.
    """
    here = Path(__file__).resolve()

    def git(*args: str) -> str:
        command = ("git", "-C", str(here.parent), *args)
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)  # fails if a repository merely contains the installed package
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
