"""The values of Parquet columns of any type: ids as text, ratings and times as numbers.

Each query over the files runs in a process of its own (`data.isolated`), because a damaged file can crash the process.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import isolated
from llmesr_jax.data.importers._records import MISSING
from llmesr_jax.data.staging import Reader

UNFIT = "\0"  # put before a value that is no valid id, such as 12.5, so that the search for control characters finds it
_NO_NUMBER = float("inf")  # stands for a rating that is not a number
BLANKS = "".join(filter(str.isspace, map(chr, range(0x3001))))  # the characters that str.strip removes
_EXACT = {pl.Float32: 2**24, pl.Float64: 2**53}  # beyond these, two ids may have the same float
# A text in UTF-8, as its bytes in hexadecimal digits.
_UTF8 = (
    "^(?:[0-7].|(?:c[2-9a-f]|d.)T|e0[ab].T|e[1-9abcef]TT|ed[89].T|f0[9ab].TT|f[1-3]TTT|f48.TT)*$"
).replace("T", "[89ab].")  # fmt: skip


def listed(name: str, dtype: pl.DataType) -> pl.Expr:
    """The column; a column of arrays of a fixed size as lists."""
    return pl.col(name).arr.to_list() if isinstance(dtype, pl.Array) else pl.col(name)


def exploded(
    frame: pl.LazyFrame, lists: list[str], columns: Mapping[str, str], reader: Reader, paths: Sequence[Path]
) -> pl.LazyFrame:
    """One row for each entry of the lists, in their order; rows with empty lists are counted.

    Raises:
      InputError: the lists of a row differ in length; or users are in lists, or items are not.
    """
    where = Path(os.path.commonpath(paths))
    if "user" in lists or "item" not in lists:
        name = columns["user"] if "user" in lists else columns[lists[0]]
        raise InputError(
            f"{where}: column {name!r} holds lists; expected lists of items ({columns['item']}), with one user per "
            f"row; choose other columns with --{'user' if 'user' in lists else 'item'}_column"
        )
    lengths = {key: pl.col(key).list.len().fill_null(0) for key in lists}
    unequal = pl.any_horizontal(*(lengths[key] != lengths["item"] for key in lists))
    at = pl.int_range(pl.len()).filter(unequal).first()
    asked = {"unequal": unequal.sum(), "at": at, "empty": (lengths["item"] == 0).sum()}
    for key in lists:
        asked[key] = lengths[key].filter(unequal).first()
    facts = one_row(frame.select(**asked), reader, paths)
    if facts["unequal"]:
        found = ", ".join(f"{facts[key]} in {columns[key]}" for key in lists)
        raise InputError(
            f"{where}: {facts['unequal']} rows have lists of unequal length (row {facts['at'] + 1}: {found}); expected "
            "as many values of each as there are items; write the file again, or run without the column's flag"
        )
    if facts["empty"]:
        reader.dropped["rows with an empty list"] += facts["empty"]
    return frame.filter(lengths["item"] > 0).explode(lists)


def ids(frame: pl.LazyFrame, name: str, dtype: pl.DataType, reader: Reader, paths: Sequence[Path]) -> pl.Expr:
    """Ids as text, null for none; `UNFIT` and the value if it is not a valid id."""
    found, text = pl.col(name), pl.col(name).cast(pl.String) if dtype != pl.Binary else None
    if dtype.is_float():
        whole = (found == found.floor()) & (found.abs() <= _EXACT[type(dtype)])
        number = pl.when(whole).then(found).cast(pl.Int64, strict=False).cast(pl.String)
        return pl.when(found.is_nan()).then(None).when(whole).then(number).otherwise(pl.lit(UNFIT) + text)
    if dtype.is_decimal():
        whole = text.str.replace(r"\.0*$", "")
        return pl.when(whole.str.contains(".", literal=True)).then(pl.lit(UNFIT) + text).otherwise(whole)
    if dtype == pl.Binary:
        return _of_bytes(frame, name, reader, paths)
    return text


def _of_bytes(frame: pl.LazyFrame, name: str, reader: Reader, paths: Sequence[Path]) -> pl.Expr:
    """Bytes as UTF-8 text; values of 16 bytes each that are not text are UUIDs."""
    found, digits = pl.col(name), pl.col(name).bin.encode("hex")
    is_text = digits.str.contains(_UTF8)
    asked = {"no_text": (~is_text).sum(), "other": (found.bin.size() != 16).sum()}
    facts = one_row(frame.select(**asked), reader, paths)
    if facts["no_text"] and not facts["other"]:
        parts = [digits.str.slice(start, length) for start, length in ((0, 8), (8, 4), (12, 4), (16, 4), (20, 12))]
        return pl.concat_str(parts, separator="-")
    text = pl.when(is_text).then(found).otherwise(pl.lit(b"")).cast(pl.String)
    return pl.when(is_text).then(text).when(found.is_not_null()).then(pl.lit(UNFIT) + digits)


def rating(dtype: pl.DataType) -> pl.Expr:
    """Ratings as numbers; null for none, infinite if it is not a number."""
    found = pl.col("rating")
    if dtype == pl.Binary or isinstance(dtype, (pl.Categorical, pl.Enum)):
        found, dtype = found.cast(pl.String), pl.String()
    nothing = found.is_null()
    if dtype == pl.String:
        found = found.str.strip_chars(BLANKS)
        nothing |= found.is_in(sorted(MISSING))
    number = found.cast(pl.Float64, strict=False)
    if dtype == pl.String:
        number = pl.when(number.is_finite()).then(number).otherwise(_NO_NUMBER)
    return pl.when(~nothing & ~number.is_nan()).then(number)


def timely(frame: pl.LazyFrame, dtype: pl.DataType) -> tuple[pl.LazyFrame, pl.DataType]:
    """The times in a type wide enough for microseconds: 32 bits are not."""
    if dtype == pl.Binary:
        return frame.with_columns(pl.col("time").cast(pl.String)), pl.String()
    if isinstance(dtype, (pl.Categorical, pl.Enum)):
        return frame.with_columns(pl.col("time").cast(pl.String)), pl.String()
    if dtype.is_integer() or (dtype.is_decimal() and not dtype.scale) or dtype == pl.Null:
        return frame.with_columns(pl.col("time").cast(pl.Int64, strict=False)), pl.Int64()
    if dtype.is_numeric():
        return frame.with_columns(pl.col("time").cast(pl.Float64)), pl.Float64()
    return frame, dtype


def one_row(frame: pl.LazyFrame, reader: Reader, paths: Sequence[Path]) -> dict[str, Any]:
    """The result of a query over the files that gives one row, {column: value}; errors as of `apart`."""
    target = reader.folder / "facts.parquet"
    apart(frame, target, paths)
    found = pl.read_parquet(target).row(0, named=True)
    target.unlink()
    return found


def apart(frame: pl.LazyFrame, target: Path, paths: Sequence[Path]) -> None:
    """Writes the result of a query over the files to the Parquet file `target`, in a process of its own.

    Raises:
      InputError: a file cannot be read.
      OSError: the disk is full.
    """
    try:
        isolated.sink(frame, target)
    except isolated.Failed as error:
        if "os error 28" in str(error):  # polars gives its errors no errno
            raise OSError(errno.ENOSPC, str(error), str(target)) from error
        where = Path(os.path.commonpath(paths))
        raise InputError(
            f"{where}: cannot be read ({repr(str(error))[1:-1][:160]}); expected whole Parquet files; write the files "
            "again"
        ) from error
