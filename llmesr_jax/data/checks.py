"""What interactions must be: not too many, ids without gaps, in order."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import splits

# Places of interactions are int32 on the device; under the cloze task each user has two numbers there, u and u + U.
MOST_INTERACTIONS, MOST_USERS = 2**31 - 1, 2**30
_BLOCK = 2**24  # interactions that are checked together


def check_size(source: str | Path, interactions: int, users: int = 0) -> None:
    """Raises InputError for more interactions or users than 32-bit numbers can count."""
    for kind, count, most in (("interactions", interactions, MOST_INTERACTIONS), ("users", users, MOST_USERS)):
        if count > most:
            raise InputError(
                f"{source}: {count} {kind}; expected at most {most}, as the device uses 32-bit indices; leave "
                "out old interactions, or train on a part of the users"
            )


def check_order(source: str | Path, offsets: np.ndarray, times: np.ndarray | None, parts: np.ndarray | None) -> None:
    """Raises InputError if parts, or times within a part, descend within a user.

    Args:
      source: the name in error messages.
      offsets: int64 (U + 1,), where each user begins.
      times: int64 (n,) seconds since 1970, or None.
      parts: uint8 (n,) index into `splits.PARTS`, or None.
    """
    same = np.ones(int(offsets[-1]) - 1, bool)  # whether an interaction and the next one are of one user
    same[offsets[1:-1] - 1] = False

    def user(back: np.ndarray) -> int:
        return int(np.searchsorted(offsets, np.argmax(back), side="right"))

    if parts is not None:
        if len(parts) and parts.max() >= len(splits.PARTS):
            raise InputError(
                f"{source}: split.npy holds {parts.max()}; expected 0 (training), 1 (validation), 2 (test)"
            )
        if (back := same & (parts[1:] < parts[:-1])).any():
            raise InputError(
                f"{source}: user {user(back)} has training after validation, or validation after test, in "
                "split.npy; expected training, validation, test in this order; sort the user's lines"
            )
        same &= parts[1:] == parts[:-1]
    if times is not None and (back := same & (times[1:] < times[:-1])).any():
        raise InputError(
            f"{source}: the times of user {user(back)} in times.npy do not ascend; expected each user's lines "
            "in time order; sort inter.txt and times.npy"
        )


def count_ids(source: str | Path, kind: str, ids: np.ndarray) -> int:
    """The highest id, after a check that every id from 1 to it is present.

    Args:
      source: the name in error messages.
      kind: "user" or "item", for messages.
      ids: integers (n,), at least one.

    Raises:
      InputError: an id is below 1, or one is missing.
    """
    lowest, highest = int(ids.min()), int(ids.max())
    if lowest < 1:
        raise InputError(f"{source}: found {kind} id {lowest}; expected ids from 1 (0 is padding); renumber the ids")
    # More ids than lines means a gap within the first len(ids) + 1 ids, however large the highest is.
    most = min(highest, len(ids)) + 1
    present = np.zeros(most + 1, bool)
    for start in range(0, len(ids), _BLOCK):
        present[np.minimum(ids[start : start + _BLOCK], most)] = True
    present[most] = highest == most
    present = present[1:]
    if not present[:highest].all():
        missing = int(np.argmin(present)) + 1
        raise InputError(
            f"{source}: {kind} id {missing} is missing, although ids go up to {highest}; expected every id from 1 "
            "without gaps; renumber the ids"
        )
    return highest
