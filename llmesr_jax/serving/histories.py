"""Histories from a file, staged on disk: users to recommend for, in batches."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.wording import counted
from llmesr_jax.data.columns import find
from llmesr_jax.data.decoding import Text
from llmesr_jax.data.delimited import Form, open_table
from llmesr_jax.data.importers import table
from llmesr_jax.data.json_files import objects
from llmesr_jax.data.raw_files import BadLines, Files, RawFile, head
from llmesr_jax.data.staging import Reader
from llmesr_jax.serving.catalogue import Catalogue, as_id, encodable
from llmesr_jax.serving.sources import Batch

_STAGED = 50_000  # users at a time
_SEEN = 200  # JSON objects whose fields decide the shape of the file


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of a file of histories, and how it is read.

    Attributes:
      user, item, time: names of columns of a file with one row per interaction; time "": it is detected, if there is
        one.
      items: name of the column of items in a file with one row per user: a list (JSON, Parquet), or ids separated by
        blanks (CSV).
      separator, encoding, time_unit, header, time_format: as in `data.importers.table`; "" and auto: detected.
    """

    user: str = "user_id"
    item: str = "item_id"
    time: str = ""
    items: str = "items"
    separator: str = ""
    encoding: str = ""
    time_unit: str = "s"
    header: str = "auto"
    time_format: str = ""


@dataclasses.dataclass(frozen=True)
class Staged:
    """Histories in a Parquet file: user, items (ids from 1), number of unknown items, example of an unknown item."""

    path: Path
    count: int

    def batch(self, start: int, stop: int) -> Batch:
        frame = pl.scan_parquet(self.path, glob=False).slice(start, stop - start).collect()
        found = [np.array(ids, np.int32) for ids in frame["items"].to_list()]
        return Batch(frame["user"].to_list(), found, frame["unknown"].to_list())


def stage(path: Path, columns: Columns, catalogue: Catalogue, work: Path) -> Staged:
    """Reads a file of histories once, into a Parquet file in `work`, which is used again later.

    The file is CSV (any separator), JSON lines or Parquet, plain or gzipped. A row is an interaction, in time order or
    with a time; or, if there is a column `columns.items`, a user with a list of items.

    Args:
      path: the file.
      columns: its columns.
      catalogue: the items that are known.
      work: a folder for the Parquet file.
    Raises:
      InputError: the file cannot be read, has no history, or has a row without a user.
    """
    staged = work / "histories.parquet"
    if not staged.exists():
        if not path.is_file():
            raise InputError(
                f"--histories={path}: no such file; expected a CSV, JSON lines or Parquet file of histories"
            )
        partial, reader = staged.with_suffix(".partial"), _reader(work)
        with _readable(path):
            _read(path, columns, catalogue, work, reader).sink_parquet(partial, row_group_size=_STAGED)
        for note in reader.notes:  # such as the order of the histories
            print(f"note: {note}", file=sys.stderr, flush=True)
        if not _rows(partial):
            partial.unlink()
            raise InputError(f"--histories={path}: has no rows; expected a history, or an interaction, per row")
        _check_known(partial, f"--histories={path}", catalogue)
        partial.replace(staged)
    return Staged(staged, _rows(staged))


def _reader(work: Path) -> Reader:
    """A reader that allows no malformed lines."""
    return Reader(work / "parts", BadLines(0, flag=""), reads_rating=False)


def _check_known(staged: Path, where: str, catalogue: Catalogue) -> None:
    """Raises InputError if no item of the histories is in the catalogue."""
    known, unknown, example = (
        pl.scan_parquet(staged, glob=False)
        .select(pl.col("items").list.len().sum(), pl.col("unknown").sum(), pl.col("example").drop_nulls().first())
        .collect()
        .row(0)
    )
    if unknown and not known:
        staged.unlink()
        raise catalogue.unlike(where, counted(unknown, "item"), example)


def _rows(path: Path) -> int:
    return int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())


def _read(path: Path, columns: Columns, catalogue: Catalogue, work: Path, reader: Reader) -> pl.LazyFrame:
    raw, kind = RawFile(path), _kind(path)
    if kind == "parquet":
        schema = pl.scan_parquet(path, glob=False).collect_schema()
        listed = isinstance(schema.get(columns.items), pl.List)
        if listed or (columns.items in schema and find(list(schema), columns.item) is None):
            _check_user(raw, columns, list(schema))
            return _lists(_parquet_rows(path, columns), raw, columns.items, catalogue, work)
    elif kind == "json":
        first = [value for _, value in itertools.islice(objects(Text(raw, columns.encoding), None), _SEEN)]
        names = list(dict.fromkeys(name for value in first for name in value))
        listed = any(isinstance(value.get(columns.items), list) for value in first)
        if listed or (columns.items in names and find(names, columns.item) is None):
            _check_user(raw, columns, names)
            return _lists(_json_rows(raw, columns), raw, columns.items, catalogue, work)
    else:
        form = Form(columns.separator.replace("\\t", "\t"), columns.encoding, columns.header)
        opened = open_table(raw, form, [columns.user], lambda *_: True)
        if find(opened.names, columns.items) is not None and find(opened.names, columns.item) is None:
            _check_user(raw, columns, opened.names)
            return _lists(_delimited_rows(opened, columns, work), raw, columns.items, catalogue, work)
    return _interactions(raw, columns, catalogue, reader, work)


def _kind(path: Path) -> str:
    start = head(RawFile(path), 64)
    if start.startswith(b"PAR1"):
        return "parquet"
    return "json" if start.startswith((b"{", b"[")) else "delimited"


def _check_user(raw: RawFile, columns: Columns, names: Sequence[str]) -> None:
    if find(names, _user(columns, names)) is None:
        raise InputError(
            f"{raw}: has no column {columns.user!r}; expected one of: {', '.join(map(str, names))[:300]}; choose it "
            "with --user_column"
        )


def _user(columns: Columns, names: Sequence[str]) -> str:
    """The name of the column of users: `columns.user`, or "user" if a file of lists has only that."""
    return "user" if columns.user not in names and "user" in names else columns.user


def _interactions(raw: RawFile, columns: Columns, catalogue: Catalogue, reader: Reader, work: Path) -> pl.LazyFrame:
    """One row per interaction, read as launch.prepare reads a table, grouped by user.

    A user whose rows have no item has an empty history. Such rows are rare, so their users are looked for only if any
    rows were left out.

    Raises:
      InputError: a row has no user, or the file cannot be read.
    """
    options = table.Options(
        user_column=columns.user,
        item_column=columns.item,
        time_column=columns.time,
        time_unit=columns.time_unit,
        time_format=columns.time_format,
        separator=columns.separator,
        encoding=columns.encoding,
        header=columns.header,
    )
    try:
        frame = table.interactions(Files((raw,)), options, reader)
    except InputError:
        if not _all_left_out(reader):
            raise
        frame = pl.LazyFrame(schema={"user": pl.String, "item": pl.String})
    numbers = pl.LazyFrame({"item": list(catalogue.ids), "number": np.arange(1, len(catalogue) + 1, dtype=np.int32)})
    frame = frame.join(numbers, on="item", how="left", maintain_order="left")
    known = pl.col("number").drop_nulls()
    if "time" in frame.collect_schema():
        known = pl.col("number").sort_by("time", nulls_last=False, maintain_order=True).drop_nulls()
    frame = frame.group_by("user", maintain_order=True).agg(
        known.alias("items"),
        pl.col("number").is_null().sum().alias("unknown"),
        pl.col("item").filter(pl.col("number").is_null()).first().alias("example"),
    )
    if not reader.dropped:
        return frame
    frame = _everyone(raw, options, reader, work).join(frame, on="user", how="left", maintain_order="left")
    return frame.with_columns(pl.col("items").fill_null(pl.lit([], pl.List(pl.Int32))), pl.col("unknown").fill_null(0))


def _all_left_out(reader: Reader) -> bool:
    """Whether the reader refused a file because each of its rows lacks an id, not because one is malformed."""
    return bool(reader.dropped) and not reader.bad.found and not reader.bad.read


def _everyone(raw: RawFile, options: table.Options, reader: Reader, work: Path) -> pl.LazyFrame:
    """The users of all rows, also of those without an item, in file order.

    Args:
      raw: the file, with one row per interaction.
      options: as `reader` has read it.
      reader: its notes say whether the first line was read as a row.
      work: a folder for temporary files.
    Raises:
      InputError: a row has no user.
    """
    header = options.header
    if header == "auto":  # with the user's column alone, it could be detected otherwise than before
        header = "no" if any("the first line was read as a row" in note for note in reader.notes) else "yes"
    options = dataclasses.replace(options, item_column=options.user_column, time_column="none", header=header)
    users, found = _reader(work / "users"), None
    try:
        found = table.interactions(Files((raw,)), options, users)
    except InputError:
        if not _all_left_out(users):
            raise
    if found is None or users.dropped:
        count = sum(users.dropped.values())
        rows = "1 row has" if count == 1 else f"{count:,} rows have"
        raise InputError(f"{raw}: {rows} no user; expected a raw user id in each row; add it, or delete the row")
    return found.select("user").unique(maintain_order=True)


def _lists(
    rows: Iterable[tuple[str, Any, Any]], raw: RawFile, column: str, catalogue: Catalogue, work: Path
) -> pl.LazyFrame:
    """One row per user: (where, user, list of raw ids in `column`), staged in parts."""
    folder, rows = work / "lists", iter(rows)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.parquet"):
        old.unlink()
    schema = {"user": pl.String, "items": pl.List(pl.Int32), "unknown": pl.UInt32, "example": pl.String}
    for part in itertools.count():
        made: list[tuple] = []
        for where, user, items in itertools.islice(rows, _STAGED):
            name = as_id(user)
            if name is None:
                raise InputError(f"{where}: has no user; expected a raw user id in each row")
            if encodable(name) != name:
                raise InputError(f"{where}: the user {ascii(name)[:60]} has half of a character; expected a whole text")
            if items is not None and not isinstance(items, list):
                raise InputError(f"{where}: {column!r} is {repr(items)[:40]}; expected a list of raw item ids")
            ids, unknown = catalogue.known([] if items is None else items, where)
            example = next(filter(None, map(as_id, items))) if unknown and not len(ids) else None
            example = example and encodable(example)
            made.append((name, ids.tolist(), unknown, example))
        if not made and part:
            break
        pl.DataFrame(made, schema=schema, orient="row").write_parquet(folder / f"{part:06d}.parquet")
        if not made:
            raise InputError(f"{raw}: has no rows; expected one history per row")
    return pl.scan_parquet(sorted(folder.glob("*.parquet")), glob=False)


def _json_rows(raw: RawFile, columns: Columns) -> Iterator[tuple[str, Any, Any]]:
    for line, value in objects(Text(raw, columns.encoding), BadLines(0, flag="")):
        items = value.get(columns.items)
        yield f"{raw}, line {line}", value.get(_user(columns, value)), items


def _parquet_rows(path: Path, columns: Columns) -> Iterator[tuple[str, Any, Any]]:
    scan = pl.scan_parquet(path, glob=False)
    user, start = _user(columns, scan.collect_schema().names()), 0
    while len(frame := scan.select(user, columns.items).slice(start, _STAGED).collect()):
        for row, (name, items) in enumerate(frame.iter_rows(), start + 1):
            yield f"{path}, row {row}", name, items
        start += len(frame)


def _delimited_rows(opened: Any, columns: Columns, work: Path) -> Iterator[tuple[str, Any, Any]]:
    user, items = find(opened.names, _user(columns, opened.names)), find(opened.names, columns.items)
    for line, cells in opened.rows(_reader(work)):
        yield f"{opened.raw}, line {line}", cells[user], _cell(cells[items])


def _cell(text: str) -> list[Any]:
    """A list in a cell: JSON, or ids separated by blanks."""
    if text.lstrip().startswith("["):
        with contextlib.suppress(ValueError):
            found = json.loads(text)
            if isinstance(found, list):
                return found
    return text.split()


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except pl.exceptions.PolarsError as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"{path}: cannot be read ({repr(reason)[1:-1][:160]}); expected a whole CSV, JSON lines or Parquet file"
        ) from error
