"""Existing vectors in files (`semantic.vector_files`), which are checked, converted, and copied to the data folder.

python -m launch.embed --dataset=fashion --encoder=npy --item_file=items.npy --user_file=users.npy
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from llmesr_jax.core import files
from llmesr_jax.core.errors import InputError
from llmesr_jax.core.knobs import knob
from llmesr_jax.data import raw_ids
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.semantic import embedding_files, vector_files

TAKES = "corpus"


@dataclasses.dataclass(frozen=True)
class Config:
    item_file: str = knob(
        "", "file of item vectors (.npy, .npz, .pkl, .safetensors, .parquet): row 0 = id 1, or by raw id"
    )
    user_file: str = knob("", "the same for users; empty: a user is the mean of the user's training items")


def identity(config: Config) -> dict[str, str]:
    """Digests of the files.

    Raises:
      InputError: no file is named, or a file cannot be read.
    """
    if not config.item_file:
        raise InputError("--item_file is missing; expected a file of embeddings, one row per item, for --encoder=npy")
    paths = {"item_file": Path(config.item_file)}
    if config.user_file:
        paths["user_file"] = Path(config.user_file)
    return {name: _digest(name, path) for name, path in paths.items()}


def embed(corpus: Corpus, texts_V: Iterable[str], config: Config) -> tuple[np.ndarray, np.ndarray | None]:
    """The arrays of the two files; a `.npy` file is memory-mapped.

    Raises:
      InputError: a file cannot be read, or does not have finite vectors of one width, one for each item or user.
    """
    del texts_V
    items = _read(Path(config.item_file), corpus, "items")
    return items, _read(Path(config.user_file), corpus, "users") if config.user_file else None


def _read(path: Path, corpus: Corpus, kind: str) -> np.ndarray:
    found = vector_files.read(path, lambda: raw_ids.known(corpus, kind.removesuffix("s")), kind)
    rows = corpus.num_items if kind == "items" else corpus.num_users
    if found.missing:
        print(f"{path}: has no vector for {found.missing:,} of {rows:,} {kind}", flush=True)
    if found.of_nobody:
        print(f"{path}: {found.of_nobody:,} of its vectors belong to none of the {kind} and are left out", flush=True)
    return embedding_files.checked(found.array, path, rows, kind)


def _digest(flag: str, path: Path) -> str:
    try:
        return files.sha256(path)
    except OSError as error:
        raise InputError(f"--{flag}={path}: cannot be read ({error.strerror}); expected a file of vectors") from error
