"""Makes the start of a command quick: Python's garbage collector waits until the imports are over, and is rare then.

Importing and tracing create some hundred thousand objects, of which most stay. With Python's own thresholds, looking
through them again and again takes a fifth of the time before the first step.
"""

from __future__ import annotations

import gc

_COLLECT_EVERY = 50_000, 20, 20  # new objects; collections of the first generation, and of the second


def begin() -> None:
    """To be called before anything large is imported: nothing is collected until `imported` is called."""
    gc.disable()


def imported() -> None:
    """To be called once, after the imports: collects from now on, but never what exists by now."""
    gc.freeze()
    gc.set_threshold(*_COLLECT_EVERY)
    gc.enable()
