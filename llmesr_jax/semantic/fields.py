"""The fields of an item's record: turns their values into text, and finds those that are identifiers.

    text({"Material": "Oak", "Size": {"Width": 3, "Height": 4.5}})  ->  "Material: Oak; Size: Width: 3, Height: 4.5"
    is_identifier("parent_asin"), is_identifier("productId")         ->  True, True

Identifiers and addresses distinguish items without describing them, so prompts exclude them: otherwise two items of
the same text would get different vectors.
"""

from __future__ import annotations

import ast
import functools
import json
import re
import warnings
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from llmesr_jax.data import markup, raw_ids

_FIRST = 1000  # records that are searched for one with fields beside its ids and title
_LITERAL_CHARS = 100_000  # a text longer than this is not tried as an object
_IDENTIFIERS = frozenset(
    "artistid bookid ean8 ean13 gtin13 gtin14 hash href image images imageurlhighres isbn10 isbn13 issn itemid link "
    "links movieid permalink productid related skus slug songid thumbnail thumbnails trackid".split()
)
_LAST_WORDS = frozenset("asin barcode ean gtin guid id ids isbn sku upc uri url urls uuid".split())
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+|\d+")
_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]*://|www\.)\S+", re.IGNORECASE)
_CODE = re.compile(r"(?=\S*[^\W\d_])(?=\S*\d)(?!\d{4}-\d\d-\d\d)\S+")  # letters and digits without a blank, not a date


def text(value: Any, apart: str = "; ") -> str:
    """A value as text; "" if it is empty.

    The parts of a list are joined by commas. An object becomes "key: value" pairs, joined by `apart`, as are several
    objects in a list; the pairs of deeper objects are joined by commas. A text that is an object or a list of texts in
    JSON or Python, as tables have it, is parsed. Identifiers, links and web addresses within lists and objects are left
    out.
    """
    if value is None:
        return ""
    if isinstance(value, str):
        value = _opened(value)
        if isinstance(value, str):
            return markup.plain(value)
    if isinstance(value, (list, tuple)):
        of_objects = any(isinstance(part, Mapping) for part in value)
        parts = [_part(part, ", ") for part in value if not is_address(part)]
        return (apart if of_objects else ", ").join(filter(None, parts))
    if isinstance(value, Mapping):
        return _pairs(value, apart)
    known = isinstance(value, (int, float)) and value == value  # NaN is an empty cell of a table
    return str(value) if known else ""


def within(record: Mapping[str, Any], path: str) -> Any:
    """The value at a path such as "details.Material", or "offers.0.price"; None if there is none.

    A field with the whole name takes precedence over a path. In a list of objects, a name selects it from each object.
    """
    if path in record:
        return record[path]
    name, dot, rest = path.partition(".")
    while dot:
        if name in record:
            return _below(record[name], rest)
        more, dot, rest = rest.partition(".")
        name = f"{name}.{more}"
    return None


def text_at(record: Mapping[str, Any], path: str, apart: str = "; ") -> str:
    """As `text`, of the value at a path (`within`)."""
    return text(record[path], apart) if path in record else _part(within(record, path), apart)


def _below(value: Any, path: str) -> Any:
    value = _opened(value) if isinstance(value, str) else value
    if isinstance(value, Mapping):
        return within(value, path)
    if isinstance(value, (list, tuple)):
        place, dot, rest = path.partition(".")
        if place.isdecimal():
            found = value[int(place)] if int(place) < len(value) else None
            return _below(found, rest) if dot else found
        found = [_below(part, path) for part in value if isinstance(part, Mapping)]
        return [part for part in found if part is not None] or None
    return None


@functools.lru_cache(4096)
def is_identifier(field: str) -> bool:
    """Whether a field of this name holds identifiers or links: "parent_asin", "productId", "image_url", "ISBN-13"."""
    words = [word.lower() for word in _WORD.findall(field)]
    return "".join(words) in _IDENTIFIERS or (bool(words) and words[-1] in _LAST_WORDS)


def is_address(value: Any) -> bool:
    """Whether a value is a web address and nothing else."""
    return isinstance(value, str) and bool(_ADDRESS.fullmatch(value.strip()))


def unsaid(records: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The fields that are identifiers although their names do not show it.

    Such a field either repeats the raw id, in every record that has both; or it has a code of letters and digits
    without a blank for every item that has a title or any field, different for each. Only fields of the first record
    that has any besides its ids and title are considered, and records are read until none of these fields is left.
    """
    seen: dict[str, set[int]] = {}
    repeats: dict[str, int] = {}
    count, bare = 0, False
    for number, record in enumerate(records):
        raw = next((str(record[name]) for name in raw_ids.FIELDS if record.get(name) is not None), None)
        others = {field: value for field, value in record.items() if not is_identifier(field) and field != "title"}
        if not others and not record.get("title"):
            continue
        if not count:
            if not others and number < _FIRST:
                bare = True
                continue
            seen, repeats = {field: set() for field in others if not bare}, dict.fromkeys(others, 0)
        count += 1
        for field in [field for field in seen if not _is_new_code(others.get(field), seen[field])]:
            del seen[field]
        for field in [field for field in repeats if others.get(field) not in (None, "")]:
            if raw is not None and str(others[field]).strip() == raw:
                repeats[field] += 1
            else:
                del repeats[field]
        if not seen and not repeats:
            break
    return frozenset([*(seen if count > 1 else ()), *(field for field, times in repeats.items() if times > 1)])


def _is_new_code(value: Any, seen: set[int]) -> bool:
    if not isinstance(value, str) or not _CODE.fullmatch(value) or hash(value) in seen:
        return False
    seen.add(hash(value))
    return True


def _part(value: Any, apart: str) -> str:
    """As `text`, for a value within a list or an object: booleans are "yes" or "no", and numbers have no exponent."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and value == value and abs(value) != float("inf"):
        return format(Decimal(repr(value)), "f").removesuffix(".0")
    return text(value, apart)


def _pairs(value: Mapping[str, Any], apart: str) -> str:
    pairs = []
    for key, part in value.items():
        label = " ".join(markup.plain(str(key)).replace("_", " ").split()).rstrip(": ")
        if not is_identifier(label) and not is_address(part) and (words := _part(part, ", ")):
            pairs.append(f"{label}: {words}" if label else words)
    return apart.join(pairs)


def _opened(value: str) -> Any:
    """The object, or list of texts or objects, that a text contains in JSON or as a Python literal; else the text."""
    bare = value.strip()
    if bare[:2] in ("u'", 'u"') and bare[-1:] == bare[1] and bare.count(bare[1]) == 2:
        return bare[2:-1]  # Yelp's "u'free'"
    if bare[:1] + bare[-1:] not in ("{}", "[]") or len(bare) > _LITERAL_CHARS:
        return value
    for parse in (json.loads, ast.literal_eval):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about invalid escapes
                found = parse(bare)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        words = isinstance(found, list) and found and all(isinstance(part, (str, Mapping)) for part in found)
        return found if words or isinstance(found, Mapping) else value
    return value
