"""Several processes that train one run: all do the same, on devices of their own, and the first alone writes files.

Each reads the interactions in full, and of embeddings and checkpoints what its devices hold. A process that looks into the
run's folder waits until the first has made it. Where one ends, the others end within a minute, and the same command
continues.
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
_HEARTBEAT = 30  # seconds without a sign of life after which a process counts as dead
_WAIT = 300  # seconds for all to come


def initialize(coordinator: str, count: int = 0, index: int = -1) -> None:
    """Makes this process one of several, before anything is computed; with an empty coordinator it stays alone.

    Args:
      coordinator: host:port of the first process; "auto": Slurm, Kubernetes (JobSet) or Cloud TPU tell all three.
      count: how many processes there are.
      index: which of them this is, from 0.
    Raises:
      InputError: something of it is missing, or the others did not come.
    """
    if not coordinator:
        if count or index >= 0:
            raise InputError("--num_processes and --process_id want --coordinator=host:port of the first process")
        return
    if coordinator != AUTO and not (count > 0 and 0 <= index < count and ":" in coordinator):
        raise InputError(
            f"--coordinator={coordinator} --num_processes={count} --process_id={index}: expected host:port, the number of "
            "processes and which of them this is, from 0; or --coordinator=auto under Slurm, Kubernetes or Cloud TPU"
        )
    # It would take SIGTERM, which ends a run at the next save.
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
    """Which process this is, from 0, and how many there are."""
    return jax.process_index(), jax.process_count()


def is_first() -> bool:
    """Whether this process writes files and says what happens."""
    return jax.process_index() == 0


def wait(name: str) -> None:
    """Until all processes are here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def any_of(asked: bool) -> bool:
    """Whether any process was asked; all must ask this at the same places."""
    if jax.process_count() == 1:
        return asked
    return bool(multihost_utils.process_allgather(np.asarray([asked], np.int32)).any())


def first_alone(make: Callable[[bool], _T]) -> _T:
    """What `make` returns, which the first process makes before the others do; they may find what it has kept.

    Args:
      make: gets whether another process has made it already.
    Raises: what `make` raises, in all processes.
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
    """A text of up to 512 characters that the first process makes for all."""
    if jax.process_count() == 1:
        return make()
    made = make().encode() if is_first() else b""
    padded = np.frombuffer(made.ljust(512, b"\0"), np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(padded)).tobytes().rstrip(b"\0").decode()


def gathered(x: np.ndarray) -> np.ndarray:
    """(processes, ...): the array of each process; all must ask this at the same places, with arrays of one shape."""
    if jax.process_count() == 1:
        return x[None]
    return np.asarray(multihost_utils.process_allgather(x)).reshape(-1, *x.shape)


def check_same(text: str, what: str) -> None:
    """Raises InputError where processes have different texts; all must ask this at the same places."""
    if jax.process_count() == 1:
        return
    digest = np.frombuffer(hashlib.sha256(text.encode()).digest()[:4], np.int32)
    found = multihost_utils.process_allgather(digest).ravel()
    if (found != found[0]).any():
        other = int(np.argmax(found != found[0]))
        raise InputError(f"process {other} has other {what} than process 0; expected the same on every machine")


def lost(error: BaseException) -> TrainingError | None:
    """What to say of an error that comes of the end of another process; None for others, and where there is none."""
    names = [kind.__name__ for kind in type(error).__mro__]
    if jax.process_count() == 1 or not {"JaxRuntimeError", "XlaRuntimeError"} & set(names):
        return None
    return ended(f"another process of this run has ended ({str(error).splitlines()[0][:120]})")


def ended(what: str) -> TrainingError:
    """What to say in this process of the end of another."""
    return TrainingError(
        f"process {jax.process_index()}: {what}; the same command, in all processes, continues from the last save"
    )


def options() -> dict[str, Any]:
    """How Orbax sees this process where it reads: alone, so that none waits for one that cannot read."""
    if jax.process_count() == 1:
        return {}
    import orbax.checkpoint as ocp

    index = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process{index}"
    )
    return {"multiprocessing_options": alone}
