"""The texts of a corpus for an encoder: in a fixed order, one at a time, each named by a digest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.semantic import prompts
from llmesr_jax.semantic.encoders import Clipped
from llmesr_jax.semantic.store import KEY, key_of

_LONG = 100_000  # texts from which counting them shows a progress bar


class Wording(NamedTuple):
    """The settings of the texts; see `prompts.item_prompts` and `prompts.user_prompts`."""

    item_template: str = ""
    crop: bool = False
    user_template: str = ""


class Plan(NamedTuple):
    """The N texts of some items, then of some users; an empty text becomes a row of zeros.

    Attributes:
      num_items: number of items among them; the rest are users.
      keys_N: `KEY`; digest of each text, zeros for an empty one.
      different_W: the different keys, sorted, without that of empty texts.
      which_N: int64; the index of each text in `different_W`, -1 for an empty one.
      first_W: int64; the index of the first text with each different key.
      tokens_W: int64; number of tokens of each different text (an estimate if the encoder cannot count).
      cut: number of texts that had to be cut.
    """

    num_items: int
    keys_N: np.ndarray
    different_W: np.ndarray
    which_N: np.ndarray
    first_W: np.ndarray
    tokens_W: np.ndarray
    cut: int

    @property
    def empty(self) -> int:
        """Number of empty texts."""
        return int((self.which_N < 0).sum())


class TextCounts(NamedTuple):
    """How well texts distinguish items.

    Attributes:
      without_text: items whose text is empty.
      shared_texts: number of different texts that more than one item has.
      items_sharing: number of items that have one of these.
    """

    without_text: int
    shared_texts: int
    items_sharing: int


def stream(corpus: Corpus, wording: Wording, first_item: int = 0, first_user: int = 0) -> Iterator[str]:
    """The texts of the items from row `first_item` on, then of the users from row `first_user` on.

    Raises:
      InputError: see `prompts.item_prompts` and `prompts.user_prompts`.
    """
    items = prompts.item_prompts(corpus, wording.item_template, wording.crop, first_item)
    users = prompts.user_prompts(corpus, wording.user_template, first_user)
    return (_sendable(text) for texts in (items, users) for text in texts)


def item_keys(corpus: Corpus, wording: Wording = Wording()) -> np.ndarray:
    """`KEY` (V,): digest of each item's text, zeros for an empty one; equal digests are equal texts.

    Raises:
      InputError: see `prompts.item_prompts`.
    """
    keys = bytearray()
    for text in prompts.item_prompts(corpus, wording.item_template, wording.crop):
        keys += key_of(_sendable(text)) if text else bytes(KEY.itemsize)
    return np.frombuffer(keys, KEY)


def text_counts(corpus: Corpus, wording: Wording = Wording()) -> TextCounts:
    """Counts items without a text, and items that share their text with another item.

    Raises:
      InputError: see `item_keys`.
    """
    keys_V = item_keys(corpus, wording)
    of_texts = keys_V[keys_V.view(np.uint8).reshape(-1, KEY.itemsize).any(axis=1)]
    _, counts = np.unique(of_texts, return_counts=True)
    shared = counts[counts > 1]
    return TextCounts(len(keys_V) - len(of_texts), len(shared), int(shared.sum()))


def plan(corpus: Corpus, wording: Wording, clip: Callable[[str], Clipped], first_item: int, first_user: int) -> Plan:
    """Counts and identifies the texts, without keeping them.

    Args:
      corpus: whose items and users are described.
      wording: how the texts are made.
      clip: a text -> the part of it that is sent.
      first_item, first_user: as of `stream`.

    Raises:
      InputError: see `stream`.
    """
    num_items = corpus.num_items - first_item
    count = num_items + corpus.num_users - first_user
    texts = stream(corpus, wording, first_item, first_user)
    keys, tokens_N, cut = bytearray(), np.zeros(count, np.int64), 0
    for n, text in enumerate(tqdm(texts, "texts", count, disable=None if count >= _LONG else True)):
        clipped = clip(text)
        keys += key_of(clipped.text) if clipped.text else bytes(KEY.itemsize)
        tokens_N[n] = clipped.tokens
        cut += clipped.cut
    keys_N = np.frombuffer(keys, KEY)
    different_W, first_W, which_N = np.unique(keys_N, return_index=True, return_inverse=True)
    if len(different_W) and different_W[0].tobytes() == bytes(KEY.itemsize):  # zeros sort first
        different_W, first_W, which_N = different_W[1:], first_W[1:], which_N - 1
    return Plan(num_items, keys_N, different_W, which_N, first_W, tokens_N[first_W], cut)


def check_told(corpus: Corpus, plan: Plan, wording: Wording) -> None:
    """Raises `InputError` if no item, or no user, has a text: then all rows of items, or of users, would be zeros."""
    if not (plan.which_N[: plan.num_items] >= 0).any():
        if wording.item_template:
            raise InputError(
                f"--item_template={wording.item_template!r}: gives no text for any of the {plan.num_items} items; "
                "expected fields that are not empty"
            )
        raise InputError(
            f"{corpus.folder}: no item has a text; expected titles or other fields in items.jsonl; prepare the data "
            "again with the metadata (for a table: --items_file and --title_column), or use other fields with "
            "--item_template"
        )
    if not (plan.which_N[plan.num_items :] >= 0).any():
        raise InputError(
            f"{corpus.folder}: no user has a text, because no item that they train on has a title; expected titles in "
            "items.jsonl; prepare the data again with the column of the titles (for a table: --title_column)"
        )


def places(keys_W: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """int64: the index of each of `wanted` in the sorted `keys_W`, -1 if it is absent."""
    if not len(keys_W):
        return np.full(len(wanted), -1)
    at = np.minimum(np.searchsorted(keys_W, wanted), len(keys_W) - 1)
    return np.where(keys_W[at] == wanted, at, -1)


def _sendable(text: str) -> str:
    """The text without unpaired surrogates, which UTF-8 cannot encode."""
    return text.encode(errors="replace").decode()
