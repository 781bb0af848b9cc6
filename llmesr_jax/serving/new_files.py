"""New items from files: their records, and the embeddings of their texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import raw_ids
from llmesr_jax.data.decoding import Text
from llmesr_jax.data.json_files import objects
from llmesr_jax.data.raw_files import BadLines, RawFile
from llmesr_jax.serving.model import ServedModel


def with_items(model: ServedModel, items: str, embeddings: str) -> ServedModel:
    """The model with the items of a JSON lines file.

    Args:
      model: to be extended.
      items: path of JSON lines, one object per item: its raw id under "item", "id" or a name that importers use, a
        title under "title", and any other columns.
      embeddings: path of a .npy of floats (n, F), a row for each line.
    Raises:
      InputError: a file cannot be read, or the files do not match each other or the model.
    """
    records = _records(items)
    ids = [_id(record, f"--new_items={items}, item {n}") for n, record in enumerate(records, 1)]
    try:
        array = np.load(embeddings, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or "not a NumPy array"
        raise InputError(
            f"--new_embeddings={embeddings}: cannot be read ({reason}); expected .npy of floats, a row for each line "
            f"of {items}"
        ) from error
    titles = [str(record.get("title") or "") for record in records]
    return model.with_items(ids, array, titles, records=records)


def _records(path: str) -> list[dict[str, Any]]:
    if not Path(path).is_file():
        raise InputError(f"--new_items={path}: no such file; expected JSON lines, an object for each new item")
    found = [value for _, value in objects(Text(RawFile(Path(path))), BadLines(0, flag=""))]
    if not found:
        raise InputError(f"--new_items={path}: has no items; expected JSON lines, an object for each new item")
    return found


def _id(record: dict[str, Any], where: str) -> Any:
    for name in ("item", "id", "item_id", *raw_ids.FIELDS):
        if record.get(name) is not None:
            return record[name]
    raise InputError(f'{where}: {json.dumps(record, ensure_ascii=False)[:60]} has no raw id; expected one under "item"')
