"""Scripts of the tests on eight CPU devices: how many a CPU has is fixed when JAX starts, so each is its own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import commands
import compiling


def lines(script: str, *arguments: str) -> list[Any]:
    """What a script of the tests prints on eight devices, as JSON."""
    flags = f"--xla_force_host_platform_device_count=8 {compiling.flags()}"
    tests = commands.PROJECT / "tests"
    env = os.environ | {"PYTHONPATH": f"{commands.PROJECT}:{tests}", "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, tests / script, *arguments], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("{", "["))]
