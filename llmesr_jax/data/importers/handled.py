"""Reads the `handled/` folder of the LLM-ESR release.

Files: `inter.txt`, in our own format, and pickled NumPy arrays, which `semantic.embedding_files` reads and checks:
`itm_emb_np.pkl` (V, F), `usr_emb_np.pkl` (U, F), `pca64_itm_emb_np.pkl` (V, 64), row 0 = id 1, and
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

from llmesr_jax.data import corpus as corpus_lib
from llmesr_jax.data.importers import Downloads
from llmesr_jax.data.raw_files import Files, RawFile, check_folder, json_objects, parsed
from llmesr_jax.data.splits import SplitConfig
from llmesr_jax.data.staging import Reader
from llmesr_jax.data.values import Malformed, identifier
from llmesr_jax.errors import InputError

ITEM_ID = "raw_id"
PREPARED = True

FILES = {
    "item_llm": "itm_emb_np.pkl",
    "user_llm": "usr_emb_np.pkl",
    "item_pca": "pca64_itm_emb_np.pkl",
    "similar_users": "sim_user_100.pkl",
}


def find(folder: str | Path) -> Path | None:
    """The folder with the authors' files: `folder/handled`, or `folder` itself; None if there is neither.

    Raises:
      InputError: an `inter.txt` and a `handled/` lie side by side, so that either could be meant.
    """
    folder = Path(folder)
    if (folder / FILES["item_llm"]).is_file():
        return folder
    inside = folder / "handled"
    if inside.is_dir() and (folder / "inter.txt").exists():
        raise InputError(
            f"{folder}: holds inter.txt and handled/; wanted one of the two; name {inside} with --data_dir to use "
            "the authors' files, or move that folder away"
        )
    return inside if inside.is_dir() else None


def corpus(name: str, folder: str | Path, split: SplitConfig = SplitConfig()) -> corpus_lib.Corpus:
    """The corpus in `folder` or its `handled/`; the corpus' `folder` is where the files lie.

    Raises:
      InputError: `inter.txt` is missing or malformed.
    """
    return corpus_lib.read_folder(name, find(folder) or folder, split)


@dataclasses.dataclass(frozen=True)
class Options:
    """There are none."""


def locate(folder: Path, options: Options) -> Files:
    check_folder(folder, 'inter.txt, "user item" a line')
    inside = find(folder) or folder
    if not (inside / "inter.txt").is_file():
        raise InputError(f'{inside}: holds no inter.txt; wanted it, "user item" a line; name its folder with --raw_dir')
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
                reader.bad.add(raw, line, f"item_id: wanted {error}")


def downloads(options: Options) -> Downloads:
    return Downloads("", (), "the authors share their files from a drive; see their repository")
