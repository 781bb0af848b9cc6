"""What the three releases of the Amazon reviews share."""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.knobs import knob
from llmesr_jax.data.importers import _records
from llmesr_jax.data.raw_files import Files, RawFile, json_objects, lines, parsed
from llmesr_jax.data.raw_folders import check_folder, find
from llmesr_jax.data.staging import Reader
from llmesr_jax.data.values import Malformed, absent, number

# Links and pictures, which describe nothing and are most of a record's length.
_LINKS = frozenset(
    "related also_buy also_view bought_together similar_item imUrl image imageURL imageURLHighRes images videos "
    "salesRank rank".split()
)
_OPENED = 1995  # the year the shop opened: an earlier time is one in seconds that was read as milliseconds
_ASIN = re.compile("[0-9A-Z]{10}")
COLUMNS = ("user", "item", "rating", "time")
# Column names, in small letters, in the headers of files of ratings: of the releases, and of copies of them.
_NAMED = {
    "user": ("userid", "reviewerid", "user"),
    "item": ("parentasin", "asin", "productid", "itemid", "item"),
    "rating": ("rating", "overall", "ratings", "stars"),
    "time": ("timestamp", "unixreviewtime", "time"),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Which files to read."""

    category: str = knob("", "Amazon: the category as its files name it, such as Beauty or AMAZON_FASHION")
    subset: str = knob(
        "all",
        "Amazon: all reviews; the 5-core file (users and items >= 5, iterated); or the CSV file of ratings only, which "
        "is also read if there are no reviews",
        choices=("all", "5core", "ratings"),
    )
    title_column: str = knob("title", "column, or field, of the items' file with the title, if there is one")


def check(options: Options, example: str) -> None:
    """Raises InputError if no category is named."""
    if not options.category or "/" in options.category:
        raise InputError(
            f"--category={options.category}: is not a category; expected one as Amazon's files name it, such as "
            f"{example}"
        )


def locate(folder: Path, options: Options, reviews: str, ratings: str, metadata: str) -> Files:
    """The reviews (or the ratings) and, if it exists, the metadata; each gzipped or plain."""
    wanted = {"ratings": [ratings]}.get(options.subset, [reviews, *([ratings] if options.subset == "all" else [])])
    names = [with_gz(name) for name in wanted]
    check_folder(folder, f"{names[0][0]} and {metadata}.gz")
    found = next((raw for raw in (find(folder, *name) for name in names) if raw), None)
    if found is None:
        theirs = (
            "; for an inter.txt that is already prepared, use --importer=handled"
            if (folder / "inter.txt").exists()
            else ""
        )
        instead = f", or {ratings}," if options.subset == "all" else ""
        raise InputError(
            f"{folder}: has no {' or '.join(names[0])}; expected the reviews{instead} (and {metadata}.gz for the "
            f"item texts); download the files with --download, or set --raw_dir to their folder{theirs}"
        )
    items = find(folder, *with_gz(metadata))
    return Files((found,), (items,)) if items else Files((found,), absent=f"{metadata}.gz")


def with_gz(*names: str) -> list[str]:
    """Each name gzipped, then plain."""
    return [name + end for name in names for end in (".gz", "")]


def interactions(
    files: Files, options: Options, reader: Reader, fields: Mapping[str, str], unit: str, order: Sequence[str] = COLUMNS
) -> pl.LazyFrame:
    """Reviews, one JSON object per line, whose `fields` are {user, item, rating, time: name}; or ratings in a CSV file.

    Args:
      files: as found by `locate`.
      options: of the importer.
      reader: counts what is left out.
      fields: names in a review.
      unit: of the times.
      order: of the columns of ratings without a header.
    """
    (raw,) = files.interactions
    if (raw.inner or raw.member or raw.path.name).removesuffix(".gz").endswith(".csv"):
        if options.subset == "all":
            reader.note(f"--raw_dir has no reviews, so the ratings of {_name(raw)} were read")
        return _ratings(raw, reader, unit, order)
    return reader.stage(_reviews(raw, reader, fields, unit), COLUMNS)


def _name(raw: RawFile) -> str:
    return ":".join(filter(None, (raw.path.name, raw.member, raw.inner)))


def _reviews(raw: RawFile, reader: Reader, fields: Mapping[str, str], unit: str) -> Iterator[tuple]:
    user_field, item_field, rating, time = (fields[column] for column in COLUMNS)
    variants = 0
    for line, review in json_objects(raw, reader.bad):
        if item_field not in review and "asin" in review:
            review[item_field] = review["asin"]
            variants += 1
        try:
            user, item = _records.field(review, user_field), _records.field(review, item_field)
            if why := _records.lacking(user, item, review.get(rating), reader):
                reader.dropped[why] += 1
                continue
            stars = _records.stars(review.get(rating), reader)
            yield user, item, stars, _records.moment(review.get(time), unit, _OPENED)
        except Malformed as error:
            reader.bad.add(raw, line, f"{absent(review, *fields.values())}expected {error}")
    if variants:
        reader.note(f"{_name(raw)}: {variants:,} reviews have no {item_field}; their asin was used as the item's id")


def _ratings(raw: RawFile, reader: Reader, unit: str, order: Sequence[str]) -> pl.LazyFrame:
    """A CSV file of user, item, rating and time in the given `order`, or in that of its header.

    Items are recognised by their ids (ASINs have ten letters and digits, users' ids mostly more), so an order unlike
    the release's is detected, and noted.
    """
    header, named = _header(raw)
    places = named or {column: at for at, column in enumerate(order)}
    user_at, item_at, rating_at, time_at = (places[column] for column in COLUMNS)
    asins = {"user": 0, "item": 0, "of": 0}

    def rows() -> Iterator[tuple]:
        for line, fields in parsed(raw, reader.bad, _fields):
            if line == header:
                continue
            try:
                if len(fields) <= max(places.values()):
                    raise Malformed(f"at least {max(places.values()) + 1} fields as in the header, not {len(fields)}")
                user, item = _records.read(fields[user_at]), _records.read(fields[item_at])
                if why := _records.lacking(user, item, fields[rating_at], reader):
                    reader.dropped[why] += 1
                    continue
                stars = _records.stars(fields[rating_at], reader)
                row = user, item, stars, _records.moment(fields[time_at], unit, _OPENED)
            except Malformed as error:
                reader.bad.add(raw, line, f"expected {error}")
                continue
            asins["of"] += 1
            asins["user"] += _ASIN.fullmatch(user) is not None
            asins["item"] += _ASIN.fullmatch(item) is not None
            yield row

    frame = reader.stage(rows(), COLUMNS)
    if asins["user"] > asins["of"] / 2 > asins["item"]:
        reader.note(
            f"{_name(raw)}: column {user_at + 1} holds ASINs and column {item_at + 1} does not, so column "
            f"{user_at + 1} was read as the items and column {item_at + 1} as the users"
        )
        frame = frame.rename({"user": "item", "item": "user"})
    return frame


def _header(raw: RawFile) -> tuple[int, dict[str, int] | None]:
    """(line, {column: place}) of a first line with names; 0 and None if the first line is a row.

    Raises:
      InputError: it has names, but not those of a user, an item, a rating and a time.
    """
    line, first = next(iter(lines(raw, quiet=True)), (0, b""))
    try:
        fields = _fields(first)
    except Malformed:
        return 0, None
    if any(_is_number(value) for value in fields):
        return 0, None
    names = [re.sub("[^a-z]", "", name.lower()) for name in fields]
    found = {}
    for column, known in _NAMED.items():
        place = next((names.index(name) for name in known if name in names), None)
        if place is None:
            raise InputError(
                f"{raw}, line {line}: has the columns {repr(', '.join(fields))[1:-1][:200]}; expected user_id, asin "
                "(or parent_asin), rating, timestamp, or no header; read the file with --importer=table and its column "
                "flags"
            )
        found[column] = place
    return line, found


def _is_number(text: str) -> bool:
    try:
        number(text)
    except Malformed:
        return False
    return True


def _fields(line: bytes) -> list[str]:
    try:
        text = line.decode("utf-8")
        fields = next(csv.reader([text])) if '"' in text else text.split(",")
    except (UnicodeDecodeError, csv.Error):
        fields = []
    if len(fields) < len(COLUMNS):
        raise Malformed("four fields separated by commas: user, item, rating, time")
    return fields


def attributes(record: dict[str, Any]) -> dict[str, Any]:
    """The record without links, and without remains of broken markup in titles and prices."""
    kept = {field: value for field, value in record.items() if field not in _LINKS}
    title, price = kept.get("title"), kept.get("price")
    # Some titles of 2018 are a script of the page; the release's own notebook drops them by this word.
    if not isinstance(title, str) or "getTime" in title:
        kept.pop("title", None)
    # Some prices of 2018 are a style sheet.
    if isinstance(price, str) and ("{" in price or len(price) > 40):
        del kept["price"]
    return kept


def metadata(
    raw: RawFile, records: Iterator[tuple[int, dict[str, Any] | None]], options: Options, reader: Reader, *fields: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(id, attributes) of each line's record, None if it is not needed; the id is in the first of `fields` present."""
    for line, record in _records.titled(records, raw, options.title_column, "title"):
        if record is None:
            continue
        name = next((name for name in fields if name in record), fields[0])
        try:
            item = _records.field(record, name)
        except Malformed as error:
            reader.bad.add(raw, line, f"{name}: expected {error}")
            continue
        if item is None:
            reader.dropped[_records.NO_ITEM] += 1
        else:
            yield item, attributes(record)
