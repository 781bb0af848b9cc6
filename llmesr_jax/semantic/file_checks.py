"""Checks the vectors of files against the texts of the items and users."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from absl import logging

from llmesr_jax.core import commands
from llmesr_jax.core.errors import InputError
from llmesr_jax.data import raw_ids
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.semantic import prompts, vector_checks

_MOST_NAMED = 3


def wrong_rows(vectors_NxF: np.ndarray, corpus: Corpus, kind: str) -> dict[int, str]:
    """Row -> what is wrong with it (`vector_checks.wrong_rows`).

    It is not known by which template the vectors were made. So two items count as different if their titles differ, and
    two users if the sets of titles of their training items differ. Without items.jsonl, every row counts as having a
    text, and all texts as equal.
    """
    return vector_checks.wrong_rows(vectors_NxF, lambda: _texts(corpus, kind))


def check(where: str, vectors_NxF: np.ndarray, corpus: Corpus, kind: str) -> None:
    """Raises InputError if `wrong_rows` finds any; without items.jsonl it only warns.

    Args:
      where: the file, for messages.
      kind: "items" or "users".
    """
    if not (wrong := wrong_rows(vectors_NxF, corpus, kind)):
        return
    if corpus.item_records is None:
        logging.warning(
            "%s: %d rows are zeros; without items.jsonl it is not known whether these items or users have a text",
            where,
            len(wrong),
        )
        return
    flag = f"{kind.removesuffix('s')}_file"
    raise InputError(
        f"{where}: {summary(wrong, corpus, kind)}; embed these again, or run `{commands.line('embed')} --encoder=npy "
        f"--{flag}=FILE --skip_failed` to write rows of zeros for them"
    )


def summary(wrong: dict[int, str], corpus: Corpus, kind: str) -> str:
    """The number of wrong rows and the first of them, for messages."""
    some = "; ".join(
        f"row {row} ({raw_ids.named(corpus, kind.removesuffix('s'), row)}): {reason}"
        for row, reason in list(wrong.items())[:_MOST_NAMED]
    )
    more = f"; and {len(wrong) - _MOST_NAMED:,} more" if len(wrong) > _MOST_NAMED else ""
    rows = corpus.num_items if kind == "items" else corpus.num_users
    return f"{len(wrong):,} of {rows:,} {kind} have no usable vector: {some}{more}"


def _texts(corpus: Corpus, kind: str) -> Iterator[tuple[bool, str]]:
    if corpus.item_records is None:
        yield from ((True, "") for _ in range(corpus.num_items if kind == "items" else corpus.num_users))
        return
    titles_V = [vector_checks.plain(record["title"]) for record in corpus.item_records]
    if kind == "items":
        yield from ((bool(text), title) for text, title in zip(prompts.item_prompts(corpus), titles_V, strict=True))
        return
    for start, length in zip(corpus.offsets[:-1].tolist(), corpus.train_lengths_U.tolist()):
        titles = sorted({titles_V[item - 1] for item in corpus.items[start : start + length].tolist()} - {""})
        yield bool(titles), "\n".join(titles)
