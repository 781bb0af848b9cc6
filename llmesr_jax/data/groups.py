"""Which users and items are head or tail, and the groups metrics are reported for."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.knobs import knob
from llmesr_jax.data import splits
from llmesr_jax.data.corpus import Corpus

TAILS = ("training", "total", "release")
# From the scripts of LLM-ESR's release: the least counts of a head user and of a head item.
_THRESHOLDS = {"yelp": (12, 13), "beauty": (9, 4), "fashion": (3, 4)}

_USER_LENGTH = {"0": (0, 0), "1-4": (1, 4), "5-9": (5, 9), "10-14": (10, 14), "15-19": (15, 19), "20+": (20, None)}
# The bounds of LLM-ESR, then those of FAERec. Items with 0, which were never trained on, are also a group of their own,
# and 1-4 is FAERec's first group without them.
_ITEM_POPULARITY = {
    "0": (0, 0),
    "1-4": (1, 4),
    "0-9": (0, 9),
    "10-29": (10, 29),
    "30-59": (30, 59),
    "60-99": (60, 99),
    "100+": (100, None),
    "0-4": (0, 4),
    "5-9": (5, 9),
    "10-19": (10, 19),
    "20-49": (20, 49),
    "50+": (50, None),
}


class Tail(NamedTuple):
    """A definition of head and tail.

    Attributes:
      by: "training": head is the first floor(0.2 n) of all items (users) by training count (length), descending, then
        by id, so no later data are used. "total": the same by the whole history, as both papers count.
        "release": LLM-ESR's code: an item is tail with fewer than `item` interactions in the whole history, a user whose
        input has fewer than `user` items.
      user, item: thresholds of "release".
    """

    by: str = "training"
    user: int = 0
    item: int = 0

    def __str__(self) -> str:
        return f"release, users below {self.user}, items below {self.item}" if self.by == "release" else self.by


TRAINING = Tail()


@dataclasses.dataclass(frozen=True)
class TailConfig:
    """Head and tail in commands that read finished runs."""

    tail: str = knob(
        "training",
        "head and tail by training counts, by all interactions (as the papers do), or by the thresholds of LLM-ESR's "
        "code",
        choices=TAILS,
    )
    tail_user: int = knob(
        0, "--tail=release: users with a shorter input are tail; 0: as LLM-ESR's code has it for the data set", least=0
    )
    tail_item: int = knob(
        0, "--tail=release: items with fewer interactions are tail; 0: as LLM-ESR's code has it", least=0
    )


def tail_of(by: str, dataset: str, user: int = 0, item: int = 0) -> Tail:
    """The `Tail` that the flags name.

    Args:
      by: one of `TAILS`.
      dataset: whose thresholds in LLM-ESR's code are the default, where there are some.
      user, item: thresholds of "release"; 0 for the default.

    Raises:
      InputError: "release" without thresholds, on a data set for which LLM-ESR's code has none; or only one of both.
    """
    if by != "release":
        if user or item:
            raise InputError(
                f"--tail_user and --tail_item are thresholds of --tail=release, not of --tail={by}; remove them, or "
                "set --tail=release"
            )
        return Tail(by)
    known = _THRESHOLDS.get(dataset, (0, 0))
    tail = Tail(by, user or known[0], item or known[1])
    if not (tail.user and tail.item):
        raise InputError(
            f"--tail=release: LLM-ESR's code has no thresholds for {dataset} (it has for {', '.join(_THRESHOLDS)}); "
            "set --tail_user and --tail_item"
        )
    return tail


def head_items(corpus: Corpus, tail: Tail = TRAINING) -> np.ndarray:
    """bool (V,): the items that are not tail items."""
    if tail.by == "training":
        return _head(corpus.item_counts_V)
    total_V = np.bincount(corpus.items - 1, minlength=corpus.num_items)
    return _head(total_V) if tail.by == "total" else total_V >= tail.item


def head_users(corpus: Corpus) -> np.ndarray:
    """bool (U,): the first floor(0.2 U) users by training length, descending, then by id."""
    return _head(corpus.train_lengths_U)


def _head_targets(corpus: Corpus, rows_E: np.ndarray, stops_E: np.ndarray, tail: Tail) -> np.ndarray:
    """bool (E,): the targets whose users are not tail users."""
    if tail.by == "training":
        return head_users(corpus)[rows_E]
    if tail.by == "total":
        return _head(corpus.lengths_U)[rows_E]
    # In validation, a user is in the same group as in the test: by the length of the test's input.
    one_out = corpus.split.name.startswith(splits.LEAVE_ONE_OUT)
    return (corpus.lengths_U[rows_E] - 1 if one_out else stops_E) >= tail.user


def popularity(corpus: Corpus) -> np.ndarray:
    """int32 (V,): training interactions of each item, but at least 1, as in FAERec's release."""
    return np.maximum(corpus.item_counts_V, 1).astype(np.int32)


def members(
    corpus: Corpus, split: Literal["valid", "test"], tail: Tail = TRAINING
) -> dict[str, np.ndarray | dict[str, np.ndarray]]:
    """The members of each group, among the E targets of the split, in their order.

    Item groups go by the target, user groups by the user; both by training counts, except head and tail if `tail`
    says otherwise.

    Returns:
      bool (E,) masks: `overall`, `tail_item`, `head_item`, `tail_user`, `head_user`, and, each a dict of masks by
      label in the order to report, `user_length` and `item_popularity`.
    """
    (users_E, stops_E), rows_E = corpus.targets[split], corpus.target_items(split) - 1
    head_item_E = head_items(corpus, tail)[rows_E]
    head_user_E = _head_targets(corpus, users_E, stops_E, tail)
    return {
        "overall": np.ones(len(users_E), bool),
        "tail_item": ~head_item_E,
        "head_item": head_item_E,
        "tail_user": ~head_user_E,
        "head_user": head_user_E,
        "user_length": _buckets(corpus.train_lengths_U[users_E], _USER_LENGTH),
        "item_popularity": _buckets(corpus.item_counts_V[rows_E], _ITEM_POPULARITY),
    }


def sizes(corpus: Corpus) -> dict[str, tuple[dict[str, int], int]]:
    """{division: ({label: number of users or items in it}, number of all)}, by training counts."""
    counts = {"user_length": corpus.train_lengths_U, "item_popularity": corpus.item_counts_V}
    bounds = {"user_length": _USER_LENGTH, "item_popularity": _ITEM_POPULARITY}
    return {
        division: ({label: int(mask.sum()) for label, mask in _buckets(of, bounds[division]).items()}, len(of))
        for division, of in counts.items()
    }


def _head(counts: np.ndarray) -> np.ndarray:
    head = np.zeros(len(counts), bool)
    head[np.argsort(-counts, kind="stable")[: len(counts) // 5]] = True
    return head


def _buckets(counts: np.ndarray, bounds: dict[str, tuple[int, int | None]]) -> dict[str, np.ndarray]:
    return {
        label: (counts >= low) & (counts <= (np.inf if high is None else high)) for label, (low, high) in bounds.items()
    }
