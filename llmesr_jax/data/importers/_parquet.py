"""Parquet files as interactions and as item records, lazily.

Types decide how a file is read: ids may be text (also binary or dictionary columns), whole numbers of any width,
decimals or floats (pandas writes those if a column has a gap), or lists, for one row per user. Types do not tell
everything, such as a blank before an id. One pass, which reads every value, looks for that; only if it finds any are
ids cleaned in further passes.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import isolated, times
from llmesr_jax.data.columns import check_columns
from llmesr_jax.data.importers import _parquet_values as values
from llmesr_jax.data.importers._records import MISSING, NO_ID, NO_RATING
from llmesr_jax.data.isolated import Footer
from llmesr_jax.data.raw_files import RawFile
from llmesr_jax.data.staging import Reader

_KEYS = {"user_column": "user", "item_column": "item", "rating_column": "rating", "time_column": "time"}
_ODD = r"[\s\x00-\x1f\x7f]|\.0+$"  # in an id that may need cleaning: white space, control characters, 12.0
_NO_LINE = r"[\x00-\x1f\x7f\u{85}\u{2028}\u{2029}]"  # what an id must not contain, as in `values.identifier`
_WHOLE, _END = r"^-?[0-9]+\.0+$", r"\.0+$"  # 12.0, which means 12


class _Run(NamedTuple):
    """Files, one after another, whose needed columns have the same types."""

    paths: list[Path]
    schema: pl.Schema

    def scan(self) -> pl.LazyFrame:
        return pl.scan_parquet(self.paths, extra_columns="ignore", glob=False, hive_partitioning=False)


def footers(paths: Sequence[Path]) -> list[Footer]:
    """The columns and the number of rows of each file.

    Raises:
      InputError: one cannot be read.
    """
    try:
        return isolated.footers(paths)
    except isolated.Failed as error:
        reason = repr(str(error))[1:-1][:80]
        raise InputError(
            f"{error.path}: cannot be read ({reason}); expected a whole Parquet file; write the file again"
        ) from error


def interactions(
    files: Sequence[Footer],
    named: Mapping[str, str],
    unit: str,
    reader: Reader,
    missing: Collection[str] = MISSING,
) -> pl.LazyFrame:
    """The interactions of the files, one per row, see `Importer.interactions`.

    Rows without an id (null, NaN, or one of the words `missing`) and empty lists are counted in `reader.dropped`. Rows
    that lack another value, or whose time is not from 1970 to 2100, are malformed.

    Args:
      files: in the order of their rows.
      named: {flag: column}.
      unit: of times that are numbers, or the format of times that are text (`times.form`).
      reader: counts malformed rows and rows that are left out.
      missing: words that mean "no id".
    Raises:
      InputError: a column is missing or of the wrong type, lists of a row differ in length, or more rows are malformed
        than allowed.
    """
    paths = [file.path for file in files]
    where = Path(os.path.commonpath(paths))
    runs = _runs(files, named, reader.reads_rating)
    frame = pl.concat([_rows(run, named, unit, reader) for run in runs])
    keys = frame.collect_schema().names()
    rated = "rating" in keys and reader.reads_rating
    unrated = pl.col("rating").is_null() if rated else pl.lit(False)
    wrong = [pl.col("rating").is_infinite()] if rated else []
    wrong += [pl.col("time").is_null()] if "time" in keys else []
    lacking = pl.any_horizontal(*wrong, pl.lit(False)).fill_null(False)
    looked_for = rf"{_ODD}|^(?:{'|'.join(map(re.escape, sorted(missing)))})$"
    odd = [pl.col(key).is_null() for key in ("user", "item")]
    for flag in ("user_column", "item_column"):
        if not all(run.schema[named[flag]].is_integer() for run in runs):
            odd.append(pl.col(_KEYS[flag]).str.contains(looked_for))
    odd = pl.any_horizontal(*odd)
    # This reads every value that is read later, so a damaged file is reported here.
    facts = values.one_row(
        frame.select((lacking | unrated | odd).sum().alias("count"), pl.len().alias("of")), reader, paths
    )
    if not facts["count"]:
        reader.bad.add_rows(where, 0, facts["of"], "")
        return frame
    needed = ", ".join(named[flag] for flag, key in _KEYS.items() if flag in named and key in keys)
    needed += f" ({times.wanted(unit)})" if "time" in keys else ""
    what = f"without a usable value of each of {needed}"
    return _cleaned(frame, lacking, unrated, missing, reader, paths, named, what)


def _cleaned(
    frame: pl.LazyFrame,
    lacking: pl.Expr,
    unrated: pl.Expr,
    missing: Collection[str],
    reader: Reader,
    paths: Sequence[Path],
    named: Mapping[str, str],
    what: str,
) -> pl.LazyFrame:
    """The rows with an id and all needed values, ids without surrounding blanks; other rows are counted."""
    frame = frame.with_columns(pl.col("user", "item").str.strip_chars(values.BLANKS))
    nobody = pl.any_horizontal(pl.col(key).is_null() | pl.col(key).is_in(sorted(missing)) for key in ("user", "item"))
    unrated = ~nobody & unrated
    unfit = {key: pl.col(key).str.contains(_NO_LINE) for key in ("user", "item")}
    lacking = ~nobody & ~unrated & (lacking | pl.any_horizontal(unfit.values()))
    good = ~nobody & ~unrated & ~lacking
    asked = {"of": pl.len(), NO_ID: nobody.sum(), NO_RATING: unrated.sum(), "lacking": lacking.sum()}
    for key in ("user", "item"):
        asked[f"{key} whole"] = pl.col(key).filter(good & pl.col(key).str.contains(_WHOLE)).first()
        asked[f"{key} unfit"] = pl.col(key).filter(~nobody & unfit[key]).first()
    facts = values.one_row(frame.select(**asked), reader, paths)
    for why in (NO_ID, NO_RATING):
        if facts[why]:
            reader.dropped[why] += facts[why]
    for flag in ("user_column", "item_column"):
        if (example := facts[f"{_KEYS[flag]} unfit"]) is not None:
            what += (
                f"; {named[flag]} has {repr(example.removeprefix(values.UNFIT))[:40]}, expected text or a whole number"
            )
    where = Path(os.path.commonpath(paths))
    reader.bad.add_rows(where, facts["lacking"], facts["of"] - facts[NO_ID] - facts[NO_RATING], what)
    frame = frame.filter(good)
    whole = {key: found for key in ("user", "item") if (found := facts[f"{key} whole"])}
    if not whole:
        return frame
    found = next(iter(whole.values()))
    reader.note(
        f"ids that are written as whole floats were read as whole numbers: {found} as {re.sub(_END, '', found)}"
    )
    return frame.with_columns(_unfloated(key) for key in whole)


def _unfloated(name: str) -> pl.Expr:
    """12.0 as 12."""
    return pl.when(pl.col(name).str.contains(_WHOLE)).then(pl.col(name).str.replace(_END, "")).otherwise(pl.col(name))


def _runs(files: Sequence[Footer], named: Mapping[str, str], reads_rating: bool = True) -> list[_Run]:
    """The files that have rows, grouped; checks that each has the columns, of the same types."""
    runs: list[_Run] = []
    first: tuple[Path, dict[str, str], pl.Schema] | None = None
    for path, schema, rows in files:
        if len(files) > 1 and not (set(named.values()) <= set(schema)) and not rows:
            continue
        check_columns(RawFile(path), named, schema)
        kinds = {
            name: _kind(schema[name], flag) for flag, name in named.items() if reads_rating or flag != "rating_column"
        }
        if first is not None and any(_differ(first[1][name], kind) for name, kind in kinds.items()):
            if not rows:
                continue
            name = next(name for name, kind in kinds.items() if _differ(first[1][name], kind))
            raise InputError(
                f"{path}: column {name!r} holds {schema[name]}, but {first[2][name]} in {first[0].name}; "
                "expected the same type in all parts; write the files again"
            )
        if first is None or "Null" in first[1].values():
            first = path, kinds, schema
        for flag, name in named.items():
            if flag in ("user_column", "item_column") and kinds[name].removeprefix("lists of ") not in _IDS:
                raise InputError(f"{path}: column {name!r} holds {schema[name]}; expected ids: text or whole numbers")
        wanted = pl.Schema({name: schema[name] for name in named.values()})
        if runs and runs[-1].schema == wanted:
            runs[-1].paths.append(path)
        else:
            runs.append(_Run([path], wanted))
    if not runs:  # all files are empty and lack a column: this reports which
        check_columns(RawFile(files[0].path), named, files[0].schema)
    return runs


_IDS = ("text", "numbers", "Null")


def _kind(dtype: pl.DataType, flag: str) -> str:
    """The kind of a column's values, whatever their width or unit."""
    if isinstance(dtype, (pl.List, pl.Array)):
        return f"lists of {_kind(dtype.inner, flag)}"
    if dtype == pl.String or dtype == pl.Binary or isinstance(dtype, (pl.Categorical, pl.Enum)):
        return "text"
    if dtype.is_numeric():
        return "numbers"
    return "times" if isinstance(dtype, (pl.Date, pl.Datetime)) else str(dtype)


def _differ(one: str, other: str) -> bool:
    return one != other and "Null" not in (one, other)


def _rows(run: _Run, named: Mapping[str, str], unit: str, reader: Reader) -> pl.LazyFrame:
    """user, item (String; null for none, `UNFIT` + value for an invalid id), rating (Float64), time (Int64)."""
    columns = {_KEYS[flag]: name for flag, name in named.items()}
    if not reader.reads_rating:
        columns.pop("rating", None)
    frame = run.scan().select(**{key: values.listed(name, run.schema[name]) for key, name in columns.items()})
    schema = {key: run.schema[name] for key, name in columns.items()}
    lists = [key for key, dtype in schema.items() if isinstance(dtype, (pl.List, pl.Array))]
    if lists:
        frame = values.exploded(frame, lists, columns, reader, run.paths)
        schema |= {key: schema[key].inner for key in lists}
    found = {key: values.ids(frame, key, schema[key], reader, run.paths) for key in ("user", "item")}
    if "rating" in schema:
        found["rating"] = values.rating(schema["rating"])
    elif "rating_column" in named:
        found["rating"] = pl.lit(None, pl.Float64)
    if "time" in schema:
        frame, dtype = values.timely(frame, schema["time"])
        try:
            found["time"] = times.column("time", dtype, unit)
        except InputError as error:
            message = str(error).replace("'time'", repr(columns["time"]))
            raise InputError(f"{run.paths[0]}: {message}; choose another --time_column") from error
    return frame.select(**found)


def records(
    paths: Sequence[Path], item: str, wanted: Collection[str], reader: Reader
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number from 1, {column: value}) of the rows of the wanted items.

    Args:
      paths: Parquet files.
      item: the column of the item.
      wanted: raw ids.
      reader: for temporary files.

    Raises:
      InputError: a file cannot be read, or its column of items is missing or of the wrong type.
    """
    frames = []
    files = footers(paths)
    schemas = {file.path: list(file.schema.items()) for file in files}
    for run in _runs(files, {"item_column": item}):
        for _, alike in itertools.groupby(run.paths, schemas.get):
            frame = _Run(list(alike), run.schema).scan()
            dtype = run.schema[item]
            if isinstance(dtype, (pl.List, pl.Array)):
                raise InputError(
                    f"{run.paths[0]}: column {item!r} holds {dtype}; expected one item per row; choose another column"
                )
            text = values.ids(frame, item, dtype, reader, run.paths).str.strip_chars(values.BLANKS)
            frames.append(frame.with_columns(text.alias(item)))
    frame = pl.concat(frames, how="diagonal_relaxed") if len(frames) > 1 else frames[0]
    frame = frame.with_columns(_unfloated(item))
    found = reader.folder / "items.parquet"
    ids = pl.LazyFrame({item: pl.Series(list(wanted), dtype=pl.String)})
    values.apart(frame.join(ids, on=item, how="semi", maintain_order="left"), found, paths)
    number = 0
    for batch in pl.scan_parquet(found, glob=False).collect_batches(chunk_size=10_000):
        for row in batch.iter_rows(named=True):
            number += 1
            yield number, {column: _decoded(value) for column, value in row.items()}


def _decoded(value: Any) -> Any:
    """Bytes decoded as text, also within lists."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return [_decoded(part) for part in value] if isinstance(value, list) else value
