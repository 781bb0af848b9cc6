"""Amazon reviews, release of 2023: `<category>.jsonl.gz` and `meta_<category>.jsonl.gz`, JSON lines.

Reviews: user_id, parent_asin (the product whatever its colour or size; what metadata goes by), rating, timestamp in
milliseconds. Metadata: parent_asin, title, store, price, categories, features, description, details.
https://amazon-reviews-2023.github.io/
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from llmesr_jax.contracts import knob
from llmesr_jax.data.importers import Downloads, _amazon
from llmesr_jax.data.raw_files import Files
from llmesr_jax.data.staging import Reader


@dataclasses.dataclass(frozen=True)
class Options:
    """Which of the files."""

    category: str = knob("", "Amazon: the category as its files name it, such as Beauty or AMAZON_FASHION")


ITEM_ID = "parent_asin"
PREPARED = False


def locate(folder: Path, options: Options) -> Files:
    _amazon.check(options, "All_Beauty")
    reviews, metadata = f"{options.category}.jsonl", f"meta_{options.category}.jsonl"
    return _amazon.locate(folder, _amazon.with_gz(reviews), _amazon.with_gz(metadata))


def interactions(files: Files, options: Options, reader: Reader) -> pl.LazyFrame:
    return _amazon.interactions(files, reader, "user_id", "parent_asin", "rating", "timestamp", "ms")


def items(
    files: Files, options: Options, reader: Reader, wanted: Container[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for raw in files.items:
        for item, record in _amazon.json_records(raw, reader, "parent_asin"):
            details = record.get("details") if isinstance(record.get("details"), dict) else {}
            # The prompts ask for a brand and a date, which this release tells in other places.
            for field, told in (
                ("brand", details.get("Brand") or record.get("store")),
                ("date", details.get("Date First Available")),
            ):
                if told and field not in record:
                    record[field] = told
            yield item, record


def downloads(options: Options) -> Downloads:
    base = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw/"
    paths = (f"review_categories/{options.category}.jsonl.gz", f"meta_categories/meta_{options.category}.jsonl.gz")
    return Downloads(base, paths)
