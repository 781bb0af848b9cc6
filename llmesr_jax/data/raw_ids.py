"""The ids of a corpus's items and users in the raw data; the numbers from 1 if these are not known."""

from __future__ import annotations

from pathlib import Path

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.corpus import Corpus

# Fields of items.jsonl that importers keep the raw id in, for folders without item_ids.txt.
FIELDS = ("raw_id", "asin", "parent_asin", "movie_id", "business_id")


def items(corpus: Corpus) -> list[str]:
    """(V,) raw ids: from `item_ids.txt`, else from a field of `items.jsonl` (`FIELDS`), else the numbers from 1.

    Raises:
      InputError: `item_ids.txt` cannot be read, or does not have one id per item.
    """
    if (found := _file(corpus, "item", corpus.num_items)) is not None:
        return found
    records = corpus.item_records
    field = next((name for name in FIELDS if name in records[0]), None) if records else None
    if field:
        found = [str(record.get(field, "")) for record in records]
        if len(set(found)) == len(found) and all(found):
            return found
    return [str(number) for number in range(1, corpus.num_items + 1)]


def users(corpus: Corpus) -> list[str]:
    """(U,) raw ids: from `user_ids.txt`, else the numbers from 1.

    Raises:
      InputError: `user_ids.txt` cannot be read, or does not have one id per user.
    """
    found = _file(corpus, "user", corpus.num_users)
    return [str(number) for number in range(1, corpus.num_users + 1)] if found is None else found


def _file(corpus: Corpus, kind: str, count: int) -> list[str] | None:
    if corpus.folder is None:
        return None
    path = Path(corpus.folder, f"{kind}_ids.txt")
    try:
        found = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); expected one raw id per line; prepare the data again"
        ) from error
    found = found[:-1] if found[-1] == "" else found
    if len(found) != count:
        raise InputError(
            f"{path}: has {len(found):,} ids, but inter.txt has {count:,} {kind}s; expected one id per {kind}; "
            "prepare the data again"
        )
    return found
