"""The folder `handled/` that LLM-ESR's authors publish: its files, and where it is."""

from __future__ import annotations

from pathlib import Path

from llmesr_jax.core.errors import InputError

FILES = {
    "item_llm": "itm_emb_np.pkl",
    "user_llm": "usr_emb_np.pkl",
    "item_pca": "pca64_itm_emb_np.pkl",
    "similar_users": "sim_user_100.pkl",
}


def find(folder: str | Path) -> Path | None:
    """The folder with the authors' files: `folder` if it has their item embeddings, else its subfolder `handled`.

    None if there is neither.

    Raises:
      InputError: the folder has both an `inter.txt` and a `handled/`, so that either could be meant.
    """
    folder = Path(folder)
    if (folder / FILES["item_llm"]).is_file():
        return folder
    inside = folder / "handled"
    if inside.is_dir() and (folder / "inter.txt").exists():
        raise InputError(
            f"{folder}: has both inter.txt and handled/; expected one of the two; set --data_dir={inside} to use "
            "the authors' files, or move that folder away"
        )
    return inside if inside.is_dir() else None
