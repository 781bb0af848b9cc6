"""Finds useless vectors: zeros for a text that is not empty, and one vector for many different texts.

A broken server gives such vectors without an error, and a model trains on them without an error, so they are refused
here. Texts that differ only in case, accents or punctuation count as equal, because many models ignore these; so do
texts with the same long beginning, because models cut long texts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable

import numpy as np

MOST_SHARING = 2  # different texts that may have one vector
_BEGINNING = 500  # characters, some 120 tokens: less than any model reads
_BLOCK = 4096


def plain(text: str) -> str:
    """The beginning of a text without case, accents and punctuation: small letters, digits, and single blanks."""
    text = text[:_BEGINNING]
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return " ".join(re.findall(r"\w+", text.casefold())) or text


def zero_rows(vectors_NxF: np.ndarray) -> np.ndarray:
    """bool (N,): rows of zeros."""
    zero = [~np.asarray(vectors_NxF[i : i + _BLOCK]).any(axis=1) for i in range(0, len(vectors_NxF), _BLOCK)]
    return np.concatenate([np.zeros(0, bool), *zero])


def hashes(blocks: Iterable[np.ndarray]) -> np.ndarray:
    """int64 (N,): a hash of each row of the blocks, equal for equal rows. Hashes differ between processes."""
    found = [np.fromiter((hash(row.tobytes()) for row in np.asarray(b)), np.int64, len(b)) for b in blocks]
    return np.concatenate([np.zeros(0, np.int64), *found])


def sharing(hash_N: np.ndarray) -> list[np.ndarray]:
    """For each vector that more than `MOST_SHARING` rows have: these rows, int64."""
    different, count = np.unique(hash_N, return_counts=True)
    rows_n = np.flatnonzero(np.isin(hash_N, different[count > MOST_SHARING]))
    order = np.argsort(hash_N[rows_n], kind="stable")
    ends = np.flatnonzero(np.diff(hash_N[rows_n[order]])) + 1
    return np.split(rows_n[order], ends) if len(rows_n) else []


def too_many(groups: Iterable[list[int]], text_of: Callable[[int], str]) -> list[list[int]]:
    """The groups of `sharing` that have more than `MOST_SHARING` different texts."""
    return [rows for rows in groups if len(set(map(text_of, rows))) > MOST_SHARING]


def wrong_rows(vectors_NxF: np.ndarray, texts: Callable[[], Iterable[tuple[bool, str]]]) -> dict[int, str]:
    """Row -> what is wrong with it: zeros though it has a text, or a vector that many different texts have.

    Args:
      vectors_NxF: float vectors.
      texts: () -> for each row, whether it has a text, and a text that distinguishes it from other rows. It is called
        only if a row may be wrong.
    """
    zero_N = zero_rows(vectors_NxF)
    blocks = (vectors_NxF[i : i + _BLOCK] for i in range(0, len(vectors_NxF), _BLOCK))
    groups = [group.tolist() for group in sharing(hashes(blocks)) if not zero_N[group[0]]]
    if not zero_N.any() and not groups:
        return {}
    asked = set(np.flatnonzero(zero_N).tolist()).union(*groups)
    known = {row: text for row, text in enumerate(texts()) if row in asked}
    wrong = {row: "a row of zeros" for row in np.flatnonzero(zero_N).tolist() if known[row][0]}
    for group in too_many(groups, lambda row: known[row][1]):
        wrong |= dict.fromkeys(group, f"the same vector as {len(group) - 1:,} others with other texts")
    return dict(sorted(wrong.items()))
