"""A file that one process at a time holds."""

from __future__ import annotations

import errno
from pathlib import Path

import filelock

from llmesr_jax.core.errors import InputError

_UNKNOWN_THERE = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}


def take(path: Path, taken: str) -> filelock.BaseFileLock:
    """Makes a file and holds it until `release`; the system frees it when the process ends, however that comes about.

    The holder may delete the file before it releases the lock: no other process can then hold the deleted file. Where
    the file system knows no locks, nothing is held.

    Args:
      path: the file.
      taken: the message where another process holds it.
    Raises:
      InputError: another process holds it.
      OSError: the disk refused.
    """
    lock = filelock.FileLock(path)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout as error:
        raise InputError(taken) from error
    except OSError as error:
        if error.errno not in _UNKNOWN_THERE:
            raise
    return lock
