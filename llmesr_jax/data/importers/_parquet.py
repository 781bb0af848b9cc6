"""Parquet files as interactions and as item records, lazily."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from llmesr_jax.data import apart, times
from llmesr_jax.data.raw_files import RawFile
from llmesr_jax.data.staging import Reader, check_columns
from llmesr_jax.errors import InputError

_KEYS = {"user_column": "user", "item_column": "item", "rating_column": "rating", "time_column": "time"}


def interactions(paths: Sequence[Path], named: Mapping[str, str], unit: str, reader: Reader) -> pl.LazyFrame:
    """The columns named by {flag: column}; rows that lack a value, or whose time is out of 1970 to 2100, are left out.

    Raises:
      InputError: a column is absent or of the wrong type, or more rows lack a value than malformed lines may be.
    """
    frame, schema = _scan(paths, named)
    found = {}
    for flag, name in named.items():
        key, dtype = _KEYS[flag], schema[name]
        if key in ("user", "item"):
            found[key] = _text(paths[0], name, dtype)
        elif key == "rating":
            found[key] = pl.col(name).cast(pl.Float64, strict=False)
            found[key] = pl.when(found[key].is_finite()).then(found[key])
        else:
            found[key] = times.column(name, dtype, unit)
    frame = frame.select(**found)
    lacking = pl.any_horizontal(pl.col(key).is_null() for key in found)
    # This reads every value that is read later, so a file that polars cannot stand is known by now.
    counted = reader.folder / "lacking.parquet"
    _apart(frame.select(lacking.sum().alias("count"), pl.len().alias("of")), counted, paths)
    count, of = pl.read_parquet(counted).row(0)
    counted.unlink()
    told = ", ".join(named.values())
    if "time" in found:
        told += f" ({times.WANTED})"
    where = Path(os.path.commonpath(paths))
    reader.bad.add_rows(where, count, of, f"without a usable value of each of {told}")
    return frame.filter(~lacking)


def _scan(paths: Sequence[Path], named: Mapping[str, str]) -> tuple[pl.LazyFrame, pl.Schema]:
    """The files as one frame, whose columns were seen to be there in each file."""
    schemas = []
    for path in paths:
        try:
            schemas.append(pl.read_parquet_schema(path))
        except pl.exceptions.PolarsError as error:
            reason = ascii(str(error).split("\n")[0])[1:-1][:80]
            raise InputError(
                f"{path}: cannot be read ({reason}); wanted a whole Parquet file; write it again"
            ) from error
        check_columns(RawFile(path), named, schemas[-1])
        for name in named.values():
            if schemas[-1][name] != schemas[0][name]:
                raise InputError(
                    f"{path}: column {name!r} holds {schemas[-1][name]}, but {schemas[0][name]} in {paths[0].name}; "
                    "wanted parts of one type; write them again"
                )
    frame = pl.scan_parquet(list(paths), extra_columns="ignore", glob=False, hive_partitioning=False)
    return frame, pl.Schema(schemas[0])


def _text(path: Path, name: str, dtype: pl.DataType) -> pl.Expr:
    """Ids as text; null where there is none or where it would not stand on a line of its own."""
    if not (dtype == pl.String or dtype.is_integer() or isinstance(dtype, (pl.Categorical, pl.Enum))):
        raise InputError(f"{path}: column {name!r} holds {dtype}; wanted ids: text or whole numbers")
    text = pl.col(name).cast(pl.String)
    if dtype.is_integer():
        return text
    return pl.when((text.str.len_bytes() > 0) & ~text.str.contains(r"[\x00-\x1f\x7f\u{85}\u{2028}\u{2029}]")).then(text)


def records(
    paths: Sequence[Path], item: str, wanted: Collection[str], reader: Reader
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row from 1 among those wanted, {column: value}) of the rows of wanted items, some thousands at a time."""
    frame, schema = _scan(paths, {"item_column": item})
    ids = pl.LazyFrame({item: pl.Series(list(wanted), dtype=pl.String)})
    frame = frame.with_columns(_text(paths[0], item, schema[item]))
    found = reader.folder / "items.parquet"
    _apart(frame.join(ids, on=item, how="semi", maintain_order="left"), found, paths)
    number = 0
    for batch in pl.scan_parquet(found, glob=False).collect_batches(chunk_size=10_000):
        for row in batch.iter_rows(named=True):
            number += 1
            yield number, row


def _apart(frame: pl.LazyFrame, target: Path, paths: Sequence[Path]) -> None:
    """Raises InputError if the query over the files fails."""
    try:
        apart.sink(frame, target)
    except apart.Failed as error:
        if "os error 28" in str(error):
            raise OSError(errno.ENOSPC, str(error), str(target)) from error
        where = Path(os.path.commonpath(paths))
        raise InputError(
            f"{where}: cannot be read ({ascii(str(error))[1:-1][:160]}); wanted whole Parquet files; write them again"
        ) from error
