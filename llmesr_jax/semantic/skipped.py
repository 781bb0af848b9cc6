"""Items and users that have a text but no usable vector: an error, or with --skip_failed rows of zeros."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import raw_ids
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.semantic import file_checks
from llmesr_jax.semantic.filling import Filling
from llmesr_jax.semantic.texts import Plan

Rows = Mapping[str, Mapping[int, str]]  # "items" and "users" -> row -> why it has no vector
_MOST_NAMED, _MOST_LISTED = 3, 1000  # rows in a message, and of each kind in the manifest


def rows_of_texts(corpus: Corpus, plan: Plan, filling: Filling, first: tuple[int, int], skip: bool) -> Rows:
    """The rows whose text failed.

    Args:
      corpus: the data set.
      plan: the texts.
      filling: after its run.
      first: row of the first item, and of the first user, of the plan.
      skip: whether such rows may become rows of zeros.

    Raises:
      InputError: there are such rows and they must not be skipped, or all texts failed.
    """
    found: dict[str, dict[int, str]] = {"items": {}, "users": {}}
    if not filling.failed:
        return found
    for place in np.flatnonzero(np.isin(plan.which_N, list(filling.failed))).tolist():
        reason = filling.failed[int(plan.which_N[place])]
        if place < plan.num_items:
            found["items"][place + first[0]] = reason
        else:
            found["users"][place - plan.num_items + first[1]] = reason
    rows = [(kind, row, reason) for kind in found for row, reason in found[kind].items()]
    some = "; ".join(
        f"{raw_ids.named(corpus, kind.removesuffix('s'), row)}: {reason}" for kind, row, reason in rows[:_MOST_NAMED]
    )
    more = f"; and {len(rows) - _MOST_NAMED:,} more" if len(rows) > _MOST_NAMED else ""
    count = len(filling.failed)
    message = f"{count:,} text{'s have' if count > 1 else ' has'} no usable vector: {some}{more}; {filling.done}"
    if count == len(plan.different_W):
        raise InputError(f"{message}; check the server and its model")
    if not skip:
        raise InputError(
            f"{message}; use --skip_failed to write rows of zeros for them, or run the same command to try again"
        )
    print(f"{corpus.folder}: {message}; skipped: their rows are zeros", flush=True)
    return found


def rows_of_files(corpus: Corpus, kind: str, array_NxF: np.ndarray, skip: bool) -> Mapping[int, str]:
    """The rows of a file that cannot be used, see `file_checks.wrong_rows`.

    Args:
      corpus: the data set.
      kind: "items" or "users".
      array_NxF: the vectors.
      skip: whether such rows may become rows of zeros.

    Raises:
      InputError: there are such rows and they must not be skipped, or no row can be used.
    """
    if not (wrong := file_checks.wrong_rows(array_NxF, corpus, kind)):
        return {}
    message = f"--{kind.removesuffix('s')}_file: {file_checks.summary(wrong, corpus, kind)}"
    if len(wrong) == len(array_NxF):
        raise InputError(f"{message}; embed them again")
    if not skip:
        raise InputError(f"{message}; embed these again, or use --skip_failed to write rows of zeros for them")
    print(f"{corpus.folder}: {message}; skipped: their rows are zeros", flush=True)
    return wrong


def listed(corpus: Corpus, rows: Rows) -> dict[str, list[dict[str, str]]]:
    """The manifest's entry for skipped rows: {"skipped": [{"row", "reason"}]}; {} if there are none."""
    found = [
        {"row": raw_ids.named(corpus, kind.removesuffix("s"), row), "reason": reason}
        for kind, of_kind in rows.items()
        for row, reason in list(of_kind.items())[:_MOST_LISTED]
    ]
    return {"skipped": found} if found else {}
