"""Which errors prove that the files of a checkpoint are missing, truncated or altered, and which do not."""

from __future__ import annotations

import errno
import json
import re


class Damaged(Exception):
    """A checkpoint was read and is not what was saved."""


# What TensorStore's message says of a file that is missing, too short or does not decode. It raises a plain ValueError
# without a code; the message starts with the name of one of absl's status codes.
_STATES_OF_DAMAGE = re.compile("DATA_LOSS|OUT_OF_RANGE|NOT_FOUND|FAILED_PRECONDITION")


def proves_damage(error: BaseException) -> bool:
    """Whether an error while reading a checkpoint shows that its files are missing, truncated or altered.

    An error of memory, disk or permissions, anywhere in the chain of causes, does not: the files may be intact.
    """
    if isinstance(error, Damaged):
        return True
    if any(_of_the_system(one) for one in _chain(error)):
        return False
    inner = _unwrapped(error)
    if isinstance(inner, (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError)):
        return True
    return isinstance(inner, ValueError) and _STATES_OF_DAMAGE.match(str(inner)) is not None


def reason(error: BaseException) -> str:
    """The first line of an error's message, cut to 120 characters."""
    inner = _unwrapped(error)
    return (str(inner) or repr(inner)).splitlines()[0][:120]


def _unwrapped(error: BaseException) -> BaseException:
    """The error that Orbax has found, which it raises inside a bare `Exception` when it reads arrays for devices."""
    while type(error) is Exception and error.__cause__ is not None:
        error = error.__cause__
    return error


def _chain(error: BaseException) -> list[BaseException]:
    """The error and its causes."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    return chain


def _of_the_system(error: BaseException) -> bool:
    """Whether memory, disk or permissions raised this error; a missing file counts as damage."""
    missing = (None, errno.ENOENT, errno.ENOTDIR)
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno not in missing):
        return True
    # TensorStore's errors have no errno, so it is read from the message.
    codes = [int(code) for code in re.findall(r"os_error_code='(\d+)'", str(error))]
    return (
        any(code not in missing for code in codes) or re.match("RESOURCE_EXHAUSTED|PERMISSION", str(error)) is not None
    )
