"""A few tail users: what they bought, what came next, and what each method recommends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from llmesr_jax import inference, metrics, ranking
from llmesr_jax.data import groups
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.report.compare import SEED
from llmesr_jax.report.rows import Row, Section
from llmesr_jax.report.trained import Trained


class Item(NamedTuple):
    """An item: its title, or "item 12" where it has none; whether it is a tail item."""

    id: int
    title: str
    tail: bool


class Recommended(NamedTuple):
    """What one row recommends: its best items that the user has not bought, and the place of what came next."""

    row: Row
    items: tuple[Item, ...]
    rank: int  # from 1; the best one of ties
    tied: int


class Sample(NamedTuple):
    """Attributes:
    user: id.
    bought: everything before the test item, in order of time.
    target: the test item.
    lists: one a row.
    """

    user: int
    bought: tuple[Item, ...]
    target: Item
    lists: tuple[Recommended, ...]


def choose(section: Section, rows: Sequence[Row], members: Mapping[str, Any], count: int) -> np.ndarray:
    """Places among the test users: first half found by somebody, then half drawn from all tail users.

    The first half are tail users whose test item is among the best ten of at least one row's first seed under `full`,
    as far as there are any. Both halves are drawn at random, the same ones each time.
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


def sample(
    section: Section,
    trained: Sequence[Trained],
    corpus: Corpus,
    members: Mapping[str, Any],
    count: int,
    length: int = 5,
) -> list[Sample]:
    """`count` tail users with the best `length` items of each row."""
    places = choose(section, [one.row for one in trained], members, count)
    rows_n = section.users_E[places] - 1
    stops_n = corpus.lengths_U[rows_n] - 1
    targets_n = corpus.test_U[rows_n]
    hidden = ranking.prefix_sets(corpus, rows_n, stops_n, without_E=targets_n)
    lists = []
    for one in trained:
        e = one.run.experiment
        past = inference.histories(corpus, rows_n, stops_n, e.epochs.plan.config, e.recommender.supervision)
        users = inference.user_vectors(e.recommender, one.params, one.run.tables, past)
        lists.append(np.asarray(ranking.top_k(users, one.items_VxE, length, hidden)))
    tail_V, titles = ~groups.head_items(corpus), corpus.item_titles

    def item(number: int) -> Item:
        title = titles[number - 1].strip() if titles else ""
        return Item(int(number), title or f"item {number}", bool(tail_V[number - 1]))

    found = []
    for n, (place, row_of_user) in enumerate(zip(places, rows_n)):
        start = corpus.offsets[row_of_user]
        bought = tuple(map(item, corpus.items[start : start + stops_n[n]]))
        recommended = []
        for one, top in zip(trained, lists):
            run = one.row.places[one.seed][0]
            higher, tied = run.ranks["full"][one.seed][:, place]
            best = tuple(item(number) for number in top[n] if number)
            recommended.append(Recommended(one.row, best, int(higher) + 1, int(tied)))
        found.append(Sample(int(row_of_user) + 1, bought, item(targets_n[n]), tuple(recommended)))
    return found
