"""Reads a corpus from a folder, or by the name of a data set."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from llmesr_jax.core import commands
from llmesr_jax.core.errors import InputError
from llmesr_jax.core.nearest import did_you_mean
from llmesr_jax.data import handled, known, manifest, records, synthetic
from llmesr_jax.data.corpus import Corpus, from_pairs, from_sequences
from llmesr_jax.data.splits import SplitConfig

DATASETS = ("demo", "fashion", "beauty", "yelp", "grocery", "beauty5", "ml-1m")
_PAIR = re.compile(r"\s*[+-]?[0-9]{1,18}\s+[+-]?[0-9]{1,18}\s*")


def load(dataset: str, data_dir: str | Path | None = None, split: SplitConfig = SplitConfig()) -> Corpus:
    """The corpus of `--dataset` and `--data_dir`, split by `split`.

    `demo` without `data_dir` is made in memory. Otherwise the corpus is read from `data_dir`, by default
    `data/<dataset>`, which contains the files of `read_folder` or those of LLM-ESR's authors (`handled/`).

    Raises:
      InputError: without `data_dir`, the name is not known and there is no folder `data/<dataset>`; or the folder
        cannot be read.
    """
    if data_dir is None and dataset not in DATASETS and not Path("data", dataset).is_dir():
        made = sorted(path.name for path in Path("data").glob("*/"))
        raise InputError(
            f"--dataset={dataset}: is not known; expected one of {', '.join(DATASETS)}, or any name together with "
            f"--data_dir, a folder that {commands.line('prepare')} made or one with the same files"
            f"{did_you_mean(dataset, [*made, *DATASETS])}"
        )
    if data_dir is None and dataset == known.IN_MEMORY:
        return synthetic.demo(split=split)
    folder = Path(data_dir) if data_dir is not None else Path("data") / dataset
    try:
        return read_folder(dataset, handled.find(folder) or folder, split)
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}); {_wanted(folder)}") from error


def read_folder(name: str, folder: str | Path, split: SplitConfig = SplitConfig()) -> Corpus:
    """Reads `inter.txt`, or `items.npy` and `offsets.npy`; and, where present, `items.jsonl`, `times.npy` and `split.npy`.

    Raises:
      InputError: a file is missing, unreadable or malformed (with the line number), ids are not 1..n, the
        files do not match each other, or the split cannot be made.
    """
    folder = Path(folder)
    path, texts = folder / "inter.txt", folder / "items.jsonl"
    if not folder.is_dir():
        what = "not a folder" if folder.exists() else "no such folder"
        raise InputError(f"{folder}: {what}; {_step(name, folder)}{_wanted(folder)}")
    arrays = folder / "items.npy"
    if path.exists() and arrays.exists():
        raise InputError(
            f"{folder}: has both inter.txt and items.npy; expected one of the two; move one of them to another folder"
        )
    if arrays.exists():
        corpus = _from_arrays(name, folder, split)
    elif path.exists():
        pairs = _read_pairs(path)
        beside = _all_beside(folder, len(pairs), path.name)
        corpus = from_pairs(name, pairs[:, 0], pairs[:, 1], **beside, split=split, folder=folder, source=path)
    else:
        raise InputError(f"{path}: no such file; {_step(name, folder)}{_wanted(folder)}")
    if not texts.exists():
        return corpus
    return replace(corpus, item_records=records.read(texts, corpus.num_items))


def _from_arrays(name: str, folder: Path, split: SplitConfig) -> Corpus:
    """The corpus of `items.npy` and `offsets.npy`; they, and `times.npy` and `split.npy`, are memory-mapped."""
    items = _array(folder / "items.npy", np.int32)
    offsets = _array(folder / "offsets.npy", np.int64)
    made = manifest.read(folder)
    if made is not None and "items.npy" in made["files"]:
        manifest.check_files(folder, made | {"files": {n: made["files"][n] for n in ("items.npy", "offsets.npy")}})
    beside = _all_beside(folder, len(items), "items.npy", mapped=True)
    return from_sequences(name, items, offsets, **beside, split=split, folder=folder, source=folder / "items.npy")


def _array(path: Path, dtype: type) -> np.ndarray:
    """(n,) a memory-mapped array.

    Raises:
      InputError: the file is missing, or is not an array of this type and of one dimension.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({reason}); expected a NumPy array; write it again") from error
    if array.dtype != dtype or array.ndim != 1 or not len(array):
        raise InputError(
            f"{path}: holds {array.dtype} of shape {array.shape}; expected {np.dtype(dtype)} in one dimension, for "
            "items.npy an item id for each interaction, for offsets.npy where each user begins; write it again"
        )
    return array


def _all_beside(folder: Path, count: int, interactions: str, mapped: bool = False) -> dict[str, np.ndarray | None]:
    """The times and the parts of `count` interactions, which are in the file of that name."""
    kinds = {"times": ("times.npy", np.int64), "parts": ("split.npy", np.uint8)}
    return {key: _beside(folder / name, dtype, count, interactions, mapped) for key, (name, dtype) in kinds.items()}


def _beside(path: Path, dtype: type, count: int, interactions: str, mapped: bool) -> np.ndarray | None:
    """(count,) one value for each interaction; None if the file does not exist.

    Raises:
      InputError: the file is not such an array, or it or the interactions were changed after launch.prepare wrote them.
    """
    try:
        array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); expected a NumPy array; write the file again, or delete it"
        ) from error
    if dtype is np.int64 and array.dtype.kind == "M":
        array = array.astype("datetime64[s]").view(np.int64)
    if array.dtype != dtype or array.shape != (count,):
        raise InputError(
            f"{path}: holds {array.dtype} of shape {array.shape}; expected {np.dtype(dtype)} of shape ({count},), one "
            f"value per {'interaction' if mapped else 'line'} of {interactions}; write the file again, or delete it"
        )
    made = manifest.read(path.parent)
    if made is not None and path.name in made["files"]:
        manifest.check_files(path.parent, made | {"files": {n: made["files"][n] for n in (interactions, path.name)}})
    return array


def _step(name: str, folder: Path) -> str:
    """The command that makes the missing folder, with the words around it."""
    if folder.name == "handled":
        return ""
    out = "" if known.is_default(name, folder) else f" --out={folder}"
    source = " --raw_dir=<folder of raw files>" if name in known.DATASETS else " --importer=<source> --raw_dir=<folder>"
    return f"make it from raw files with {commands.line('prepare')} --dataset={name}{source}{out}; or "


def _wanted(folder: Path) -> str:
    return (
        f'put inter.txt ("user item" per line, ids from 1, in time order) into {folder} and, if you have them, '
        "items.jsonl, item_emb.npy and user_emb.npy; or the authors' files into "
        f"{folder if folder.name == 'handled' else folder / 'handled'}; or set --data_dir to their folder"
    )


def _read_pairs(path: Path) -> np.ndarray:
    """int64 (n, 2): parses in bulk; only if that fails, reads line by line to name the wrong line."""
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
        f'{path}, line {number}: found {repr(line.strip()[:60])}; expected two whole numbers, "user item", both from 1'
    )


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", None) or error
    return InputError(f"{path}: cannot be read ({reason}); expected a readable text file")
