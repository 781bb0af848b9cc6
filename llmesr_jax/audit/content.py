"""The content of a data set's items: texts, raw ids, vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from llmesr_jax.data import raw_ids
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.semantic import embedding_files, fields, prompts

_BLOCK = 4096  # rows of a file of vectors that are read together


class Texts(NamedTuple):
    """The texts of a data set's items, by their digests.

    Attributes:
      keys_V: digest of the text that an encoder gets for each item; b"" without a text.
      titled: number of items with a title.
      field: the field of items.jsonl that has a different raw id for every item; None without one.
      raw_ids: (V,) its values.
    """

    keys_V: list[bytes]
    titled: int
    field: str | None
    raw_ids: list[str] | None

    def facts(self) -> dict[str, Any]:
        """How many items have no title, no text, or the text of another item; docs/data.md documents the keys."""
        _, count = np.unique([key for key in self.keys_V if key], return_counts=True)
        return {
            "items_without_title": len(self.keys_V) - self.titled,
            "items_without_text": sum(not key for key in self.keys_V),
            "different": len(count),
            "items_sharing": int(count[count > 1].sum()),
            "largest_group": int(count.max(initial=0)),
        }


def texts_of(corpus: Corpus) -> Texts | None:
    """The texts of the items; None without items.jsonl. Parses one record at a time and keeps none."""
    if corpus.item_records is None:
        return None
    kind = corpus.name if corpus.name in prompts.TEMPLATES else "generic"
    unsaid = fields.unsaid(corpus.item_records) if kind == "generic" else frozenset()
    keys, titled, raw = [], 0, {field: [] for field in raw_ids.FIELDS}
    for record in corpus.item_records:
        text = prompts.item_prompt(record, kind, unsaid=unsaid)
        keys.append(hashlib.blake2b(text.encode(errors="replace"), digest_size=12).digest() if text else b"")
        titled += bool(record.get("title"))
        for field in list(raw):
            if found := raw_ids.of_record(record, field):
                raw[field].append(found)
            else:
                del raw[field]
    field = next((field for field, ids in raw.items() if raw_ids.all_different(ids)), None)
    return Texts(keys, titled, field, raw[field] if field else None)


def item_ids(corpus: Corpus, texts: Texts | None) -> tuple[list[str] | None, str]:
    """(V,) raw ids, and the name of the file or field they are from; None and "ids" if they are not known.

    Raises:
      InputError: see `raw_ids.of_file`.
    """
    if (found := raw_ids.of_file(corpus, "item")) is not None:
        return found, raw_ids.FILES["item"]
    if texts is not None and texts.raw_ids is not None:
        return texts.raw_ids, texts.field
    return None, "ids"


def vectors(corpus: Corpus, texts: Texts | None) -> dict[str, Any]:
    """{"items": ..., "users": ...}: `vectors_of` the file of vectors in the corpus's folder; None without one.

    Raises:
      InputError: a file cannot be read, or does not have a row for each item or user.
    """
    files = embedding_files.find(corpus.folder) if corpus.folder else {}
    found: dict[str, Any] = {"items": None, "users": None}
    for name, kind, rows in (("item_llm", "items", corpus.num_items), ("user_llm", "users", corpus.num_users)):
        if name in files:
            array = embedding_files.map_embedding(files[name], rows, kind)
            keys = texts.keys_V if texts is not None and kind == "items" else None
            found[kind] = {"file": files[name].name} | vectors_of(array, keys)
    return found


def vectors_of(array_NxF: np.ndarray, keys_N: Sequence[bytes] | None = None) -> dict[str, Any]:
    """Counts rows of zeros, and rows that equal another row.

    Args:
      array_NxF: the vectors, read block by block, as they may be memory-mapped.
      keys_N: a digest of each row's text, b"" without one; None if texts are not known.
    """
    digests, zero_N = [], np.zeros(len(array_NxF), bool)
    for start in range(0, len(array_NxF), _BLOCK):
        block = np.ascontiguousarray(array_NxF[start : start + _BLOCK])
        zero_N[start : start + len(block)] = ~block.any(axis=1)
        digests += [hashlib.blake2b(row, digest_size=12).digest() for row in block]
    _, which_N, count_W = np.unique(np.array(digests), return_inverse=True, return_counts=True)
    shared_N = (count_W[which_N.reshape(-1)] > 1) & ~zero_N
    facts = {
        "rows": len(zero_N),
        "zero": int(zero_N.sum()),
        "zero_with_text": None,
        "identical": int(shared_N.sum()),
        "identical_with_other_text": None,
        "largest_group": int(count_W[which_N.reshape(-1)[~zero_N]].max(initial=0)),
    }
    if keys_N is not None:
        has_text_N = np.array([bool(key) for key in keys_N])
        texts: dict[int, set[bytes]] = {}
        for place in np.flatnonzero(shared_N):
            texts.setdefault(int(which_N.reshape(-1)[place]), set()).add(keys_N[place])
        mixed = {which for which, keys in texts.items() if len(keys) > 1}
        facts["zero_with_text"] = int((zero_N & has_text_N).sum())
        facts["identical_with_other_text"] = int(np.isin(which_N.reshape(-1)[shared_N], list(mixed)).sum())
    return facts
