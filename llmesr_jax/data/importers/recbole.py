"""RecBole's atomic files: `<name>.inter` and, if present, `<name>.item`; either may be gzipped.

Tab-separated; the first line has columns and types: "user_id:token	item_id:token	rating:float	timestamp:float".
Times are seconds. A column `item_id_list:token_seq` beside `item_id:token` contains a user's earlier items; those in
the user's first row count as interactions too. https://recbole.io/docs/user_guide/data/atomic_files.html
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
from llmesr_jax.data.columns import bare, find
from llmesr_jax.data.delimited import Form, Table, open_table
from llmesr_jax.data.importers import Downloads, _columns, _text
from llmesr_jax.data.raw_files import Files, RawFile, check_encoding
from llmesr_jax.data.raw_folders import check_folder
from llmesr_jax.data.splits import PARTS
from llmesr_jax.data.staging import Reader
from llmesr_jax.data.values import MISSING, Ids, Malformed

ITEM_ID = "raw_id"
PREPARED = False
_TIME = "timestamp:float"
# RecBole's field names are those of the sources; prompts use the names on the right.
_FIELDS = {"class": "categories", "genre": "categories", "sales_type": "category"}


@dataclasses.dataclass(frozen=True)
class Options:
    """Which files and columns to read; a column's name with or without its type."""

    file: str = knob("", "name of the file in --raw_dir; empty: the only one")
    items_file: str = knob("", "name of the file of items; empty: the .item beside the .inter, if any")
    user_column: str = knob("", "column of the user; empty: user_id, else session_id")
    item_column: str = knob("item_id", "column of the item, also in the items' file")
    rating_column: str = knob("", "column of the rating; empty: rating, if there is one; none: no ratings")
    time_column: str = knob("", "column of the time; empty: detected by name and values; none: file order")
    title_column: str = knob("", "column of the items' file with the title; empty: title, movie_name or a similar name")
    time_unit: str = knob("s", "unit of times that are numbers, since 1970", choices=tuple(times.UNITS))
    time_format: str = knob("", times.FORMAT_DOC)
    encoding: str = knob(
        "", "encoding of text files, by its Python name; empty: UTF-8, and Windows-1252 for bytes that are not"
    )
    missing: str = knob(MISSING, "words that mean that there is no id, separated by commas; empty: the empty cell only")


def locate(folder: Path, options: Options) -> Files:
    check_folder(folder, "an .inter file")
    check_encoding(options.encoding)
    if not options.item_column:
        raise InputError("--item_column=: is empty; expected the name of a column")
    for flag in ("file", "items_file"):
        if (name := getattr(options, flag)) and not (folder / name).is_file():
            there = ", ".join(path.name for path in sorted(folder.iterdir()))
            raise InputError(f"--{flag}={name}: {folder} has no such file; it has: {there[:300] or 'none'}")
    found = [folder / options.file] if options.file else sorted([*folder.glob("*.inter"), *folder.glob("*.inter.gz")])
    if len(found) != 1:
        what = f"has {', '.join(path.name for path in found[:4])}" if found else "has no .inter file"
        by_part = {part: next((p.name for p in found if f".{part}." in p.name), "") for part in PARTS}
        split = "".join(f" --{part}={name}" for part, name in by_part.items()) if all(by_part.values()) else ""
        own = f", or set your own split with{split}" if split else ""
        raise InputError(f"{folder}: {what}; expected one; choose it with --file{own}, or set --raw_dir to its folder")
    stem = found[0].name.removesuffix(".gz").removesuffix(".inter")
    stems = [stem, *(stem.removesuffix(f".{part}") for part in PARTS if stem.endswith(f".{part}"))]
    names = [options.items_file] if options.items_file else [s + end for s in stems for end in (".item", ".item.gz")]
    items = next((folder / name for name in names if (folder / name).is_file()), None)
    return Files((RawFile(found[0]),), *([(RawFile(items),)] if items else [(), names[0]]))


def _open(raw: RawFile, options: Options) -> Table:
    return open_table(raw, Form("\t", options.encoding, "yes", quoted=False), (), lambda *_: True)


def interactions(files: Files, options: Options, reader: Reader) -> pl.LazyFrame:
    table = _open(files.interactions[0], options)
    named = {
        "user_column": options.user_column or _user(table, reader),
        "item_column": options.item_column,
        "rating_column": options.rating_column or ("rating" if find(table.names, "rating") is not None else ""),
        "time_column": options.time_column,
    }
    source = _text.delimited([table])
    form = times.form(options.time_unit, options.time_format)
    at = _text.places(source, reader, named, form, hint=_hint(table), standard=(_TIME,), broad=True)
    return _text.interactions(source, at, reader, options.missing)


def _user(table: Table, reader: Reader) -> str:
    if find(table.names, "user_id") is None and find(table.names, "session_id") is not None:
        reader.note(
            f"{table.raw.path.name}: has no column user_id, so each session_id counts as a user; --user_column sets "
            "another column"
        )
        return "session_id"
    return "user_id"


def _hint(table: Table) -> str:
    return "; or, if its fields are not separated by tabs, use --importer=table" if len(table.names) == 1 else ""


def items(
    files: Files, options: Options, reader: Reader, wanted: Container[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    ids = Ids(options.missing)
    for raw in files.items:
        table = _open(raw, options)
        at = _columns.place(raw, table.names, "item_column", options.item_column, _hint(table))
        titles = _columns.Titles(raw.path.name, options.title_column, reader)
        if titles.is_named:
            _columns.place(raw, table.names, "title_column", options.title_column)
        names = [bare(name) for name in table.names]
        title = titles.column(tuple(names))
        for line, cells in table.rows(reader):
            try:
                item = ids.read(cells[at])
            except Malformed as error:
                reader.bad.add(raw, line, f"expected {error}")
                continue
            if item is None:
                reader.dropped["item records without an id"] += 1
                continue
            record: dict[str, Any] = {}
            for n, (name, value) in enumerate(zip(names, cells)):
                if n != at and (name != "title" or title == "title"):
                    record.setdefault("title" if name == title else _FIELDS.get(name, name), value)
            yield item, record


def downloads(options: Options) -> Downloads:
    return Downloads("", (), "RecBole's files have no fixed address; see https://recbole.io/dataset_list.html")
