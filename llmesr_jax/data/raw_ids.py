"""The ids of users and items in the raw data, which `launch.prepare` numbered from 1."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import manifest
from llmesr_jax.data.corpus import Corpus

FILES = {"user": "user_ids.txt", "item": "item_ids.txt"}
# Fields of items.jsonl that importers keep the raw id in, for folders without item_ids.txt.
FIELDS = ("raw_id", "asin", "parent_asin", "movie_id", "business_id")


def of_file(corpus: Corpus, kind: str) -> list[str] | None:
    """The raw ids of the ids 1, 2, ..., from `FILES`; None if there is no such file, as for the demo.

    Args:
      kind: "user" or "item".

    Raises:
      InputError: the file cannot be read or was changed after `launch.prepare` wrote it, its number of lines is not that of
        the users or items, a line is empty, or an id appears twice.
    """
    path = corpus.folder and Path(corpus.folder, FILES[kind])
    if not path:
        return None
    _is_as_prepared(path)
    try:
        found = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); expected one raw id per line; prepare the data again"
        ) from error
    count = _count(corpus, kind)
    if len(found) != count:
        raise InputError(
            f"{path}: has {len(found):,} ids, but inter.txt has {count:,} {kind}s; expected one id per {kind}; "
            "prepare the data again"
        )
    if "" in found:
        raise InputError(f"{path}, line {found.index('') + 1}: is empty; expected a raw id; prepare the data again")
    if len(set(found)) < count:
        raise InputError(
            f"{path}: an id appears twice; expected a different id for each {kind}; prepare the data again"
        )
    return found


def check(corpus: Corpus) -> None:
    """Checks the files of raw ids before work that does not read them, such as training, is based on them.

    Raises:
      InputError: see `of_file`; of a file that `launch.prepare` wrote, whether it was changed is all that is checked.
    """
    for kind, name in FILES.items():
        if corpus.folder and not _is_as_prepared(Path(corpus.folder, name)):
            of_file(corpus, kind)


def known(corpus: Corpus, kind: str) -> list[str] | None:
    """The raw ids of the ids 1, 2, ..., from `of_file`; those of items else from a field of items.jsonl.

    None if they are not known: no field of `FIELDS` has a different id for every item.

    Args:
      kind: "user" or "item".

    Raises:
      InputError: see `of_file`.
    """
    found = of_file(corpus, kind)
    if found is not None or kind == "user" or corpus.item_records is None:
        return found
    first = next(iter(corpus.item_records), {})
    for field in FIELDS:
        if of_record(first, field) and (found := all_different(of_record(r, field) for r in corpus.item_records)):
            return found
    return None


def every(corpus: Corpus, kind: str) -> list[str]:
    """As `known`; the numbers from 1, as text, if the raw ids are not known."""
    found = known(corpus, kind)
    return [str(number) for number in range(1, _count(corpus, kind) + 1)] if found is None else found


def rows_in(new: Corpus, old: Corpus, kind: str) -> np.ndarray:
    """int64 (U,) or (V,): for each user or item of `new`, in order of id, its row in `old`, from 0; -1 if it has none.

    Rows are found by the raw ids of `FILES`, or by number if neither has such a file.

    Args:
      kind: "user" or "item".

    Raises:
      InputError: see `of_file`; or only one of the two has such a file.
    """
    ids = {corpus: of_file(corpus, kind) for corpus in (new, old)}
    if ids[new] is None and ids[old] is None:
        numbers = np.arange(_count(new, kind))
        return np.where(numbers < _count(old, kind), numbers, -1)
    for corpus in (new, old):
        if ids[corpus] is None:
            raise InputError(
                f"{corpus.folder or corpus.name}: has no {FILES[kind]}, which is needed to match its {kind}s with "
                "those of other data; expected a folder that launch.prepare made"
            )
    places = {raw: row for row, raw in enumerate(ids[old])}
    return np.fromiter((places.get(raw, -1) for raw in ids[new]), np.int64, _count(new, kind))


def named(corpus: Corpus, kind: str, row: int) -> str:
    """The item or user of a row, from 0, for messages: `item I002 "Lamp"`, `user U017`; its id if no raw id is known."""
    path = corpus.folder and Path(corpus.folder, FILES[kind])
    lines = _lines(path) if path and path.is_file() else []
    record = corpus.item_records[row] if kind == "item" and corpus.item_records is not None else {}
    raw = lines[row] if row < len(lines) else next(filter(None, (of_record(record, f) for f in FIELDS)), str(row + 1))
    title = f" {json.dumps(record['title'][:60], ensure_ascii=False)}" if record.get("title") else ""
    return f"{kind} {raw}{title}"


def of_record(record: Mapping[str, Any], field: str) -> str:
    """The raw id in a field of an item's record; "" if it has none."""
    value = record.get(field)
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""


def all_different(ids: Iterable[str]) -> list[str] | None:
    """The ids as a list; None if one is empty, or two are equal."""
    found = list(ids)
    return found if all(found) and len(set(found)) == len(found) else None


def _is_as_prepared(path: Path) -> bool:
    """Whether `launch.prepare` wrote the file, as it is now; False if it did not write one.

    Raises:
      InputError: the file is missing or was changed since then.
    """
    made = manifest.read(path.parent)
    if made is None or path.name not in made["files"]:
        return False
    manifest.check_files(path.parent, made | {"files": {path.name: made["files"][path.name]}})
    return True


def _count(corpus: Corpus, kind: str) -> int:
    return {"user": corpus.num_users, "item": corpus.num_items}[kind]


@functools.lru_cache(4)
def _lines(path: Path) -> Sequence[str]:
    """The lines of a file that may be damaged."""
    return path.read_text(encoding="utf-8", errors="replace").removesuffix("\n").split("\n")
