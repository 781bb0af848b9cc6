"""Makes the start of a command quick: what Python and XLA do before the first step, and need not do so thoroughly.

Importing and tracing create some hundred thousand objects that stay. Python's garbage collector would look through all
of them again and again, which takes a fifth of this time. And XLA compiles hundreds of small programs, of which most run
for microseconds.
"""

from __future__ import annotations

import gc
import os

_COLLECT_EVERY = 50_000, 20, 20  # new objects; collections of the first generation, and of the second
# For LLVM: half of its optional work, without which our steps take as long.
_EXTRA = "xla_backend_extra_options"
_COMPILED_QUICKLY = f"--{_EXTRA}=xla_cpu_disable_loop_unrolling,xla_cpu_disable_slp_vectorizer"


def begin() -> None:
    """To be called before anything large is imported: nothing is collected until `imported`."""
    gc.disable()


def imported() -> None:
    """To be called once, after the imports and before JAX compiles: sets how often is collected, and XLA's flags.

    What is there by now is never looked at again. The environment variable XLA_FLAGS is left alone where it sets the
    same option.
    """
    gc.freeze()
    gc.set_threshold(*_COLLECT_EVERY)
    gc.enable()
    flags = os.environ.get("XLA_FLAGS", "")
    if _EXTRA not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {_COMPILED_QUICKLY}".strip()
