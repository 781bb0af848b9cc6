"""A few tail users: the items they bought, the next item, and each method's recommendations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from llmesr_jax.data import groups
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.experiments.report.compare import SEED
from llmesr_jax.experiments.report.rows import Row, Section
from llmesr_jax.experiments.report.trained import Trained
from llmesr_jax.ranking import engine, inference, metrics


class Item(NamedTuple):
    """An item: its title, or "item 12" if it has none; and whether it is a tail item."""

    id: int
    title: str
    tail: bool


class Recommended(NamedTuple):
    """What one row recommends: its best items, and the rank of the test item."""

    row: Row
    items: tuple[Item, ...]
    rank: int  # from 1; the best rank among equal scores
    tied: int  # number of other items with the same score


class Sample(NamedTuple):
    """A tail user and the rows' lists.

    Attributes:
      user: id.
      bought: everything before the test item, in order of time.
      target: the test item.
      lists: one per row.
    """

    user: int
    bought: tuple[Item, ...]
    target: Item
    lists: tuple[Recommended, ...]


def choose(section: Section, rows: Sequence[Row], members: Mapping[str, Any], count: int) -> np.ndarray:
    """int64 (count,): indices of test users: half of them hits of at least one row, the others from all tail users.

    The first half are tail users whose test item is among the best ten of at least one row's first seed under `full`,
    as far as there are any. Both halves are drawn at random, by a fixed seed.
    """
    rng = np.random.default_rng(SEED)
    tail = np.flatnonzero(members["tail_user"])
    hits = np.zeros(len(section.users_E))
    for row in rows:
        seed, (run, _) = next(iter(row.places.items()))
        hits = np.maximum(hits, metrics.from_ranks(*run.ranks["full"][seed])["H@10"])
    found = tail[hits[tail] > 0.5]
    first = rng.permutation(found)[: (count + 1) // 2]
    rest = rng.permutation(np.setdiff1d(tail, first))[: count - len(first)]
    return np.concatenate([first, rest]).astype(np.int64)


def best(
    one: Trained, corpus: Corpus, users_n: np.ndarray, stops_n: np.ndarray, seen: str = "hidden", length: int = 5
) -> np.ndarray:
    """int32 (n, length): ids of a row's best items after a user's first `stops_n` interactions, 0 after the last one.

    Items among those interactions are left out, unless `seen` is "shown".

    Args:
      one: the row's first seed.
      corpus: the interactions.
      users_n: ids of users.
      stops_n: number of interactions that the model reads.
      seen: the setting `train.seen_items`.
      length: items per list.
    """
    rows_n = users_n - 1
    hidden = engine.prefix_sets(corpus, rows_n, np.zeros_like(stops_n) if seen == "shown" else stops_n)
    e = one.run.experiment
    past = inference.histories(corpus, rows_n, stops_n, e.epochs.plan.config, e.recommender.supervision)
    users = inference.user_vectors(e.recommender, one.params, one.run.tables, past)
    return np.asarray(engine.top_k(users, one.items_VxE, length, hidden))


def samples(
    section: Section, places: np.ndarray, lists: Sequence[tuple[Row, np.ndarray]], corpus: Corpus
) -> tuple[Sample, ...]:
    """The test users at `places`, with the items that each row recommends to them (`best`)."""
    tail_V, titles = ~groups.head_items(corpus, section.tail), corpus.item_titles

    def item(number: int) -> Item:
        title = titles[number - 1].strip() if titles else ""
        return Item(int(number), title or f"item {number}", bool(tail_V[number - 1]))

    def one(n: int, place: int) -> Sample:
        user = int(section.users_E[place])
        start = corpus.offsets[user - 1]
        stop = start + section.stops_E[place]
        recommended = []
        for row, top_nxK in lists:
            seed, (run, _) = next(iter(row.places.items()))
            higher, tied = run.ranks["full"][seed][:, place]
            items = tuple(item(number) for number in top_nxK[n] if number)
            recommended.append(Recommended(row, items, int(higher) + 1, int(tied)))
        return Sample(user, tuple(map(item, corpus.items[start:stop])), item(corpus.items[stop]), tuple(recommended))

    return tuple(one(n, place) for n, place in enumerate(places))
