"""Any table: CSV, JSON lines (either may be gzipped) or Parquet, or a folder of Parquet parts, with columns by name.

    python -m launch.prepare --dataset=mine --importer=table --raw_dir=raw --user_column=uid --item_column=sku \
        --time_column=at --items_file=products.csv

Parquet parts are read in order of their names, lazily, whichever engine wrote them. Times are numbers (`--time_unit`)
or dates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from llmesr_jax.contracts import knob
from llmesr_jax.data import times
from llmesr_jax.data.importers import Downloads, _parquet
from llmesr_jax.data.raw_files import Files, RawFile, check_folder, json_objects
from llmesr_jax.data.staging import Reader, check_columns, delimited, header
from llmesr_jax.data.values import Malformed, identifier, number
from llmesr_jax.errors import InputError

ITEM_ID = "raw_id"
PREPARED = False
_TITLE = "title"
_KINDS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")


@dataclasses.dataclass(frozen=True)
class Options:
    """Which file, which columns."""

    file: str = knob("", "name of the file (table: or of the folder of parts) below --raw_dir; empty: the only one")
    items_file: str = knob("", "table: name of a file (or folder of parts) with a row an item; empty: no item texts")
    user_column: str = knob("user_id", "table: column of the user")
    item_column: str = knob("item_id", "table: column of the item, in the items' file too")
    rating_column: str = knob("", "table: column of the rating; empty: none")
    time_column: str = knob("", "table: column of the time; empty: none, rows are in time order")
    title_column: str = knob(_TITLE, "table: column of the items' file with the title, where there is one")
    time_unit: str = knob("s", "table: unit of times that are numbers, since 1970", choices=tuple(times.UNITS))
    separator: str = knob("", "table: between the fields of a CSV file; empty: a comma, of .tsv a tab")


def locate(folder: Path, options: Options) -> Files:
    check_folder(folder, "a CSV, JSON lines or Parquet file")
    for flag in ("user_column", "item_column"):
        if not getattr(options, flag):
            raise InputError(f"--{flag}=: is empty; wanted the name of a column")
    if options.title_column not in ("", _TITLE) and not options.items_file:
        raise InputError(f"--title_column={options.title_column}: wants --items_file, which has that column")
    for flag in ("file", "items_file"):
        if (name := getattr(options, flag)) and not (folder / name).exists():
            there = ", ".join(path.name for path in sorted(folder.iterdir()) if _kind(path) or path.is_dir())
            raise InputError(f"--{flag}={name}: {folder} has no such file; it has: {there[:300] or 'no table'}")
    if options.file:
        found = [folder / options.file]
    else:
        known = sorted(path for path in folder.iterdir() if _kind(path) and path.is_file())
        found = [path for path in known if path.name != options.items_file]
        if len(found) > 1 and all(_kind(path) == ".parquet" for path in found):
            found = [folder]
    if len(found) != 1:
        names = ", ".join(path.name for path in found[:4]) or "none"
        raise InputError(
            f"{folder}: found {names}; wanted one CSV, JSON lines or Parquet file; name that of the interactions with "
            "--file, that of the items with --items_file"
        )
    files = [found[0], *([folder / options.items_file] if options.items_file else [])]
    parts = [tuple(map(RawFile, _parts(path, options.items_file))) for path in files]
    return Files(*parts)


def _kind(path: Path) -> str:
    """The kind of table, by the name's ending; "" for anything else."""
    name = path.name.removesuffix(".gz")
    return next((kind for kind in _KINDS if name.endswith(kind)), "")


def _parts(path: Path, other: str) -> list[Path]:
    """The file, or the Parquet files below a folder, in order of name."""
    if path.is_dir():
        found = sorted(part for part in path.rglob("*.parquet") if part.is_file() and part.name != other)
        if not found:
            raise InputError(f"{path}: holds no .parquet file; wanted a folder of Parquet parts, or a file")
        return found
    if not _kind(path):
        raise InputError(f"{path}: wanted a name that ends in {', '.join(_KINDS)}, maybe with .gz")
    return [path]


def interactions(files: Files, options: Options, reader: Reader) -> pl.LazyFrame:
    named = {
        "user": ("user_column", options.user_column),
        "item": ("item_column", options.item_column),
        "rating": ("rating_column", options.rating_column),
        "time": ("time_column", options.time_column),
    }
    named = {key: flag_column for key, flag_column in named.items() if flag_column[1]}
    columns = {key: column for key, (_, column) in named.items()}
    raw = files.interactions[0]
    if _kind(raw.path) == ".parquet":
        return _parquet.interactions(
            [r.path for r in files.interactions], dict(named.values()), options.time_unit, reader
        )

    def rows() -> Iterator[tuple]:
        for line, row in _rows(raw, dict(named.values()), options, reader):
            try:
                found = [identifier(row.get(columns["user"])), identifier(row.get(columns["item"]))]
                if "rating" in columns:
                    found.append(number(row.get(columns["rating"])))
                if "time" in columns:
                    found.append(times.from_any(row.get(columns["time"]), options.time_unit))
                yield tuple(found)
            except Malformed as error:
                reader.bad.add(raw, line, f"wanted {error}")

    return reader.stage(rows(), tuple(columns))


def _rows(
    raw: RawFile, wanted: dict[str, str], options: Options, reader: Reader
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, {column: value}) of a text file that has the wanted {flag: column}."""
    if _kind(raw.path) not in (".csv", ".tsv"):
        yield from json_objects(raw, reader.bad)
        return
    separator = options.separator.replace("\\t", "\t") or ("\t" if _kind(raw.path) == ".tsv" else ",")
    if len(separator) != 1:
        raise InputError(f"--separator={options.separator}: wanted one character, or \\t")
    check_columns(raw, wanted, header(raw, separator))
    yield from delimited(raw, reader.bad, separator)


def items(
    files: Files, options: Options, reader: Reader, wanted: Container[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    if not files.items:
        return
    raw, there = files.items[0], set()
    if _kind(raw.path) == ".parquet":
        records = _parquet.records([r.path for r in files.items], options.item_column, wanted, reader)
    else:
        records = _rows(raw, {"item_column": options.item_column}, options, reader)
    for line, row in records:
        try:
            item = identifier(row.pop(options.item_column, None))
        except Malformed as error:
            reader.bad.add(raw, line, f"{options.item_column}: wanted {error}")
            continue
        there.update(row)
        title = row.pop(options.title_column, None)
        yield item, {"title": title, **row}
    if there and options.title_column not in ("", _TITLE):
        check_columns(raw, {"title_column": options.title_column}, sorted(there))


def downloads(options: Options) -> Downloads:
    return Downloads("", (), "a table of your own has no public address")
