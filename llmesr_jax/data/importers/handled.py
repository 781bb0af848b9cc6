"""Reads the `handled/` folder of the LLM-ESR release.

Files: `inter.txt`, in this library's format, and pickled NumPy arrays, which `semantic.embedding_files` reads and
checks: `itm_emb_np.pkl` (V, F), `usr_emb_np.pkl` (U, F), `pca64_itm_emb_np.pkl` (V, 64), row 0 = id 1, and
`sim_user_100.pkl` (U, 100), user rows from 0, most similar first.

Training reads such a folder as it is. `launch.prepare --importer=handled` reads the `inter.txt` (and an `items.jsonl`
beside it) as raw data, to check its counts, to filter it further, or to give it a manifest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.handled import find
from llmesr_jax.data.importers import Downloads
from llmesr_jax.data.raw_files import Files, RawFile, json_objects, parsed
from llmesr_jax.data.raw_folders import check_folder
from llmesr_jax.data.staging import Reader
from llmesr_jax.data.values import Malformed, identifier

ITEM_ID = "raw_id"
PREPARED = True


@dataclasses.dataclass(frozen=True)
class Options:
    """This importer has no options."""


def locate(folder: Path, options: Options) -> Files:
    check_folder(folder, 'inter.txt, "user item" per line')
    inside = find(folder) or folder
    if not (inside / "inter.txt").is_file():
        raise InputError(f'{inside}: has no inter.txt; expected one, "user item" per line; set --raw_dir to its folder')
    items = inside / "items.jsonl"
    return Files((RawFile(inside / "inter.txt"),), *([(RawFile(items),)] if items.is_file() else [(), items.name]))


def interactions(files: Files, options: Options, reader: Reader) -> pl.LazyFrame:
    (raw,) = files.interactions
    return reader.stage((pair for _, pair in parsed(raw, reader.bad, _pair)), ("user", "item"))


def _pair(line: bytes) -> tuple[str, str]:
    words = line.split()
    if len(words) != 2 or not all(word.isdigit() and len(word) < 18 and int(word) for word in words):
        raise Malformed('two whole numbers, "user item", both from 1')
    return str(int(words[0])), str(int(words[1]))


def items(
    files: Files, options: Options, reader: Reader, wanted: Container[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for raw in files.items:
        for line, record in json_objects(raw, reader.bad):
            try:
                yield identifier(record.pop("item_id", None)), record
            except Malformed as error:
                reader.bad.add(raw, line, f"item_id: expected {error}")


def downloads(options: Options) -> Downloads:
    return Downloads("", (), "the authors share their files on a drive; see their repository")
