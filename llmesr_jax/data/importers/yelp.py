"""Yelp academic data set: its file of reviews and its file of businesses, plain, gzipped or in their archive.

The archive is a tar, or a zip with the tar inside; its content decides, not its name. Reviews: user_id,
business_id, stars, date ("2019-12-31 23:59:59", of early releases "2012-03-01"). Businesses: business_id, name, city,
stars, review_count, categories (a text, of early releases a list), is_open (of early releases open, and type).
https://www.yelp.com/dataset
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.knobs import knob
from llmesr_jax.data import times
from llmesr_jax.data.importers import Downloads, _records
from llmesr_jax.data.raw_files import Files, json_objects
from llmesr_jax.data.raw_folders import check_folder, find
from llmesr_jax.data.staging import Reader
from llmesr_jax.data.values import Malformed, absent

ITEM_ID = "business_id"
PREPARED = False
_TITLE = "name"
_NAMES = {kind: f"yelp_academic_dataset_{kind}.json" for kind in ("review", "business")}
# In order of age: 2014 and later, 2018 (rounds 11 and 12), 2013 (the contest's).
_RELEASES = ("yelp_academic_dataset_{}.json", "{}.json", "yelp_training_set_{}.json")
_LEFT_OUT = frozenset("attributes hours photo_url url full_address address latitude longitude postal_code".split())


@dataclasses.dataclass(frozen=True)
class Options:
    """Which field of a business is its title."""

    title_column: str = knob(_TITLE, "column, or field, of the items' file with the title, if there is one")


def locate(folder: Path, options: Options) -> Files:
    check_folder(folder, " and ".join(_NAMES.values()))
    for name in _RELEASES:  # both files must be of one release, because ids differ between releases
        reviews, businesses = (find(folder, *_both(name.format(kind))) for kind in _NAMES)
        if reviews is not None:
            break
    else:
        raise InputError(
            f"{folder}: has no {_NAMES['review']} (or review.json, as of 2018); expected one (and "
            f"{_NAMES['business']} for the item texts), plain, gzipped or in Yelp's archive; download it "
            "from https://www.yelp.com/dataset, or set --raw_dir to its folder; for an inter.txt that is already "
            "prepared, use --importer=handled"
        )
    return Files((reviews,), (businesses,)) if businesses else Files((reviews,), absent=name.format("business"))


def _both(name: str) -> tuple[str, str]:
    return name, f"{name}.gz"


def interactions(files: Files, options: Options, reader: Reader) -> pl.LazyFrame:
    def rows() -> Iterator[tuple]:
        for raw in files.interactions:
            for line, review in json_objects(raw, reader.bad):
                try:
                    user, item = _records.field(review, "user_id"), _records.field(review, "business_id")
                    if why := _records.lacking(user, item, review.get("stars"), reader):
                        reader.dropped[why] += 1
                        continue
                    stars = _records.stars(review.get("stars"), reader)
                    yield user, item, stars, times.from_text(review.get("date"))
                except Malformed as error:
                    lacks = absent(review, "user_id", "business_id", "stars", "date")
                    reader.bad.add(raw, line, f"{lacks}expected {error}")

    return reader.stage(rows(), ("user", "item", "rating", "time"))


def items(
    files: Files, options: Options, reader: Reader, wanted: Container[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for raw in files.items:
        for line, record in _records.titled(json_objects(raw, reader.bad), raw, options.title_column, _TITLE):
            try:
                item = _records.field(record, ITEM_ID)
            except Malformed as error:
                reader.bad.add(raw, line, f"{ITEM_ID}: expected {error}")
                continue
            if item is None:
                reader.dropped[_records.NO_ITEM] += 1
                continue
            yield item, {field: value for field, value in record.items() if field not in _LEFT_OUT}


def downloads(options: Options) -> Downloads:
    terms = "Yelp requires you to accept its terms at https://www.yelp.com/dataset"
    return Downloads("", tuple(_NAMES.values()), terms)
