"""Several processes that train one run: all do the same, on devices of their own, and only the first writes files.

Each process reads all interactions, and of embeddings and checkpoints the part that its devices hold. A process that
needs the run's folder waits until the first has made it. If one process ends, the others end within a minute, and the
same command continues the run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from llmesr_jax.core.errors import InputError, TrainingError

_T = TypeVar("_T")
AUTO = "auto"
_HEARTBEAT = 30  # seconds without a heartbeat after which a process counts as dead
_WAIT = 300  # seconds to wait until all processes have connected


def initialize(coordinator: str, count: int = 0, index: int = -1) -> None:
    """Makes this process one of several, before anything is computed; does nothing if `coordinator` is empty.

    Args:
      coordinator: host:port of the first process; "auto": all three arguments come from Slurm, Kubernetes (JobSet) or
        Cloud TPU.
      count: the number of processes; 0 if not given.
      index: the number of this process, from 0; -1 if not given.
    Raises:
      InputError: an argument is missing or wrong, or the other processes did not connect.
    """
    if not coordinator:
        if count or index >= 0:
            raise InputError(
                "--num_processes or --process_id is set, but --coordinator is not; expected "
                "--coordinator=host:port of the first process; set it in every process"
            )
        return
    if coordinator != AUTO and not (count > 0 and 0 <= index < count and ":" in coordinator):
        raise InputError(
            f"--coordinator={coordinator} --num_processes={count} --process_id={index}: expected host:port, the number "
            "of processes, and the number of this process, from 0; or --coordinator=auto under Slurm, Kubernetes or "
            "Cloud TPU"
        )
    # JAX's preemption service would catch SIGTERM, at which a run saves and ends.
    jax.config.update("jax_enable_preemption_service", False)
    given = (
        {} if coordinator == AUTO else {"coordinator_address": coordinator, "num_processes": count, "process_id": index}
    )
    try:
        jax.distributed.initialize(
            **given,
            heartbeat_timeout_seconds=_HEARTBEAT,
            shutdown_timeout_seconds=_HEARTBEAT,
            initialization_timeout=_WAIT,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0][:160]
        raise InputError(
            f"--coordinator={coordinator}: the processes did not find each other ({reason}); expected the same "
            "--coordinator and --num_processes in each, and its own --process_id"
        ) from error


def place() -> tuple[int, int]:
    """The number of this process, from 0, and how many there are."""
    return jax.process_index(), jax.process_count()


def is_first() -> bool:
    """Whether this process is the first, which writes files and prints."""
    return jax.process_index() == 0


def wait(name: str) -> None:
    """Waits until all processes have called this, with the same name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def any_of(asked: bool) -> bool:
    """Whether `asked` is true in any process; all must call this at the same points of the program."""
    if jax.process_count() == 1:
        return asked
    return bool(multihost_utils.process_allgather(np.asarray([asked], np.int32)).any())


def first_alone(make: Callable[[bool], _T]) -> _T:
    """The result of `make`, which the first process calls before the others do, so that they find what it has cached.

    Args:
      make: its argument says whether another process has called it already.
    Raises:
      Exception: what `make` raises in this process.
    """
    if jax.process_count() == 1:
        return make(False)
    found, error = None, None
    if is_first():
        try:
            found = make(False)
        except Exception as caught:
            error = caught
    wait("made by the first process")
    if error is not None:
        raise error
    return found if is_first() else make(True)


def of_first(make: Callable[[], str]) -> str:
    """A text of up to 512 bytes that the first process makes, in all processes."""
    if jax.process_count() == 1:
        return make()
    made = make().encode() if is_first() else b""
    padded = np.frombuffer(made.ljust(512, b"\0"), np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(padded)).tobytes().rstrip(b"\0").decode()


def gathered(x: np.ndarray) -> np.ndarray:
    """(processes, ...): every process's array; all must call this at the same points, with arrays of the same shape."""
    if jax.process_count() == 1:
        return x[None]
    return np.asarray(multihost_utils.process_allgather(x)).reshape(-1, *x.shape)


def check_same(text: str, what: str) -> None:
    """Raises InputError if processes have different texts; all must call this at the same points of the program."""
    if jax.process_count() == 1:
        return
    digest = np.frombuffer(hashlib.sha256(text.encode()).digest()[:4], np.int32)
    found = multihost_utils.process_allgather(digest).ravel()
    if (found != found[0]).any():
        other = int(np.argmax(found != found[0]))
        raise InputError(
            f"process {other} has other {what} than process 0; expected the same on every machine; start all processes "
            "with the same command, code and data"
        )


def lost(error: BaseException) -> TrainingError | None:
    """The message for an error that another process's end has caused; None for any other error, or with one process."""
    names = [kind.__name__ for kind in type(error).__mro__]
    if jax.process_count() == 1 or not {"JaxRuntimeError", "XlaRuntimeError"} & set(names):
        return None
    return ended(f"another process of this run has ended ({str(error).splitlines()[0][:120]})")


def ended(what: str) -> TrainingError:
    """The error that this process reports when another has ended."""
    return TrainingError(
        f"process {jax.process_index()}: {what}; the same command, in all processes, continues from the last save"
    )


def options() -> dict[str, Any]:
    """Orbax's options for reading: each process by itself, so that none waits for one that cannot read."""
    if jax.process_count() == 1:
        return {}
    import orbax.checkpoint as ocp

    index = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process{index}"
    )
    return {"multiprocessing_options": alone}
