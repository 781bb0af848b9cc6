"""A corpus: who interacted with what, in order; its leave-one-out split; and reading it from a folder.

A folder holds `inter.txt` ("user item" a line, ids from 1, a user's lines in time order) and, optionally,
`items.jsonl` (one object an item: `item_id`, `title`, any other attributes).
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from llmesr_jax.data import records
from llmesr_jax.errors import InputError

DATASETS = ("demo", "fashion", "beauty", "yelp", "grocery", "beauty5", "ml-1m")

_PAIR = re.compile(r"\s*[+-]?[0-9]{1,18}\s+[+-]?[0-9]{1,18}\s*")


@dataclass(frozen=True, eq=False)
class Corpus:
    """Interactions of U users with V items, grouped by user, in time order. All arrays are read-only.

    Split (leave one out): a user's last item is the test target, the one before the validation target, the rest
    is training; a user with fewer than 3 interactions has training only.

    Attributes:
      name: of the data set.
      num_users: U; row u is user id u + 1.
      num_items: V; ids 1..V.
      items: int32 (n,) item ids; user u's are `items[offsets[u]:offsets[u + 1]]`.
      offsets: int64 (U + 1,).
      item_records: (V,) attributes of each item, at least `item_id` and `title`; None without texts. Those of a folder
        are read when they are looked at.
      digest: sha256, in hex, of V, items and offsets.
      folder: where the files are; None for the demo.
    """

    name: str
    num_users: int
    num_items: int
    items: np.ndarray
    offsets: np.ndarray
    item_records: Sequence[dict[str, Any]] | None
    digest: str
    folder: Path | None

    @property
    def item_titles(self) -> tuple[str, ...] | None:
        """(V,) titles, or None without texts."""
        return None if self.item_records is None else tuple(record["title"] for record in self.item_records)

    @cached_property
    def lengths_U(self) -> np.ndarray:
        """int64 (U,): interactions of each user, at least 1."""
        return _frozen(np.diff(self.offsets))

    @cached_property
    def train_lengths_U(self) -> np.ndarray:
        """int64 (U,): training interactions of each user, which are the first ones."""
        return _frozen(np.where(self.lengths_U >= 3, self.lengths_U - 2, self.lengths_U))

    @cached_property
    def valid_U(self) -> np.ndarray:
        """int32 (U,): item id of the validation target, 0 where the user has none."""
        return self._target(2)

    @cached_property
    def test_U(self) -> np.ndarray:
        """int32 (U,): item id of the test target, 0 where the user has none."""
        return self._target(1)

    def _target(self, back: int) -> np.ndarray:
        target_U = self.items[np.maximum(self.offsets[1:] - back, 0)]
        return _frozen(np.where(self.lengths_U >= 3, target_U, 0).astype(np.int32))

    @cached_property
    def item_counts_V(self) -> np.ndarray:
        """int64 (V,): training interactions of each item; row 0 is id 1."""
        train_ends = self.offsets[:-1] + self.train_lengths_U
        is_training = np.arange(len(self.items)) < np.repeat(train_ends, self.lengths_U)
        return _frozen(np.bincount(self.items[is_training] - 1, minlength=self.num_items))


def from_pairs(
    name: str,
    users: np.ndarray,
    items: np.ndarray,
    *,
    item_records: Sequence[dict[str, Any]] | None = None,
    folder: Path | None = None,
    source: str | Path | None = None,
) -> Corpus:
    """Checks interactions and groups them by user, which keeps a user's order.

    Args:
      name: of the data set.
      users: integers (n,), ids 1..U, all of them present.
      items: integers (n,), ids 1..V, all of them present.
      item_records: (V,) in order of id.
      folder: kept in the corpus.
      source: what error messages name; the data set if not given.

    Raises:
      InputError: no interactions, an id below 1, a gap in the ids, or no user with 3 interactions.
    """
    source = source or f"data set {name!r}"
    users, items = np.asarray(users), np.asarray(items)
    if not len(users):
        raise InputError(f'{source}: is empty; wanted one "user item" a line')
    num_users, num_items = _count_ids(source, "user", users), _count_ids(source, "item", items)
    lengths = np.bincount(users - 1)
    if lengths.max() < 3:
        raise InputError(
            f"{source}: no user has 3 interactions (the most is {lengths.max()}); leave-one-out wants at least 3 "
            "of a user: one each for training, validation and test"
        )
    grouped = _frozen(items[np.argsort(users, kind="stable")].astype(np.int32))
    offsets = _frozen(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    digest = _digest(num_items, grouped, offsets)
    return Corpus(name, num_users, num_items, grouped, offsets, item_records, digest, folder)


def read_folder(name: str, folder: str | Path) -> Corpus:
    """Reads `inter.txt` and, where present, `items.jsonl`.

    Raises:
      InputError: a file is missing, unreadable or malformed (with the line's number), ids are not 1..n, or the
        items of the two files differ.
    """
    folder = Path(folder)
    path, texts = folder / "inter.txt", folder / "items.jsonl"
    if not folder.is_dir():
        what = "not a folder" if folder.exists() else "no such folder"
        raise InputError(f"{folder}: {what}; {_step(name, folder)}{_wanted(folder)}")
    if not path.exists():
        raise InputError(f"{path}: no such file; {_step(name, folder)}{_wanted(folder)}")
    pairs = _read_pairs(path)
    corpus = from_pairs(name, pairs[:, 0], pairs[:, 1], folder=folder, source=path)
    if not texts.exists():
        return corpus
    return replace(corpus, item_records=records.read(texts, corpus.num_items))


def load(dataset: str, data_dir: str | Path | None = None) -> Corpus:
    """The corpus of `--dataset` and `--data_dir`.

    `demo` without a folder is made in memory. Otherwise the folder is `data_dir`, or `data/<dataset>` for a known
    name, and holds our files or the authors' `handled/` ones.

    Raises:
      InputError: an unknown name without a folder, or a folder that cannot be read.
    """
    from llmesr_jax.data import synthetic
    from llmesr_jax.data.importers import handled

    if data_dir is None and dataset not in DATASETS and not Path("data", dataset).is_dir():
        raise InputError(
            f"--dataset={dataset}: not known; wanted one of {', '.join(DATASETS)}, or any name together with "
            "--data_dir, a folder that python -m launch.prepare made or that is laid out alike"
        )
    if data_dir is None and dataset == "demo":
        return synthetic.demo()
    folder = Path(data_dir) if data_dir is not None else Path("data") / dataset
    try:
        return handled.corpus(dataset, folder) if handled.find(folder) else read_folder(dataset, folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}); {_wanted(folder)}") from error


def _step(name: str, folder: Path) -> str:
    """The step that is missing, as a command."""
    from llmesr_jax.data import known

    if folder.name == "handled":
        return ""
    out = "" if folder == Path("data", name) else f" --out={folder}"
    source = " --raw_dir=<folder of raw files>" if name in known.DATASETS else " --importer=<source> --raw_dir=<folder>"
    return f"make it from raw files with python -m launch.prepare --dataset={name}{source}{out}; or "


def _wanted(folder: Path) -> str:
    return (
        f'put inter.txt ("user item" a line, ids from 1, in time order) into {folder} and, if you have them, '
        "items.jsonl, item_emb.npy and user_emb.npy; or the authors' files into "
        f"{folder if folder.name == 'handled' else folder / 'handled'}; or say with --data_dir where they are"
    )


def _read_pairs(path: Path) -> np.ndarray:
    """int64 (n, 2): bulk parse; only when that fails are lines looked at one by one, to name the wrong one."""
    try:
        with path.open(encoding="utf-8-sig") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an empty file, which `from_pairs` reports
            pairs = np.loadtxt(file, dtype=np.int64, ndmin=2, comments=None)
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    except ValueError as error:
        raise _malformed(path, lambda line: not _PAIR.fullmatch(line)) from error
    if not pairs.size:
        return np.empty((0, 2), np.int64)
    if pairs.shape[1] != 2:
        raise _malformed(path, lambda line: not _PAIR.fullmatch(line))
    if pairs.min() < 1:
        raise _malformed(path, lambda line: min(map(int, line.split())) < 1)
    return pairs


def _malformed(path: Path, is_wrong) -> InputError:
    try:
        with path.open(encoding="utf-8-sig") as file:
            number, line = next((n, s) for n, s in enumerate(file, 1) if s.strip() and is_wrong(s))
    except UnicodeDecodeError as error:
        return _unreadable(path, error)
    return InputError(
        f'{path}, line {number}: found {ascii(line.strip()[:60])}; wanted two whole numbers, "user item", both from 1'
    )


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", None) or error
    return InputError(f"{path}: cannot be read ({reason}); wanted a readable text file")


def _count_ids(source: str | Path, kind: str, ids: np.ndarray) -> int:
    """The number of ids, which must be 1..that number."""
    lowest, highest = int(ids.min()), int(ids.max())
    if lowest < 1:
        raise InputError(f"{source}: found {kind} id {lowest}; wanted ids from 1 (0 is padding)")
    # More ids than lines means a gap within the first len(ids) + 1 ids, however large the highest is.
    present = np.bincount(ids[ids <= len(ids)], minlength=min(highest, len(ids)) + 2)[1:] > 0
    if not present[:highest].all():
        missing = int(np.argmin(present)) + 1
        raise InputError(
            f"{source}: {kind} id {missing} is missing, although ids go up to {highest}; wanted every id from 1 "
            "without gaps; number them again"
        )
    return highest


def _digest(num_items: int, items: np.ndarray, offsets: np.ndarray) -> str:
    parts = (np.array([num_items], "<i8"), items.astype("<i4"), offsets.astype("<i8"))
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
