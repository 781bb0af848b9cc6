"""The raw ids of a data set's items and users, as in its source."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from llmesr_jax.data.corpus import Corpus

_FIELDS = ("raw_id", "asin", "parent_asin", "business_id", "movie_id")  # as the importers call them in items.jsonl


def read(corpus: Corpus, kind: str) -> list[str] | None:
    """The raw ids of all rows, in order of id: from `item_ids.txt` or `user_ids.txt`; else those in items' records.

    None if they are not known, or the file does not have an id for each row.

    Args:
      corpus: the data set.
      kind: "items" or "users".
    """
    rows = corpus.num_items if kind == "items" else corpus.num_users
    path = corpus.folder / f"{kind.removesuffix('s')}_ids.txt" if corpus.folder else None
    if path is not None and path.is_file():
        lines = _lines(path)
        if len(lines) == rows:
            return lines
    if kind == "users" or corpus.item_records is None:
        return None
    first = next(iter(corpus.item_records), {})
    field = next((field for field in _FIELDS if isinstance(first.get(field), (str, int))), None)
    found = [record.get(field) for record in corpus.item_records] if field else [None]
    return list(map(str, found)) if all(isinstance(raw, (str, int)) for raw in found) else None


def of_row(corpus: Corpus, kind: str, row: int) -> str:
    """The item or user of a row, for messages: 'item I002 "Lamp"', 'user U017'; the id if no raw id is known."""
    path = corpus.folder / f"{kind.removesuffix('s')}_ids.txt" if corpus.folder else None
    lines = _lines(path) if path is not None and path.is_file() else []
    record = corpus.item_records[row] if kind == "items" and corpus.item_records is not None else {}
    raw = lines[row] if row < len(lines) else next((record[f] for f in _FIELDS if record.get(f) is not None), row + 1)
    title = f" {json.dumps(record['title'][:60], ensure_ascii=False)}" if record.get("title") else ""
    return f"{kind.removesuffix('s')} {raw}{title}"


@functools.lru_cache(4)
def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").removesuffix("\n").split("\n")
