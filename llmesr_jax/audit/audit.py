"""Audits a data set: its counts, times, order, repeats, texts and vectors, and warnings of what may be misleading.

    found = audit.of_folder("beauty5", "data/beauty5")
    print(audit.describe(found))
    json.dumps(found.as_json())

Nothing is written, and only the data set's own files are needed. docs/data.md ("Audit") documents the keys.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmesr_jax.audit import content, findings, order, wording
from llmesr_jax.audit.findings import Audit
from llmesr_jax.data import groups, reading
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.data.splits import UNKNOWN

_DAY = 86_400
_LAGS = (1, 2, 5)
_BOUNDS = (0, 1, 2, 3, 4, 5, 10, 20, 50, 100, 200, 500, 1_000, 10_000, 100_000)  # where bars of the histograms start


def describe(audit: Audit) -> str:
    """The audit as text, with its warnings."""
    return wording.describe(audit)


def of_folder(name: str, folder: str | Path | None) -> Audit:
    """The audit of `--dataset` and `--data_dir`.

    Raises:
      InputError: see `reading.load`; a file of vectors that cannot be read.
    """
    return of_corpus(reading.load(name, folder))


def of_corpus(corpus: Corpus) -> Audit:
    """The audit of a corpus, with the vectors in its folder.

    Raises:
      InputError: a file of vectors cannot be read, or does not have a row for each item or user.
    """
    times_n = corpus.times
    texts = content.texts_of(corpus)
    raw_ids, source = content.item_ids(corpus, texts)
    user_n = np.repeat(np.arange(corpus.num_users, dtype=np.int32), corpus.lengths_U)
    targets = {name: corpus.offsets[rows_E] + stops_E for name, (rows_E, stops_E) in corpus.targets.items()}
    facts = {
        "counts": _counts(corpus),
        "times": None if times_n is None else times_of(times_n, user_n),
        "repeats": repeats_of(corpus.items, user_n, times_n, targets),
        "ties": None if times_n is None else ties_of(times_n, user_n, targets),
        "order": order_of(corpus.items, user_n, times_n, raw_ids) | {"ids": source},
        "targets": _targets(corpus),
        "groups": _groups(corpus),
        "concentration": _concentration(corpus),
        "texts": None if texts is None else texts.facts(),
        "vectors": content.vectors(corpus, texts),
        "user_length": histogram(corpus.lengths_U),
        "item_popularity": histogram(np.bincount(corpus.items - 1, minlength=corpus.num_items)),
    }
    folder = None if corpus.folder is None else str(corpus.folder)
    return Audit(corpus.name, folder, facts, findings.of_facts(facts))


def _counts(corpus: Corpus) -> dict[str, Any]:
    n = len(corpus.items)
    return {
        "users": corpus.num_users,
        "items": corpus.num_items,
        "interactions": n,
        "sparsity": 1 - n / (corpus.num_users * corpus.num_items),
        "mean_length": n / corpus.num_users,
        "test_users": len(np.unique(corpus.targets["test"].rows_E)),
    }


def times_of(times_n: np.ndarray, user_n: np.ndarray) -> dict[str, Any]:
    """First and last day of the times, their precision, and how many are out of order.

    Args:
      times_n: int64 seconds since 1970, `UNKNOWN` if unknown.
      user_n: int, the user row of each interaction, ascending.
    """
    known_n = times_n != UNKNOWN
    known = times_n[known_n]
    if not len(known):
        return {"known": 0.0, "first": None, "last": None, "whole_days": None, "out_of_order": 0}
    both = (user_n[1:] == user_n[:-1]) & known_n[1:] & known_n[:-1]
    return {
        "known": float(known_n.mean()),
        "first": _date(int(known.min())),
        "last": _date(int(known.max())),
        "whole_days": bool((known % _DAY == known[0] % _DAY).all()),
        "out_of_order": int(((times_n[1:] < times_n[:-1]) & both).sum()),
    }


def _date(seconds: int) -> str:
    return str((datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)).date())


def repeats_of(
    items_n: np.ndarray, user_n: np.ndarray, times_n: np.ndarray | None, targets: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Exact duplicates, and targets that are in their own input.

    Args:
      items_n: int item ids, from 1.
      user_n, times_n: as of `times_of`; times may be None.
      targets: {"valid": ..., "test": ...}, int (E,) indices of the targets among the n interactions.
    """
    again_n = _again(user_n, items_n)
    doubled_n = None if times_n is None else duplicates(items_n, user_n, times_n)
    facts: dict[str, Any] = {}
    for name, at_E in targets.items():
        facts[name] = int(again_n[at_E].sum())
        facts[f"{name}_share"] = facts[name] / max(len(at_E), 1)
    same = (user_n[1:] == user_n[:-1]) & (items_n[1:] == items_n[:-1])
    return facts | {
        "immediate": int(same.sum()),
        "exact_duplicates": None if doubled_n is None else int(doubled_n.sum()),
        "duplicate_targets": None if doubled_n is None else sum(int(doubled_n[at].sum()) for at in targets.values()),
    }


def _again(group_n: np.ndarray, items_n: np.ndarray) -> np.ndarray:
    """bool (n,): entries with the group and item of an earlier entry."""
    key_n = group_n.astype(np.int64) * (int(items_n.max(initial=0)) + 1) + items_n
    by_key = np.argsort(key_n, kind="stable")
    key_n = key_n[by_key]
    found = np.zeros(len(items_n), bool)
    found[by_key[1:][key_n[1:] == key_n[:-1]]] = True
    return found


def duplicates(items_n: np.ndarray, user_n: np.ndarray, times_n: np.ndarray) -> np.ndarray:
    """bool (n,): entries with the user, item and (known) time of an earlier entry."""
    place = np.arange(len(items_n))
    if ((times_n[1:] < times_n[:-1]) & (user_n[1:] == user_n[:-1])).any():  # equal times may not be neighbours
        place = np.lexsort((times_n, user_n))
    run = _runs(times_n[place], user_n[place])
    tied = _in_runs(run) & (times_n[place] != UNKNOWN)
    place, run = place[tied], run[tied]
    found = np.zeros(len(items_n), bool)
    found[place] = _again(run, items_n[place])
    return found


def _runs(times_n: np.ndarray, user_n: np.ndarray) -> np.ndarray:
    """int32 (n,): a number for each run of neighbours with the same user and time."""
    new = np.ones(len(times_n), bool)
    new[1:] = (user_n[1:] != user_n[:-1]) | (times_n[1:] != times_n[:-1])
    return np.cumsum(new, dtype=np.int32)


def _in_runs(run_n: np.ndarray) -> np.ndarray:
    """bool (n,): whether an entry's run has two or more entries."""
    same = run_n[1:] == run_n[:-1]
    return np.append(same, False) | np.insert(same, 0, False)


def ties_of(times_n: np.ndarray, user_n: np.ndarray, targets: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """How often neighbours in a sequence, and a user's validation and test target, have the same time or day.

    If a user has several targets, the last of the validation is compared with the first of the test.

    Args:
      times_n, user_n, targets: as of `times_of` and `repeats_of`.
    """
    both = (user_n[1:] == user_n[:-1]) & (times_n[1:] != UNKNOWN) & (times_n[:-1] != UNKNOWN)
    same = both & (times_n[1:] == times_n[:-1])
    valid_U, test_U = (np.full(int(user_n[-1]) + 1, -1) for _ in range(2))
    valid_U[user_n[targets["valid"]]] = targets["valid"]  # the last assignment counts
    test_U[user_n[targets["test"]][::-1]] = targets["test"][::-1]
    tested = (valid_U >= 0) & (test_U >= 0)
    valid, test = times_n[valid_U[tested]], times_n[test_U[tested]]
    known = (test != UNKNOWN) & (valid != UNKNOWN)
    users = int(known.sum())
    same_time, same_day = int((known & (test == valid)).sum()), int((known & (test // _DAY == valid // _DAY)).sum())
    pairs = int(both.sum())
    return {
        "pairs": pairs,
        "same_time": int(same.sum()),
        "share": float(same.sum() / pairs) if pairs else None,
        "target_users": users,
        "target_same_time": same_time,
        "target_same_time_share": same_time / users if users else None,
        "target_same_day": same_day,
        "target_same_day_share": same_day / users if users else None,
    }


def order_of(
    items_n: np.ndarray, user_n: np.ndarray, times_n: np.ndarray | None, raw_ids: Sequence[str] | None
) -> dict[str, Any]:
    """How often ids ascend along sequences, and whether that is evidence of sequences sorted by id (`audit.order`).

    Args:
      items_n, user_n, times_n: as of `repeats_of`.
      raw_ids: (V,) the ids in the source; None: the item ids themselves are compared.
    """
    num_items = int(items_n.max())
    rank_V, numeric = (np.arange(num_items, dtype=np.int32), True) if raw_ids is None else order.ranks(raw_ids)
    x_n = rank_V[items_n - 1]
    first_n = order.first_meetings(items_n, num_items)
    by_appearance = order.numbered_by_appearance(x_n, first_n)
    kept_n = ~first_n if by_appearance else np.ones(len(items_n), bool)
    x, user = x_n[kept_n], user_n[kept_n]
    share = order.neighbours(x, user)
    unknown = times_n is None or _mostly_unknown(times_n, user_n)
    found = order.evidence(share, *order.by_distance(order.steps(x, user))) if unknown else None
    agreement = order.agreement(items_n, user_n)
    lags = {}
    for lag in _LAGS:
        step = order.steps(x, user, lag)
        lags[str(lag)] = float((step > 0).mean()) if len(step) else None
    return {
        "numeric": numeric,
        "by_appearance": by_appearance,
        "neighbours": share._asdict(),
        "lags": lags,
        "ties": None if times_n is None else _tied(items_n, x_n, user_n, times_n, kept_n)._asdict(),
        "item_pairs": agreement._asdict(),
        "times_decide": not unknown,
        "sorted": found._asdict() if found else None,
        "sorted_pairs": bool(unknown and agreement.sorted),
    }


def _mostly_unknown(times_n: np.ndarray, user_n: np.ndarray) -> bool:
    pairs = user_n[1:] == user_n[:-1]
    known = pairs & (times_n[1:] != UNKNOWN) & (times_n[:-1] != UNKNOWN)
    return 2 * int(known.sum()) < int(pairs.sum())


def _tied(items_n, x_n, user_n, times_n, kept_n) -> order.Share:
    """How often ids ascend between neighbours with the same user and time.

    Items that occur twice among them are left out, all copies, because the first of several copies tends to come early.
    """
    run_n = _runs(times_n, user_n)
    tied = _in_runs(run_n) & (times_n != UNKNOWN)
    run, items = run_n[tied], items_n[tied]
    counted = kept_n[tied] & ~_again(run, items) & ~_again(run[::-1], items[::-1])[::-1]
    return order.within_ties(x_n[tied][counted], run[counted])


def _targets(corpus: Corpus) -> dict[str, Any]:
    test = corpus.target_items("test")
    never = int((corpus.item_counts_V[test - 1] == 0).sum())
    return {
        "split": corpus.split.name,
        "test": len(test),
        "never_trained": never,
        "never_trained_share": never / max(len(test), 1),
        "items_never_trained": int((corpus.item_counts_V == 0).sum()),
    }


def _groups(corpus: Corpus) -> dict[str, Any]:
    head_V, head_U = groups.head_items(corpus), groups.head_users(corpus)
    test = corpus.target_items("test")
    return {
        "head_items": int(head_V.sum()),
        "tail_items": int((~head_V).sum()),
        "head_users": int(head_U.sum()),
        "tail_users": int((~head_U).sum()),
        "head_item_share": float(corpus.item_counts_V[head_V].sum() / corpus.item_counts_V.sum()),
        "tail_targets": int((~head_V[test - 1]).sum()),
    }


def _concentration(corpus: Corpus) -> dict[str, Any]:
    counts_V = np.bincount(corpus.items - 1, minlength=corpus.num_items)
    popular = np.argsort(-corpus.item_counts_V, kind="stable")[:10] + 1
    test = corpus.target_items("test")
    return {
        "top_item_share": float(counts_V.max() / len(corpus.items)),
        "top_user_share": float(corpus.lengths_U.max() / len(corpus.items)),
        "targets_among_10_most_popular": float(np.isin(test, popular).mean()) if len(test) else None,
    }


def histogram(counts_n: np.ndarray) -> list[dict[str, Any]]:
    """How many counts are from `low` to `high`, both included (None: no upper bound); no empty bars at either end."""
    at = np.searchsorted(_BOUNDS, counts_n, side="right") - 1
    number = np.bincount(at, minlength=len(_BOUNDS))
    highs = [low - 1 for low in _BOUNDS[1:]] + [None]
    bars = [{"low": a, "high": b, "count": int(c)} for a, b, c in zip(_BOUNDS, highs, number)]
    filled = np.flatnonzero(number)
    return bars[filled[0] : filled[-1] + 1] if len(filled) else []
