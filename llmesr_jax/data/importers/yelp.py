"""Yelp academic data set: `yelp_academic_dataset_review.json` and `..._business.json`, plain, gzipped or in their tar.

Reviews: user_id, business_id, stars, date ("2019-12-31 23:59:59", of early releases "2012-03-01"). Businesses:
business_id, name, city, stars, review_count, categories (a text, of early releases a list), is_open (of early releases
open, and type). https://www.yelp.com/dataset
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from llmesr_jax.data import times
from llmesr_jax.data.importers import Downloads
from llmesr_jax.data.raw_files import Files, check_folder, find, json_objects
from llmesr_jax.data.staging import Reader
from llmesr_jax.data.values import Malformed, absent, identifier, number
from llmesr_jax.errors import InputError

ITEM_ID = "business_id"
PREPARED = False
_NAMES = {kind: f"yelp_academic_dataset_{kind}.json" for kind in ("review", "business")}
_NOT_TOLD = frozenset("attributes hours photo_url url full_address address latitude longitude postal_code".split())


@dataclasses.dataclass(frozen=True)
class Options:
    """There are none."""


def locate(folder: Path, options: Options) -> Files:
    check_folder(folder, " and ".join(_NAMES.values()))
    reviews, businesses = (find(folder, name, f"{name}.gz") for name in _NAMES.values())
    if reviews is None:
        raise InputError(
            f"{folder}: holds no {_NAMES['review']}; wanted it (and {_NAMES['business']} for the item texts), plain, "
            "gzipped or in the tar that Yelp gives out; get it at https://www.yelp.com/dataset, or name its folder "
            "with --raw_dir; for an inter.txt that is prepared already: --importer=handled"
        )
    return Files((reviews,), (businesses,)) if businesses else Files((reviews,), absent=_NAMES["business"])


def interactions(files: Files, options: Options, reader: Reader) -> pl.LazyFrame:
    def rows() -> Iterator[tuple]:
        for raw in files.interactions:
            for line, review in json_objects(raw, reader.bad):
                try:
                    user, item = identifier(review.get("user_id")), identifier(review.get("business_id"))
                    yield user, item, number(review.get("stars")), times.from_text(review.get("date"))
                except Malformed as error:
                    lacks = absent(review, "user_id", "business_id", "stars", "date")
                    reader.bad.add(raw, line, f"{lacks}wanted {error}")

    return reader.stage(rows(), ("user", "item", "rating", "time"))


def items(
    files: Files, options: Options, reader: Reader, wanted: Container[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for raw in files.items:
        for line, record in json_objects(raw, reader.bad):
            try:
                item = identifier(record.get(ITEM_ID))
            except Malformed as error:
                reader.bad.add(raw, line, f"{ITEM_ID}: wanted {error}")
                continue
            told = {field: value for field, value in record.items() if field not in _NOT_TOLD}
            yield item, {"title": told.pop("name", ""), **told}


def downloads(options: Options) -> Downloads:
    terms = "Yelp gives its files to those who accept its terms, at https://www.yelp.com/dataset"
    return Downloads("", tuple(_NAMES.values()), terms)
