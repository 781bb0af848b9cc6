"""Which interactions train and which are targets: three splits, and the order of interactions with equal times.

Each user's interactions are a sequence; a prefix of it trains. A target is a place in the sequence; its input is
everything before it.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.knobs import knob
from llmesr_jax.core.streams import stream

UNKNOWN = np.iinfo(np.int64).min  # a time that is not known; the same bits as NumPy's NaT
PARTS = ("train", "valid", "test")  # the parts of a split of the user's own; split.npy contains their indices
_CALLED = {"valid": "validation", "test": "test"}
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


@dataclasses.dataclass(frozen=True)
class SplitConfig:
    """How interactions are split into training, validation and test."""

    split: str = knob(
        "auto",
        "leave_one_out: a user's last item is the test target, the item before it the validation target; time: "
        "training before data.valid_from, validation before data.test_from, then test; files: as prepared with "
        "launch.prepare --train, --valid and --test; auto: files if the data have such a split, else leave_one_out",
        choices=("auto", "leave_one_out", "time", "files"),
    )
    valid_from: str = knob(
        "80%", 'split=time: when validation begins: a date or time in UTC, or "80%": after that share of interactions'
    )
    test_from: str = knob("90%", "split=time: when the test begins, in the form of data.valid_from")
    targets: str = knob(
        "auto",
        "split=time and files: of a user's interactions in validation or test, the first is a target, or all "
        "are, each with everything before it as its input; auto: first for time, all for files",
        choices=("auto", "first", "all"),
    )
    ties: str = knob(
        "file",
        "order of a user's interactions with the same time: as in the file, or shuffled by data.ties_seed; report "
        "results of both if launch.inspect finds many such ties",
        choices=("file", "shuffled"),
    )
    ties_seed: int = knob(0, "seed of data.ties=shuffled", least=0)


class Targets(NamedTuple):
    """E targets, in order of user and place.

    Attributes:
      rows_E: int64 rows of users, from 0; with targets=all a user may appear more than once.
      stops_E: int64 how many interactions of the user come before the target.
    """

    rows_E: np.ndarray
    stops_E: np.ndarray


class Split(NamedTuple):
    """A split of U users' sequences.

    Attributes:
      name: what decides the split, in words; equal names and data mean equal splits.
      train_U: int64 (U,) length of the training part, which is a prefix.
      targets: {"valid": Targets, "test": Targets}.
      without_input: {"valid": n, "test": n} targets that are left out because they have no earlier interaction.
    """

    name: str
    train_U: np.ndarray
    targets: Mapping[str, Targets]
    without_input: Mapping[str, int]


LEAVE_ONE_OUT = "leave_one_out"
MOST_REPEATED = 0.05  # hiding seen items is an error if more than this share of targets are in their own input


def leave_one_out(offsets: np.ndarray) -> Split:
    """A user's last item is the test target, the one before it the validation target, the rest is training.

    A user with fewer than 3 interactions has training only.

    Args:
      offsets: int64 (U + 1,), the index of each user's first interaction.
    """
    lengths_U = np.diff(offsets)
    rows_E = np.flatnonzero(lengths_U >= 3)
    targets = {"valid": Targets(rows_E, lengths_U[rows_E] - 2), "test": Targets(rows_E, lengths_U[rows_E] - 1)}
    train_U = np.where(lengths_U >= 3, lengths_U - 2, lengths_U)
    return Split(LEAVE_ONE_OUT, train_U, targets, {"valid": 0, "test": 0})


def make(
    config: SplitConfig, offsets: np.ndarray, times_n: np.ndarray | None, parts_n: np.ndarray | None, source: str | Path
) -> Split:
    """The split that the settings ask for.

    Args:
      config: the settings.
      offsets: int64 (U + 1,), the index of each user's first interaction.
      times_n: int64 (n,) seconds, ascending within a user, `UNKNOWN` first; None without times.
      parts_n: uint8 (n,) index into `PARTS`, ascending within a user; None without the user's own split.
      source: the name in error messages.

    Raises:
      InputError: the split needs times or parts that are missing, `valid_from` or `test_from` is not valid, or a part
        is empty.
    """
    kind = config.split
    if kind == "auto":
        kind = LEAVE_ONE_OUT if parts_n is None else "files"
    ties = f", ties shuffled by seed {config.ties_seed}" if config.ties == "shuffled" else ""
    if kind == LEAVE_ONE_OUT:
        lengths_U = np.diff(offsets)
        if lengths_U.max(initial=0) < 3:
            raise InputError(
                f"{source}: no user has 3 interactions (the most is {lengths_U.max(initial=0)}); expected at least 3 "
                "of a user for leave-one-out: one each for training, validation and test"
            )
        made = leave_one_out(offsets)
        return made._replace(name=made.name + ties)
    every = config.targets == "all" or (config.targets == "auto" and kind == "files")
    if kind == "files":
        if parts_n is None:
            raise InputError(
                f"{source}: data.split=files, but the data have no own split (no split.npy); prepare the data "
                "with launch.prepare --train=... --valid=... --test=..., or use another data.split"
            )
        return _from_parts(f"files, {'all' if every else 'first'} targets{ties}", offsets, parts_n, every, source)
    if times_n is None:
        raise InputError(
            f"{source}: data.split=time, but the data have no times (no times.npy); prepare the data from raw files "
            "with a time column, or use another data.split"
        )
    bounds = [_instant(getattr(config, name), name, times_n) for name in ("valid_from", "test_from")]
    dates = [str(np.datetime64(bound, "s")).replace("T", " ") for bound in bounds]
    if bounds[0] >= bounds[1]:
        raise InputError(
            f"{source}: data.valid_from={config.valid_from} is {dates[0]} and data.test_from={config.test_from} is "
            f"{dates[1]}; expected the validation to begin before the test; change one of the two"
        )
    name = f"time, validation from {dates[0]}, test from {dates[1]}, {'all' if every else 'first'} targets{ties}"
    return _from_parts(name, offsets, np.searchsorted(bounds, times_n, side="right").astype(np.uint8), every, source)


def _from_parts(name: str, offsets: np.ndarray, parts_n: np.ndarray, every: bool, source: str | Path) -> Split:
    """The split in which `parts_n` is the part of each interaction.

    With `every`, all of a user's interactions in validation or test are targets, else the first of them.
    """
    lengths_U = np.diff(offsets)
    user_n = np.repeat(np.arange(len(lengths_U)), lengths_U)
    place_n = np.arange(len(parts_n)) - offsets[user_n]
    targets, without_input = {}, {}
    for number, part in enumerate(PARTS[1:], 1):
        here_n = np.flatnonzero(parts_n == number)
        if not every:  # users stand together, so a user's first one follows another user's
            here_n = here_n[np.diff(user_n[here_n], prepend=-1) != 0]
        has_input = place_n[here_n] > 0
        without_input[part] = int((~has_input).sum())
        here_n = here_n[has_input]
        targets[part] = Targets(user_n[here_n], place_n[here_n])
        if not len(here_n):
            raise InputError(
                f"{source}: split {name}: has no {_CALLED[part]} target"
                + (f" ({without_input[part]} have no earlier interaction)" if without_input[part] else "")
                + "; every target needs an earlier interaction of the same user; choose other instants or files, or "
                "data.targets=all"
            )
    train_U = np.bincount(user_n[parts_n == 0], minlength=len(lengths_U))
    if not train_U.any():
        raise InputError(f"{source}: split {name}: has no training interaction; choose other instants or files")
    return Split(name, train_U, targets, without_input)


def shuffle_ties(offsets: np.ndarray, times_n: np.ndarray, parts_n: np.ndarray | None, seed: int) -> np.ndarray:
    """int64 (n,): indices of the interactions in a new order, in which those of a user with equal times are shuffled.

    Interactions of unknown time, and those of different parts, keep their order.
    """
    user_n = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    new_n = np.ones(len(times_n), bool)
    new_n[1:] = (user_n[1:] != user_n[:-1]) | (times_n[1:] != times_n[:-1]) | (times_n[1:] == UNKNOWN)
    if parts_n is not None:
        new_n[1:] |= parts_n[1:] != parts_n[:-1]
    run_n = np.cumsum(new_n)
    return np.lexsort((stream("ties", seed).random(len(times_n)), run_n))


def _instant(text: str, name: str, times_n: np.ndarray) -> int:
    """Seconds since 1970 that a setting means: a date, or the time before which a share of the interactions lies."""
    if share := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?%", text.strip()):
        known_n = times_n[times_n != UNKNOWN]
        if not len(known_n) or not 0 < float(share[1]) < 100:
            what = "no interaction has a time" if not len(known_n) else "expected more than 0% and less than 100%"
            raise InputError(f"config: data.{name}={text}: {what}; set a date such as 2014-01-01")
        return int(np.quantile(known_n, float(share[1]) / 100, method="higher"))
    try:
        moment = datetime.datetime.fromisoformat(text.strip())
        moment = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
        return int((moment - _EPOCH).total_seconds())
    except ValueError as error:
        raise InputError(
            f"config: data.{name}={text}: is not a date; expected a date or time in UTC such as 2014-01-01 or "
            '"2014-01-01 12:00:00", or a share of the interactions such as 80%'
        ) from error
