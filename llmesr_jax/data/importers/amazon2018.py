"""Amazon reviews, release of 2018: `<category>.json.gz` (or its 5-core) and `meta_<category>.json.gz`, JSON lines.

Without reviews, `<category>.csv` is read: item, user, rating, seconds, without a header; the item comes first.
Reviews: reviewerID, asin, overall, unixReviewTime. Metadata: asin, title, brand, price ("$1.99 - $3.50"), category,
feature, description (a list, or a string), date. Reviews and metadata repeat; the first record of an item counts.
https://nijianmo.github.io/amazon/index.html
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from llmesr_jax.data.importers import Downloads, _amazon
from llmesr_jax.data.raw_files import Files, json_objects
from llmesr_jax.data.staging import Reader

Options = _amazon.Options
ITEM_ID = "asin"
PREPARED = False


def locate(folder: Path, options: Options) -> Files:
    _amazon.check(options, "AMAZON_FASHION")
    reviews = f"{options.category}{'_5' * (options.subset == '5core')}.json"
    return _amazon.locate(folder, options, reviews, f"{options.category}.csv", f"meta_{options.category}.json")


def interactions(files: Files, options: Options, reader: Reader) -> pl.LazyFrame:
    fields = {"user": "reviewerID", "item": "asin", "rating": "overall", "time": "unixReviewTime"}
    return _amazon.interactions(files, options, reader, fields, "s", ("item", "user", "rating", "time"))


def items(
    files: Files, options: Options, reader: Reader, wanted: Container[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for raw in files.items:
        yield from _amazon.metadata(raw, json_objects(raw, reader.bad), options, reader, "asin")


def downloads(options: Options) -> Downloads:
    paths = {
        "all": f"categoryFiles/{options.category}.json.gz",
        "5core": f"categoryFilesSmall/{options.category}_5.json.gz",
        "ratings": f"categoryFilesSmall/{options.category}.csv",
    }
    base = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2/"
    return Downloads(base, (paths[options.subset], f"metaFiles2/meta_{options.category}.json.gz"))
