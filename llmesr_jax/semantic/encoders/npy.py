"""Vectors that are there already: checked, converted, and put in place.

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
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.semantic import embedding_files

TAKES = "corpus"


@dataclasses.dataclass(frozen=True)
class Config:
    item_file: str = knob("", ".npy or .pkl file of NumPy floats, (items, F), row 0 = id 1")
    user_file: str = knob("", "the same for users; empty: a user is the mean of the training items")


def identity(config: Config) -> dict[str, str]:
    """Digests of the files.

    Raises:
      InputError: none is named, or one cannot be read.
    """
    if not config.item_file:
        raise InputError("--item_file is missing; --encoder=npy wants a file of embeddings, one row an item")
    paths = {"item_file": Path(config.item_file)}
    if config.user_file:
        paths["user_file"] = Path(config.user_file)
    return {name: _digest(name, path) for name, path in paths.items()}


def embed(corpus: Corpus, texts_V: Iterable[str], config: Config) -> tuple[np.ndarray, np.ndarray | None]:
    """The arrays of the two files, mapped, not read.

    Raises:
      InputError: one is not as it should be.
    """
    del texts_V
    items = embedding_files.map_embedding(Path(config.item_file), corpus.num_items, "items")
    if not config.user_file:
        return items, None
    return items, embedding_files.map_embedding(Path(config.user_file), corpus.num_users, "users")


def _digest(flag: str, path: Path) -> str:
    try:
        return files.sha256(path)
    except OSError as error:
        raise InputError(f"--{flag}={path}: cannot be read ({error.strerror}); wanted a .npy file") from error
