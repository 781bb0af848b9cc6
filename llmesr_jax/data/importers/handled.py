"""Reads the `handled/` folder of the LLM-ESR release.

Files: `inter.txt`, in our own format, and pickled NumPy arrays, read without running what they may contain:
`itm_emb_np.pkl` (V, F), `usr_emb_np.pkl` (U, F), `pca64_itm_emb_np.pkl` (V, 64), row 0 = id 1, and
`sim_user_100.pkl` (U, 100), user rows from 0, most similar first.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from llmesr_jax.data import corpus as corpus_lib
from llmesr_jax.data.pickles import load_arrays
from llmesr_jax.errors import InputError

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


def corpus(name: str, folder: str | Path) -> corpus_lib.Corpus:
    """The corpus in `folder` or its `handled/`; the corpus' `folder` is where the files lie.

    Raises:
      InputError: `inter.txt` is missing or malformed.
    """
    return corpus_lib.read_folder(name, find(folder) or folder)


def arrays(folder: str | Path) -> dict[str, np.ndarray]:
    """Those of `item_llm` (V, F), `user_llm` (U, F), `item_pca` (V, 64), `similar_users` (U, 100) that are present.

    Raises:
      InputError: a pickle is refused or damaged, not a table, or its numbers are of the wrong kind.
    """
    folder = find(folder) or Path(folder)
    present = {key: folder / file for key, file in FILES.items() if (folder / file).exists()}
    return {key: _table(path, whole=key == "similar_users") for key, path in present.items()}


def _table(path: Path, *, whole: bool) -> np.ndarray:
    table = load_arrays(path)
    kinds, wanted = ("iu", "whole numbers from 0") if whole else ("f", "float16, 32 or 64")
    if table.ndim != 2 or table.dtype.kind not in kinds or (whole and table.size and table.min() < 0):
        found = f"{table.dtype} of shape {table.shape}"
        raise InputError(f"{path}: found {found}; wanted a table (rows, columns) of {wanted}")
    return table
