"""Reads the `handled/` folder of the LLM-ESR release.

Files: `inter.txt`, in our own format, and pickled NumPy arrays, which `semantic.embedding_files` reads and checks:
`itm_emb_np.pkl` (V, F), `usr_emb_np.pkl` (U, F), `pca64_itm_emb_np.pkl` (V, 64), row 0 = id 1, and
`sim_user_100.pkl` (U, 100), user rows from 0, most similar first.
"""

from __future__ import annotations

from pathlib import Path

from llmesr_jax.data import corpus as corpus_lib
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
