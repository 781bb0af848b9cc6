"""A file that one process at a time locks."""

from __future__ import annotations

import errno
from pathlib import Path

import filelock

from llmesr_jax.core.errors import InputError

_UNKNOWN_THERE = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}


def take(path: Path, taken: str) -> filelock.BaseFileLock:
    """Makes a file and locks it. The lock ends with the result's `release`, or with the process, however that ends.

    The holder may delete the file before it releases the lock: no other process can then lock the deleted file. If
    the file system has no locks, nothing is locked.

    Args:
      path: the file.
      taken: the message if another process holds the lock.
    Raises:
      InputError: another process holds the lock.
      OSError: the file cannot be made or locked.
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
