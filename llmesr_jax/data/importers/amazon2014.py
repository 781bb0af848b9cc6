"""Amazon reviews, release of 2014: `reviews_<category>.json.gz` (or its 5-core) and `meta_<category>.json.gz`.

Reviews are JSON lines: reviewerID, asin, overall, unixReviewTime. Without reviews, `ratings_<category>.csv` is
read: user, item, rating, seconds, without a header. Metadata lines are Python literals, and are parsed as literals:
no code is run. https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from llmesr_jax.data.importers import Downloads, _amazon
from llmesr_jax.data.raw_files import Files, parsed
from llmesr_jax.data.staging import Reader
from llmesr_jax.data.values import Malformed

Options = _amazon.Options
ITEM_ID = "asin"
PREPARED = False

MAX_LITERAL = 2**20  # bytes; the longest lines, with all their links, have a tenth of it
_NESTING = re.compile(rb"[\[({]{20}|-{20}|~{20}")  # no record nests so deep; parsing such a line may take very long
_ASIN_FIRST = re.compile(rb"\{ ?'asin': ?'(\w{1,40})'")


def locate(folder: Path, options: Options) -> Files:
    _amazon.check(options, "Beauty")
    return _amazon.locate(folder, options, _reviews(options), f"ratings_{options.category}.csv", _metadata(options))


def _reviews(options: Options) -> str:
    return f"reviews_{options.category}{'_5' * (options.subset == '5core')}.json"


def _metadata(options: Options) -> str:
    return f"meta_{options.category}.json"


def interactions(files: Files, options: Options, reader: Reader) -> pl.LazyFrame:
    fields = {"user": "reviewerID", "item": "asin", "rating": "overall", "time": "unixReviewTime"}
    return _amazon.interactions(files, options, reader, fields, "s")


def items(
    files: Files, options: Options, reader: Reader, wanted: Container[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    def parse(line: bytes) -> dict[str, Any] | None:
        # Parsing a literal takes a hundred times as long as this look at its first key.
        if (asin := _ASIN_FIRST.match(line)) and asin[1].decode() not in wanted:
            return None
        return literal(line)

    for raw in files.items:
        yield from _amazon.metadata(raw, parsed(raw, reader.bad, parse), options, reader, "asin")


def literal(line: bytes) -> dict[str, Any]:
    """The dict that a line of Python (or JSON) contains.

    Raises:
      Malformed: it is anything else, is longer than `MAX_LITERAL`, or is nested too deeply.
    """
    if len(line) > MAX_LITERAL or _NESTING.search(line):
        raise Malformed(f"a Python literal of at most {MAX_LITERAL} bytes, not deeply nested")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes such as \\d, which are common in descriptions
            value = ast.literal_eval(line.strip().decode("utf-8"))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise Malformed("one Python literal per line, {'asin': ..., ...}") from error
    if not isinstance(value, dict):
        raise Malformed("one Python literal per line, {'asin': ..., ...}")
    return value


def downloads(options: Options) -> Downloads:
    ratings = f"ratings_{options.category}.csv"
    base = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/"
    reviews = ratings if options.subset == "ratings" else f"{_reviews(options)}.gz"
    return Downloads(base, (reviews, f"{_metadata(options)}.gz"))
