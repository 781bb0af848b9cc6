"""Raw ids of a data folder's users and items: what `launch.prepare` numbered from 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.corpus import Corpus

FILES = {"user": "user_ids.txt", "item": "item_ids.txt"}


def raw_ids(corpus: Corpus, kind: str) -> list[str] | None:
    """The raw ids of the ids 1, 2, ..., from `FILES`; None if there is no such file, as for the demo.

    Args:
      kind: "user" or "item".
    Raises:
      InputError: the file's number of lines is not that of the users or items, or an id appears twice.
    """
    path = corpus.folder and Path(corpus.folder, FILES[kind])
    if path is None or not path.exists():
        return None
    found = path.read_text(encoding="utf-8").split("\n")[:-1]
    count = {"user": corpus.num_users, "item": corpus.num_items}[kind]
    if len(found) != count:
        raise InputError(
            f"{path}: has {len(found)} ids; expected {count}, one for each {kind} of inter.txt; prepare the data again"
        )
    if len(set(found)) < count:
        raise InputError(
            f"{path}: an id appears twice; expected a different id for each {kind}; prepare the data again"
        )
    return found


def rows_in(new: Corpus, old: Corpus, kind: str) -> np.ndarray:
    """int64 (U,) or (V,): for each user or item of `new`, in order of id, its row in `old`, from 0; -1 if it has none.

    Rows are found by raw id, or by number if neither has raw ids.

    Args:
      kind: "user" or "item".

    Raises:
      InputError: see `raw_ids`; or only one of the two has raw ids.
    """
    ids = {corpus: raw_ids(corpus, kind) for corpus in (new, old)}
    counts = [{"user": corpus.num_users, "item": corpus.num_items}[kind] for corpus in (new, old)]
    if ids[new] is None and ids[old] is None:
        numbers = np.arange(counts[0])
        return np.where(numbers < counts[1], numbers, -1)
    for corpus in (new, old):
        if ids[corpus] is None:
            raise InputError(
                f"{corpus.folder or corpus.name}: has no {FILES[kind]}, which is needed to match its {kind}s with "
                "those of other data; expected a folder that launch.prepare made"
            )
    places = {raw: row for row, raw in enumerate(ids[old])}
    return np.fromiter((places.get(raw, -1) for raw in ids[new]), np.int64, counts[0])
