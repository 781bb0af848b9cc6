"""How the tests compile: in half the time, for programs that run for a moment only."""

from __future__ import annotations

import os
import subprocess
import sys

# Older emitters of LLVM code, and all of a program in one piece: small programs compile fastest so.
_FLAGS = (
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)
_CHOSEN = "LLMESR_TEST_XLA_FLAGS"


def flags() -> str:
    """The value of XLA_FLAGS that tests and the commands they start run under; chosen once, as asking takes a second.

    XLA ends a process whose XLA_FLAGS name something it does not know, as another version may not know these.
    """
    if _CHOSEN not in os.environ:
        env = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": _FLAGS}
        asked = subprocess.run([sys.executable, "-c", "import jax; jax.devices()"], env=env, capture_output=True)
        os.environ[_CHOSEN] = "" if asked.returncode else _FLAGS  # the workers inherit it
    return os.environ[_CHOSEN]
