"""Any table: CSV, JSON or Parquet, one file or a folder of parts, with columns by name or by number.

    python -m launch.prepare --dataset=mine --importer=table --raw_dir=raw --user_column=uid --item_column=sku \
        --time_column=at --items_file=products.csv

The content decides a file's type, so it may have any name. Text may be gzipped. Parts are read in order of their
names; Parquet lazily, whichever engine wrote it. Times are numbers (`--time_unit`), dates, or text (`--time_format`).
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.knobs import knob
from llmesr_jax.data import isolated, times
from llmesr_jax.data.columns import actual, bare, is_number
from llmesr_jax.data.decoding import Text
from llmesr_jax.data.delimited import Form, Table, open_table
from llmesr_jax.data.importers import Downloads, _columns, _parquet, _text
from llmesr_jax.data.isolated import Footer
from llmesr_jax.data.json_files import objects
from llmesr_jax.data.raw_files import Files, RawFile, check_encoding, head
from llmesr_jax.data.raw_folders import check_folder
from llmesr_jax.data.staging import Reader
from llmesr_jax.data.values import MISSING, Ids, Malformed, number

ITEM_ID = "raw_id"
PREPARED = False
_KINDS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
_PART = re.compile(r"part[-_.]?\d")
_SEEN = 200  # rows from which columns are detected
_IDS = frozenset(
    "user userid uid item itemid iid movieid asin parentasin isbn productid session sessionid customerid reviewerid "
    "businessid bookid trackid songid sku product movie customer visitorid memberid articleid newsid".split()
)


@dataclasses.dataclass(frozen=True)
class Options:
    """Which files and columns to read, and how."""

    file: str = knob("", "name of the file, or of a folder of parts, in --raw_dir; empty: the only one")
    items_file: str = knob("", "name of a file, or of a folder of parts, with one row per item; empty: no item texts")
    user_column: str = knob("user_id", "column of the user, by name or by number from 1")
    item_column: str = knob("item_id", "column of the item, also in the items' file")
    rating_column: str = knob("", "column of the rating; empty or none: no ratings")
    time_column: str = knob("", "column of the time; empty: detected by name and values; none: file order")
    title_column: str = knob("", "column of the items' file with the title; empty: title, movie_name or a similar name")
    items_id_column: str = knob("", "column of the item in the items' file; empty: that of --item_column")
    time_unit: str = knob("s", "unit of times that are numbers, since 1970", choices=tuple(times.UNITS))
    time_format: str = knob("", times.FORMAT_DOC)
    separator: str = knob("", "separator of the fields of a line; empty: the one of , ; | and tab that fits")
    header: str = knob(
        "auto", "whether the first line is a header with the columns' names", choices=("auto", "yes", "no")
    )
    encoding: str = knob(
        "", "encoding of text files, by its Python name; empty: UTF-8, and Windows-1252 for bytes that are not"
    )
    missing: str = knob(MISSING, "words that mean that there is no id, separated by commas; empty: the empty cell only")


def locate(folder: Path, options: Options) -> Files:
    check_folder(folder, "a CSV, JSON or Parquet file")
    for flag in ("user_column", "item_column"):
        if not getattr(options, flag):
            raise InputError(f"--{flag}=: is empty; expected the name of a column")
    check_encoding(options.encoding)
    if options.title_column not in ("", "title") and not options.items_file:
        raise InputError(
            f"--title_column={options.title_column}: needs --items_file; set it to the file with that column"
        )
    for flag in ("file", "items_file"):
        if (name := getattr(options, flag)) and not (folder / name).exists():
            there = ", ".join(path.name for path in _listed(folder))
            raise InputError(f"--{flag}={name}: {folder} has no such file; it has: {there[:300] or 'no table'}")
    found = [folder / options.file] if options.file else _candidates(folder, options.items_file)
    if len(found) != 1:
        names = ", ".join(path.name for path in found[:4]) or "none"
        raise InputError(
            f"{folder}: found {names}; expected one CSV, JSON or Parquet file; set the file of the interactions with "
            "--file, the file of the items with --items_file"
        )
    items = folder / options.items_file if options.items_file else None
    parts = [_parts(found[0], items), *([_parts(items, None)] if items else [])]
    return Files(*(tuple(map(RawFile, paths)) for paths in parts))


def _listed(folder: Path) -> list[Path]:
    """The files of a folder, without hidden ones and what engines write beside their parts, such as `_SUCCESS`."""
    return sorted(p for p in folder.iterdir() if not p.name.startswith((".", "_")) and not p.name.endswith(".crc"))


def _candidates(folder: Path, items_file: str) -> list[Path]:
    """The files or folders that may contain the interactions: files named like a table, else folders, else any file."""
    there = [path for path in _listed(folder) if path.name != items_file.rstrip("/")]
    files = [path for path in there if path.is_file()]
    known = [path for path in files if _ending(path)]
    parquet = len(known) > 1 and all(_ending(path) == ".parquet" for path in known)
    if parquet or (len(files) > 1 and all(_PART.match(path.name) for path in files)):
        return [folder]
    return known or [path for path in there if path.is_dir()] or files


def _ending(path: Path) -> str:
    """The kind of table, by the name's ending; "" for anything else."""
    name = path.name.removesuffix(".gz")
    return next((kind for kind in _KINDS if name.endswith(kind)), "")


def _parts(path: Path, other: Path | None) -> list[Path]:
    """The file, or the files of a folder, in order of name, without a file or folder `other` in it."""
    if not path.is_dir():
        return [path]
    hidden = (".", "_")
    found = sorted(
        part
        for part in path.rglob("*")
        if part.is_file()
        and not any(name.startswith(hidden) for name in part.relative_to(path).parts)
        and not part.name.endswith(".crc")
        and not (other is not None and path in other.parents and other in (part, *part.parents))
    )
    if any(_ending(part) == ".parquet" for part in found):
        found = [part for part in found if _ending(part) == ".parquet"]
    elif len(found) > 1:
        found = [part for part in found if part.stat().st_size] or found[:1]  # engines write empty parts
    if not found:
        raise InputError(f"{path}: has no files; expected a folder of CSV, JSON or Parquet parts, or a file")
    return found


def _kind(raw: RawFile) -> str:
    """The kind of a file, "parquet", "json" or "delimited", by its content and its name's ending."""
    ending = _ending(raw.path)
    start = head(raw, 64)
    if start.startswith(b"PAR1") or ending == ".parquet":
        return "parquet"
    if ending in (".jsonl", ".ndjson", ".json") or start.startswith((b"{", b"[")):
        return "json"
    if start.startswith((b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
        raise InputError(f"{raw}: is compressed; expected text (plain or gzipped) or Parquet; unpack the file first")
    return "delimited"


def interactions(files: Files, options: Options, reader: Reader) -> pl.LazyFrame:
    named = {flag: getattr(options, flag) for flag in ("user_column", "item_column", "rating_column", "time_column")}
    raws = files.interactions
    if _kind(raws[0]) == "parquet":
        return _from_parquet([raw.path for raw in raws], named, options, reader)
    wanted = [column for column in named.values() if column not in ("", _columns.NONE)]
    if _kind(raws[0]) == "json":
        source, hint = _text.json([Text(raw, options.encoding) for raw in raws], wanted), ""
    else:
        tables = _tables(raws, options, wanted, named)
        _note_header(tables[0], options, wanted, reader)
        source, hint = _text.delimited(tables), _hint(tables[0])
    at = _text.places(source, reader, named, times.form(options.time_unit, options.time_format), hint=hint)
    return _text.interactions(source, at, reader, options.missing)


def _from_parquet(paths: list[Path], named: dict[str, str], options: Options, reader: Reader) -> pl.LazyFrame:
    unit, files = times.form(options.time_unit, options.time_format), _parquet.footers(paths)
    named = {flag: actual(files[0].schema, name) for flag, name in named.items()}
    if named["rating_column"] == _columns.NONE and _columns.NONE not in files[0].schema:
        named = {**named, "rating_column": ""}
    if named["time_column"] in ("", _columns.NONE):
        names, sample = _parquet_start(files[0], reader)
        if named["time_column"] == _columns.NONE and _columns.NONE not in names:
            named = {**named, "time_column": ""}
        elif names and not named["time_column"]:
            taken = [n for n, name in enumerate(names) if name in named.values()]
            time = _columns.find_time(RawFile(paths[0]), names, sample, unit, reader, taken=taken)
            if time.column is not None:
                named, unit = {**named, "time_column": names[time.column]}, time.unit
    elif files[0].schema.get(named["time_column"]) == pl.String:
        names, sample = _parquet_start(files[0], reader)
        if names:
            values = [row[names.index(named["time_column"])] for row in sample]
            _columns.check_time(RawFile(paths[0]), named["time_column"], values, unit)
    named = {flag: name for flag, name in named.items() if name}
    return _parquet.interactions(files, named, unit, reader, Ids(options.missing).missing)


def _parquet_start(file: Footer, reader: Reader) -> tuple[list[str], list[list]]:
    """The names and the first rows; nothing if the file cannot be read, which is reported when all of it is read."""
    names = list(file.schema)
    like = [name for name, kind in file.schema.items() if _columns.like_a_time(name) or not kind.is_nested()]
    try:
        rows = _parquet_rows(file.path, like, _SEEN, reader) if like else []
    except (pl.exceptions.PolarsError, OSError, isolated.Failed):
        return [], []
    return names, [[_cell(row.get(name)) for name in names] for row in rows]


def _cell(value: Any) -> Any:
    """A Parquet value as a cell of text would have it; for a list, its first value."""
    if isinstance(value, list):
        value = next(iter(value), None)
    return str(value) if isinstance(value, (datetime.date, datetime.datetime)) else value


def _parquet_rows(path: Path, columns: list[str], count: int, reader: Reader) -> list[dict[str, Any]]:
    """The first rows."""
    start = reader.folder / "start.parquet"
    reader.folder.mkdir(parents=True, exist_ok=True)
    isolated.sink(pl.scan_parquet(path, glob=False).select(columns).head(count), start)
    rows = pl.read_parquet(start).rows(named=True)
    start.unlink()
    return rows


def _note_header(table: Table, options: Options, wanted: Sequence[str], reader: Reader) -> None:
    """Notes how the first line was read, if columns are named by number and the user did not set --header."""
    if options.header != "auto" or not all(is_number(name) for name in wanted):
        return
    file = table.raw.path.name
    if table.form.header == "no":
        reader.note(f"{file}: the first line was read as a row; set --header=yes if it has the columns' names")
    elif not any(name in table.names for name in wanted):
        names = _told(table.names)
        reader.note(f"{file}: the first line was read as the columns' names ({names}); set --header=no if it is a row")


def _tables(raws: Sequence[RawFile], options: Options, wanted: Sequence[str], named: dict[str, str]) -> list[Table]:
    """Parts with the same columns.

    Raises:
      InputError: the columns differ.
    """
    form = Form(_separator(options), options.encoding, options.header)
    if options.header == "no" and (words := [name for name in wanted if not is_number(name)]):
        raise InputError(
            f"--header=no: the columns have no names, so {words[0]!r} is not a column; expected numbers from 1, such "
            "as --user_column=1 --item_column=2"
        )

    def is_header(first: Sequence[str], second: Sequence[str]) -> bool:
        return _is_header(first, second, named, times.form(options.time_unit, options.time_format))

    first = open_table(raws[0], form, wanted, is_header)
    tables = [first]
    for raw in raws[1:]:
        table = open_table(raw, first.form, wanted, is_header)
        if table.names != first.names:
            raise InputError(
                f"{raw}: its columns are {_told(table.names)}, but those of {first.raw.path.name} are "
                f"{_told(first.names)}; expected the same header in all parts; write the parts again, or choose one "
                "with --file"
            )
        tables.append(table)
    return tables


def _told(names: Sequence[str]) -> str:
    return repr(", ".join(names))[1:-1][:120]


def _separator(options: Options) -> str:
    separator = options.separator.replace("\\t", "\t")
    if len(separator) > 1 or separator in ("\n", "\r", '"'):
        raise InputError(f"--separator={options.separator}: is not a separator; expected one character, or \\t")
    return separator


def _is_header(first: Sequence[str], second: Sequence[str], named: dict[str, str], unit: str) -> bool:
    """Whether the first of two rows is a header, if columns are named by number."""
    ids = [int(named[flag]) - 1 for flag in ("user_column", "item_column") if is_number(named[flag])]
    if any("".join(_columns.words(first[n])) in _IDS for n in ids if n < len(first)):
        return True
    # Ids may be words in one row and numbers in the next; what is a number or a time in one row is so in all.
    others = [n for n in range(min(len(first), len(second))) if n not in ids]
    return any(_is_value(second[n], unit) and not _is_value(first[n], unit) for n in others if _says(first[n]))


def _says(cell: str) -> bool:
    return cell.strip() not in Ids().missing


def _is_value(cell: str, unit: str) -> bool:
    """Whether a cell is a number or a time."""
    for read in (number, lambda text: times.from_any(text, unit)):
        try:
            read(cell.strip())
            return True
        except Malformed:
            pass
    return False


def _hint(table: Table) -> str:
    """What to do about a first line that is not a header."""
    if not any(name.replace(".", "", 1).isdigit() for name in table.names):
        return ""
    return " (if the first line is a row, not a header, name the columns by number: --user_column=1 --item_column=2)"


def items(
    files: Files, options: Options, reader: Reader, wanted: Container[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    if not files.items:
        return
    raw, column = files.items[0], options.items_id_column or options.item_column
    titles = _columns.Titles(raw.path.name, options.title_column, reader)
    flag = "items_id_column"
    ids, there, count = Ids(options.missing), set(), 0
    for where, line, row in _records(files.items, options, column, flag, reader, wanted):
        there.update(row)
        title = titles.column(tuple(row))
        try:
            item = ids.read(row.pop(actual(row, column), None))
        except Malformed as error:
            reader.bad.add(where, line, f"{column}: expected {error}")
            continue
        if item is None:
            reader.dropped["item records without an id"] += 1
            continue
        count += 1
        yield item, {"title": row.pop(title, None) if title else None} | {k: v for k, v in row.items() if k != "title"}
    if there and not count:
        _columns.place(raw, sorted(there), flag, column)
        raise InputError(
            f"{raw}: no record has an id in column {column!r}; expected at least one; set --{flag} to the column of "
            "the ids"
        )
    if there and titles.is_named:
        _columns.place(raw, sorted(there), "title_column", options.title_column)


def _records(
    raws: Sequence[RawFile], options: Options, column: str, flag: str, reader: Reader, wanted: Container[str]
) -> Iterator[tuple[RawFile, int, dict[str, Any]]]:
    """(file, line, {column: value}); the item's id is the value of `column`."""
    kind = _kind(raws[0])
    if kind == "parquet":
        schema = _parquet.footers([raws[0].path])[0].schema
        line, column = 0, actual(schema, column)
        for line, row in _parquet.records([raw.path for raw in raws], column, wanted, reader):
            yield raws[0], line, row
        if not line:  # one record as an example, for the message that none belongs to a wanted item
            for row in _parquet_rows(raws[0].path, list(schema), 1, reader):
                yield raws[0], 1, row | {column: None if row[column] is None else str(row[column])}
    elif kind == "json":
        for text in (Text(raw, options.encoding) for raw in raws):
            for line, row in objects(text, reader.bad):
                yield text.raw, line, row
            if note := text.note():
                reader.note(note)
    else:
        named = [column, *([options.title_column] if options.title_column not in ("", "title") else [])]
        none = {"user_column": "", "item_column": column, "rating_column": "", "time_column": ""}
        for table in _tables(raws, options, named, none):
            at = _columns.place(table.raw, table.names, flag, column, _hint(table))
            names = [bare(name) for name in table.names]
            if len(named) > 1 or names.count("title") > 1:
                title = options.title_column or "title"
                names[_columns.place(table.raw, names, "title_column", title)] = title
            names[at] = column
            for line, cells in table.rows(reader):
                yield table.raw, line, dict(zip(names, cells))


def downloads(options: Options) -> Downloads:
    return Downloads("", (), "a table of your own has no public address")
