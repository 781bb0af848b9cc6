"""Writes `items.jsonl`: an object for every item, in order of id, from records that come in any order.

Only positions in a temporary file are kept in memory, so a catalogue may be larger than memory.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import markup

_DEPTH = 8  # of nested lists and objects; deeper ones are left out


class Found(NamedTuple):
    """How many records and items matched.

    Attributes:
      with_record: items that have a record.
      without_record: items that have no record.
      without_title: items whose title is "".
      repeated: further records of an item; the first one counts.
      of_no_item: records of items that are not in the interactions.
    """

    with_record: int
    without_record: int
    without_title: int
    repeated: int
    of_no_item: int


def write(
    path: Path, records: Iterable[tuple[str, Mapping[str, Any]]], numbers: Mapping[str, int], id_field: str
) -> Found:
    """Writes the file: `item_id`, `title` ("" if unknown), `id_field` (the raw id), then the record's other fields.

    Args:
      path: the file; a temporary file is written beside it meanwhile.
      records: (raw id, {field: value}).
      numbers: raw id -> id from 1.
      id_field: what the source calls the raw id.

    Raises:
      InputError: there are records, but none of an item in `numbers`.
    """
    places_V = np.full(len(numbers) + 1, -1, np.int64)  # row 0 is unused: ids begin with 1
    repeated = of_no_item = untitled = 0
    stranger = ""
    spool = path.with_name(path.name + ".spool")
    with spool.open("w+b") as file:
        for raw, record in records:
            item = numbers.get(raw)
            if item is None:
                of_no_item += 1
                stranger = stranger or raw
            elif places_V[item] >= 0:
                repeated += 1
            else:
                places_V[item] = file.tell()
                untitled += not _write(file, item, raw, record, id_field)
        if of_no_item and not (places_V >= 0).any():
            raise InputError(_none_known(stranger, next(iter(numbers))))
        with path.open("wb") as out:
            for raw, item in sorted(numbers.items(), key=lambda pair: pair[1]):
                if places_V[item] < 0:
                    _write(out, item, raw, {}, id_field)
                else:
                    file.seek(places_V[item])
                    out.write(file.readline())
    spool.unlink()
    found = int((places_V >= 0).sum())
    return Found(found, len(numbers) - found, untitled + len(numbers) - found, repeated, of_no_item)


def _none_known(theirs: str, ours: str) -> str:
    return (
        "no item record belongs to an item of the interactions: the records' ids are like "
        f"{repr(theirs)[:60]}, the interactions' ids like {repr(ours)[:60]}; expected the same ids in both; check "
        "that the files in --raw_dir belong together, and, where the importer has these flags, --items_file, "
        "--item_column and --items_id_column"
    )


def _write(file: BinaryIO, item: int, raw: str, record: Mapping[str, Any], id_field: str) -> str:
    """Writes one line; returns the title."""
    fields = {str(field): clean(value) for field, value in record.items()}
    title = fields.pop("title", None)
    title = title if isinstance(title, str) else "" if title is None else str(title)
    whole = {"item_id": item, "title": title, id_field: raw}
    whole |= {field: value for field, value in fields.items() if value is not None and field not in whole}
    text = json.dumps(whole, ensure_ascii=False)
    file.write(text.encode("utf-8", "replace") + b"\n")
    return title


def clean(value: Any, depth: int = 0) -> Any:
    """A value as JSON; None if it is empty, not finite, or nested more than `_DEPTH` deep.

    HTML is removed from texts (`markup.plain`); values of types that JSON lacks become text.
    """
    if isinstance(value, str):
        return markup.plain(value) or None
    if isinstance(value, bool) or isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (list, tuple, set)) and depth < _DEPTH:
        return [part for v in value if (part := clean(v, depth + 1)) is not None] or None
    if isinstance(value, dict) and depth < _DEPTH:
        found = {markup.plain(str(k)): part for k, v in value.items() if (part := clean(v, depth + 1)) is not None}
        return found or None
    return None if value is None or isinstance(value, (list, tuple, set, dict)) else str(value)
