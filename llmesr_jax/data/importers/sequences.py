"""The compact text of many sequential recommenders: one user per line, "user item item item ...", in time order.

The file is the only `.txt` in the folder, or the file that `--file` names. Users and items are words without blanks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.knobs import knob
from llmesr_jax.data.decoding import Text
from llmesr_jax.data.importers import Downloads
from llmesr_jax.data.importers._text import NO_ID, float_note
from llmesr_jax.data.raw_files import Files, RawFile, check_encoding
from llmesr_jax.data.raw_folders import check_folder
from llmesr_jax.data.staging import Reader
from llmesr_jax.data.values import MISSING, Ids, Malformed

ITEM_ID = "raw_id"
PREPARED = True
_COLUMNS = ("user", "item")


@dataclasses.dataclass(frozen=True)
class Options:
    """Which file to read, and how."""

    file: str = knob("", "name of the file in --raw_dir; empty: the only one")
    encoding: str = knob(
        "", "encoding of text files, by its Python name; empty: UTF-8, and Windows-1252 for bytes that are not"
    )
    missing: str = knob(MISSING, "words that mean that there is no id, separated by commas; empty: the empty cell only")


def locate(folder: Path, options: Options) -> Files:
    check_folder(folder, 'a text file with "user item item ..." per line')
    check_encoding(options.encoding)
    found = [folder / options.file] if options.file else sorted(folder.glob("*.txt")) + sorted(folder.glob("*.txt.gz"))
    if len(found) != 1 or not found[0].is_file():
        what = f"has no {options.file or '.txt file'}" if len(found) < 2 else f"has {len(found)} .txt files"
        raise InputError(f'{folder}: {what}; expected one with "user item item ..." per line; choose it with --file')
    return Files((RawFile(found[0]),))


def interactions(files: Files, options: Options, reader: Reader) -> pl.LazyFrame:
    return reader.stage(_pairs(Text(files.interactions[0], options.encoding), Ids(options.missing), reader), _COLUMNS)


def _pairs(text: Text, ids: Ids, reader: Reader) -> Iterator[tuple[str, str]]:
    for line, words in text.lines(reader.bad):
        try:
            user, *items = map(ids.read, words.split())
            if not items:
                raise Malformed(f'"user item item ...", not {repr(words[:40])}')
        except (Malformed, ValueError) as error:
            reader.bad.add(text.raw, line, f"expected {error}")
            continue
        for item in items:
            if user is None or item is None:
                reader.dropped[NO_ID] += 1
            else:
                yield user, item
    if note := text.note():
        reader.note(note)
    if ids.float:
        reader.note(float_note(ids))


def items(
    files: Files, options: Options, reader: Reader, wanted: Container[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    return iter(())


def downloads(options: Options) -> Downloads:
    return Downloads("", (), "such files have no fixed address")
