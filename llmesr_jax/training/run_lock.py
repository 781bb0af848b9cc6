"""One command at a time trains a run: two in one folder would write over each other's checkpoints and results."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from llmesr_jax.core import locks
from llmesr_jax.core.errors import InputError
from llmesr_jax.training import processes

FILE = "lock"


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """While it lasts, no other command trains the run in this folder, which is made if it does not exist.

    Of several processes that train together, the first locks the folder for all.

    Raises:
      InputError: another command trains it.
    """
    taken = f"{folder}: another command is training this run; wait until it ends, or choose another --workdir"
    held = None
    if processes.is_first():
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(InputError):
            held = locks.take(folder / FILE, taken)
    if processes.any_of(processes.is_first() and held is None):
        raise InputError(taken)
    try:
        yield
    finally:
        if held is not None:
            (folder / FILE).unlink(missing_ok=True)
            held.release()
