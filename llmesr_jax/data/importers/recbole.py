"""RecBole's atomic files: `<name>.inter` and, where there is one, `<name>.item`.

Tab-separated, the first line has columns and types: "user_id:token	item_id:token	rating:float	timestamp:float".
Times are seconds. https://recbole.io/docs/user_guide/data/atomic_files.html
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from llmesr_jax.data import times
from llmesr_jax.data.importers import Downloads
from llmesr_jax.data.raw_files import Files, RawFile, check_folder
from llmesr_jax.data.staging import Reader, check_columns, delimited, header
from llmesr_jax.data.values import Malformed, identifier, number
from llmesr_jax.errors import InputError

ITEM_ID = "raw_id"
PREPARED = False
_USER, _ITEM, _RATING, _TIME = "user_id:token", "item_id:token", "rating:float", "timestamp:float"
# RecBole names fields after their sources; these are what prompts look for.
_FIELDS = {
    "movie_title": "title",
    "name": "title",
    "class": "categories",
    "genre": "categories",
    "sales_type": "category",
}


@dataclasses.dataclass(frozen=True)
class Options:
    """There are none."""


def locate(folder: Path, options: Options) -> Files:
    check_folder(folder, "an .inter file")
    found = sorted(folder.glob("*.inter"))
    if len(found) != 1:
        what = f"holds {', '.join(path.name for path in found[:4])}" if found else "holds no .inter file"
        raise InputError(f"{folder}: {what}; wanted one; name a folder with --raw_dir that holds it")
    items = found[0].with_suffix(".item")
    return Files((RawFile(found[0]),), *([(RawFile(items),)] if items.is_file() else [(), items.name]))


def interactions(files: Files, options: Options, reader: Reader) -> pl.LazyFrame:
    (raw,) = files.interactions
    names = header(raw, "\t", quoted=False)
    check_columns(raw, {"importer=table": _USER}, names)
    check_columns(raw, {"importer=table": _ITEM}, names)
    columns = ("user", "item", *(("rating",) * (_RATING in names)), *(("time",) * (_TIME in names)))

    def rows() -> Iterator[tuple]:
        for line, row in delimited(raw, reader.bad, "\t", quoted=False):
            try:
                found = [identifier(row[_USER]), identifier(row[_ITEM])]
                if "rating" in columns:
                    found.append(number(row[_RATING]))
                if "time" in columns:
                    found.append(times.from_number(row[_TIME]))
                yield tuple(found)
            except Malformed as error:
                reader.bad.add(raw, line, f"wanted {error}")

    return reader.stage(rows(), columns)


def items(
    files: Files, options: Options, reader: Reader, wanted: Container[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for raw in files.items:
        check_columns(raw, {"importer=table": _ITEM}, header(raw, "\t", quoted=False))
        for line, row in delimited(raw, reader.bad, "\t", quoted=False):
            try:
                item = identifier(row[_ITEM])
            except Malformed as error:
                reader.bad.add(raw, line, f"wanted {error}")
                continue
            record: dict[str, Any] = {}
            for column, value in row.items():
                name = column.partition(":")[0]
                record.setdefault(_FIELDS.get(name, name), value)
            yield item, record


def downloads(options: Options) -> Downloads:
    return Downloads("", (), "RecBole's files have no fixed address; see https://recbole.io/dataset_list.html")
