"""The compact text of many sequential recommenders: a user a line, "user item item item ...", in time order.

The file is the one `.txt` in the folder, or the one that `--file` names. Users and items are any words without blanks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from llmesr_jax.contracts import knob
from llmesr_jax.data.importers import Downloads
from llmesr_jax.data.raw_files import Files, RawFile, check_folder, parsed
from llmesr_jax.data.staging import Reader
from llmesr_jax.data.values import Malformed, identifier
from llmesr_jax.errors import InputError

ITEM_ID = "raw_id"
PREPARED = True


@dataclasses.dataclass(frozen=True)
class Options:
    """Which of the files."""

    file: str = knob("", "name of the file (table: or of the folder of parts) below --raw_dir; empty: the only one")


def locate(folder: Path, options: Options) -> Files:
    check_folder(folder, 'a text file with "user item item ..." a line')
    found = [folder / options.file] if options.file else sorted(folder.glob("*.txt")) + sorted(folder.glob("*.txt.gz"))
    if len(found) != 1 or not found[0].is_file():
        what = f"holds no {options.file or '.txt file'}" if len(found) < 2 else f"holds {len(found)} .txt files"
        raise InputError(f'{folder}: {what}; wanted one with "user item item ..." a line; name it with --file')
    return Files((RawFile(found[0]),))


def interactions(files: Files, options: Options, reader: Reader) -> pl.LazyFrame:
    (raw,) = files.interactions
    rows = ((user, item) for _, (user, *items) in parsed(raw, reader.bad, _words) for item in items)
    return reader.stage(rows, ("user", "item"))


def _words(line: bytes) -> list[str]:
    try:
        words = line.decode("utf-8").split()
    except UnicodeDecodeError as error:
        raise Malformed("UTF-8 text") from error
    if len(words) < 2:
        raise Malformed('"user item item ..."')
    return [identifier(word) for word in words]


def items(
    files: Files, options: Options, reader: Reader, wanted: Container[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    return iter(())


def downloads(options: Options) -> Downloads:
    return Downloads("", (), "such files have no fixed address")
