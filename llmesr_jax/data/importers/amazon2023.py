"""Amazon reviews, release of 2023: `<category>.jsonl.gz` and `meta_<category>.jsonl.gz`, JSON lines.

Reviews: user_id, parent_asin (the product in any colour or size, which metadata refer to), rating, timestamp in
milliseconds. Without reviews, `<category>.csv` is read, with a header: user_id, parent_asin, rating, timestamp.
Metadata: parent_asin, title, store, price, categories, features, description, details.
https://amazon-reviews-2023.github.io/
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.importers import Downloads, _amazon
from llmesr_jax.data.raw_files import Files, json_objects
from llmesr_jax.data.raw_folders import check_folder, find
from llmesr_jax.data.staging import Reader

Options = _amazon.Options
ITEM_ID = "parent_asin"
PREPARED = False


def locate(folder: Path, options: Options) -> Files:
    _amazon.check(options, "All_Beauty")
    name = options.category
    if options.subset == "5core":
        raise InputError(
            f"--subset=5core: the release of 2023 calls its 5-core file {name}.csv, like the file of all ratings; put "
            "the right file into a folder alone, set --raw_dir to that folder, and use --subset=ratings"
        )
    check_folder(folder, f"{name}.jsonl.gz and meta_{name}.jsonl.gz")
    try:
        return _amazon.locate(folder, options, f"{name}.jsonl", f"{name}.csv", f"meta_{name}.jsonl")
    except InputError as error:
        part = find(folder, *_amazon.with_gz(*(f"{name}.{part}.csv" for part in ("train", "valid", "test"))))
        if part is None:
            raise
        raise InputError(
            f"{part}: is one part of a split; expected all interactions: {name}.jsonl.gz, or {name}.csv of the "
            "release's rating_only folder; download the reviews with --download, or set --raw_dir to their folder"
        ) from error


def interactions(files: Files, options: Options, reader: Reader) -> pl.LazyFrame:
    fields = {"user": "user_id", "item": "parent_asin", "rating": "rating", "time": "timestamp"}
    return _amazon.interactions(files, options, reader, fields, "ms")


def items(
    files: Files, options: Options, reader: Reader, wanted: Container[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for raw in files.items:
        records = json_objects(raw, reader.bad)
        for item, record in _amazon.metadata(raw, records, options, reader, "parent_asin", "asin"):
            record["details"] = details = _details(record.get("details"))
            # The prompts use the fields brand and date, whose values are elsewhere in this release.
            for field, value in (
                ("brand", details.get("Brand") or record.get("store")),
                ("date", details.get("Date First Available")),
            ):
                if value and field not in record:
                    record[field] = value
            yield item, record


def _details(value: Any) -> dict[str, Any]:
    """The object, which some copies of the release have as text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, dict) else {}


def downloads(options: Options) -> Downloads:
    base, metadata = (
        "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/",
        f"meta_{options.category}.jsonl.gz",
    )
    if options.subset == "ratings":
        ratings = f"benchmark/0core/rating_only/{options.category}.csv.gz"
        return Downloads(base, (ratings, f"raw/meta_categories/{metadata}"))
    return Downloads(f"{base}raw/", (f"review_categories/{options.category}.jsonl.gz", f"meta_categories/{metadata}"))
