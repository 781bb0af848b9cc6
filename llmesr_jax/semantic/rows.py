"""Combines existing and new rows of the embedding files, block by block."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llmesr_jax.core import files
from llmesr_jax.semantic import manifest
from llmesr_jax.semantic.store import KEY, Store
from llmesr_jax.semantic.texts import Plan, places

_BLOCK = 4096  # rows written together


class Old(NamedTuple):
    """The existing files, memory-mapped. A place counts the rows of the items from 0, and then those of the users.

    Attributes:
      items: float (V', F).
      users: float (U', F).
      keys_N: `KEY`, the text of each place, zeros for an empty one; None if the texts are not known.
    """

    items: np.ndarray
    users: np.ndarray
    keys_N: np.ndarray | None

    def rows(self, place_N: np.ndarray) -> np.ndarray:
        """(N, F): the vectors at some places."""
        is_item_N = place_N < len(self.items)
        out = np.empty((len(place_N), self.items.shape[1]), self.items.dtype)
        out[is_item_N] = self.items[place_N[is_item_N]]
        out[~is_item_N] = self.users[place_N[~is_item_N] - len(self.items)]
        return out


def read_old(folder: Path, made: Mapping[str, Any]) -> Old:
    """The files of a folder that the manifest `made` describes."""
    items, users = (np.load(folder / name, mmap_mode="r") for name in manifest.ARRAYS)
    digest = str(made.get("texts"))
    try:
        keys_N = np.ascontiguousarray(np.load(_keys_file(folder, digest))).view(KEY).ravel()
    except (OSError, ValueError, EOFError):
        return Old(items, users, None)
    sound = hashlib.sha256(keys_N.tobytes()).hexdigest() == digest and len(keys_N) == len(items) + len(users)
    return Old(items, users, keys_N if sound else None)


def write_keys(folder: Path, keys_N: np.ndarray) -> str:
    """Stores the digests of all texts, so that no text is paid twice; returns their sha256.

    The sha256 is part of the file's name, so the old file remains valid until the manifest has the new sha256.
    """
    digest = hashlib.sha256(keys_N.tobytes()).hexdigest()
    with files.replacing(_keys_file(folder, digest)) as file:
        np.save(file, keys_N.view(np.uint8).reshape(-1, KEY.itemsize))
    return digest


def forget_keys(folder: Path, digest: str) -> None:
    """Deletes the files of digests except the one with this sha256."""
    for path in (folder / "cache").glob("embed_texts-*"):
        if path != _keys_file(folder, digest):
            path.unlink(missing_ok=True)


def _keys_file(folder: Path, digest: str) -> Path:
    return folder / "cache" / f"embed_texts-{digest[:12]}.npy"


def find(keys_N: np.ndarray | None, wanted_W: np.ndarray) -> np.ndarray:
    """int64 (W,): the index in `keys_N` of each of `wanted_W`, -1 if it is absent."""
    if keys_N is None or not len(keys_N):
        return np.full(len(wanted_W), -1)
    known, first = np.unique(keys_N, return_index=True)
    at_W = places(known, wanted_W)
    return np.where(at_W >= 0, first[at_W], -1)


class New(NamedTuple):
    """The rows of the new files.

    Attributes:
      plan: the texts.
      old: existing files of the same encoder and type; None without.
      in_old_W: place of each different text in `old`, -1 if it is absent.
      in_store_W: its index in the store, -1 if it is absent.
      stored: indices in the store -> vectors.
      width: F.
      dtype: on disk.
      keep: whether the rows of `old` stay as they are, before those of the plan.
    """

    plan: Plan
    old: Old | None
    in_old_W: np.ndarray
    in_store_W: np.ndarray
    stored: Callable[[np.ndarray], np.ndarray]
    width: int
    dtype: np.dtype
    keep: bool

    @classmethod
    def of(cls, plan: Plan, old: Old | None, in_old_W: np.ndarray, store: Store, dtype: np.dtype, keep: bool) -> New:
        """The rows of `plan`, from `old` if it has the text, else from `store`."""
        width = old.items.shape[1] if old is not None else store.width
        return cls(plan, old, in_old_W, find(store.keys, plan.different_W), store.rows(), width, dtype, keep)

    def keys(self) -> np.ndarray:
        """`KEY` (V + U,): the texts of all rows; zeros for an empty or unknown text."""
        items, users = self.plan.keys_N[: self.plan.num_items], self.plan.keys_N[self.plan.num_items :]
        if not self.keep:
            return np.concatenate([items, users])
        count = len(self.old.items)
        known = np.zeros(count + len(self.old.users), KEY) if self.old.keys_N is None else self.old.keys_N
        return np.concatenate([known[:count], items, known[count:], users])

    def blocks(self) -> dict[str, Iterator[np.ndarray]]:
        """File -> its rows, block by block."""
        ends = (0, self.plan.num_items, len(self.plan.which_N))
        kept = (self.old.items, self.old.users) if self.keep else (None, None)
        return {
            name: self._blocks(kept[i], *ends[i : i + 2])  # items, then users
            for i, name in enumerate(manifest.ARRAYS)
        }

    def _blocks(self, kept: np.ndarray | None, start: int, stop: int) -> Iterator[np.ndarray]:
        if kept is not None:
            yield from cast(kept, self.dtype)
        for first in range(start, stop, _BLOCK):
            which = self.plan.which_N[first : min(first + _BLOCK, stop)]
            out = np.zeros((len(which), self.width), self.dtype)  # the row of an empty text stays zero
            texts = np.flatnonzero(which >= 0)
            in_old = self.in_old_W[which[texts]]
            if (here := in_old >= 0).any():
                out[texts[here]] = self.old.rows(in_old[here])
            if not here.all():
                with np.errstate(over="ignore"):  # becomes infinity in float16, which is refused
                    out[texts[~here]] = self.stored(self.in_store_W[which[texts[~here]]])
            yield out


def cast(array_NxF: np.ndarray, dtype: np.dtype, zeros: Collection[int] = ()) -> Iterator[np.ndarray]:
    """Blocks of rows as another type; numbers out of its range become infinity.

    Args:
      zeros: rows that become zeros.
    """
    for start in range(0, len(array_NxF), _BLOCK):
        with np.errstate(over="ignore"):
            block = np.asarray(array_NxF[start : start + _BLOCK]).astype(dtype)
        if zeros:
            block[[row - start for row in zeros if start <= row < start + len(block)]] = 0
        yield block
