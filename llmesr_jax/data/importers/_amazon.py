"""What the three releases of the Amazon reviews share."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from llmesr_jax.contracts import knob
from llmesr_jax.data import times
from llmesr_jax.data.raw_files import Files, RawFile, check_folder, find, json_objects
from llmesr_jax.data.staging import Reader
from llmesr_jax.data.values import Malformed, absent, identifier, number
from llmesr_jax.errors import InputError

# Links and pictures: nothing to read, and most of a record's length.
_LINKS = frozenset(
    "related also_buy also_view bought_together similar_item imUrl image imageURL imageURLHighRes images videos "
    "salesRank rank".split()
)


@dataclasses.dataclass(frozen=True)
class Options:
    """Which of the files."""

    category: str = knob("", "Amazon: the category as its files name it, such as Beauty or AMAZON_FASHION")
    subset: str = knob(
        "all", "Amazon: all reviews, or the 5-core file (users and items >= 5, iterated)", choices=("all", "5core")
    )


def check(options: Options, example: str) -> None:
    """Raises InputError if no category is named."""
    if not options.category or "/" in options.category:
        raise InputError(
            f"--category={options.category}: wanted the category as Amazon's files name it, such as {example}"
        )


def locate(folder: Path, reviews: list[str], metadata: list[str]) -> Files:
    """The reviews and, where it is there, the metadata; each under one of the names."""
    check_folder(folder, f"{reviews[0]} and {metadata[0]}")
    found, items = find(folder, *reviews), find(folder, *metadata)
    if found is None:
        theirs = (
            "; for an inter.txt that is prepared already: --importer=handled" if (folder / "inter.txt").exists() else ""
        )
        raise InputError(
            f"{folder}: holds no {' or '.join(reviews)}; wanted the reviews (and {metadata[0]} for the item texts); "
            f"fetch them with --download, or name their folder with --raw_dir{theirs}"
        )
    return Files((found,), (items,)) if items else Files((found,), absent=metadata[0])


def with_gz(*names: str) -> list[str]:
    """Each name gzipped, then plain."""
    return [name + end for name in names for end in (".gz", "")]


def interactions(files: Files, reader: Reader, user: str, item: str, rating: str, time: str, unit: str) -> pl.LazyFrame:
    """Reviews, a JSON object a line; arguments name the fields."""

    def rows() -> Iterator[tuple]:
        for raw in files.interactions:
            for line, review in json_objects(raw, reader.bad):
                try:
                    yield (
                        identifier(review.get(user)),
                        identifier(review.get(item)),
                        number(review.get(rating)),
                        times.from_number(review.get(time), unit),
                    )
                except Malformed as error:
                    reader.bad.add(raw, line, f"{absent(review, user, item, rating, time)}wanted {error}")

    return reader.stage(rows(), ("user", "item", "rating", "time"))


def attributes(record: dict[str, Any]) -> dict[str, Any]:
    """The record without links, and without what the pages' broken markup left in titles and prices."""
    kept = {field: value for field, value in record.items() if field not in _LINKS}
    title, price = kept.get("title"), kept.get("price")
    # Some titles of 2018 are a script of the page; the release's own notebook drops them by this word.
    if not isinstance(title, str) or "getTime" in title:
        kept.pop("title", None)
    # Some prices of 2018 are a style sheet.
    if isinstance(price, str) and ("{" in price or len(price) > 40):
        del kept["price"]
    return kept


def json_records(raw: RawFile, reader: Reader, field: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(id, attributes) of metadata with one JSON object a line."""
    for line, record in json_objects(raw, reader.bad):
        try:
            yield identifier(record.get(field)), attributes(record)
        except Malformed as error:
            reader.bad.add(raw, line, f"{field}: wanted {error}")
