"""Head, tail and buckets, from training counts only."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmesr_jax.data import groups
from llmesr_jax.data.corpus import from_pairs


def corpus_of(histories):
    users = np.repeat(np.arange(1, len(histories) + 1), [len(h) for h in histories])
    return from_pairs("toy", users, np.concatenate(histories))


# Training: 1 1 2 | 3 3 | 5 | 4 2 ; counts of items 1..5: 2 2 2 1 1. Users' training lengths: 3 2 1 2.
TOY = [[1, 1, 2, 4, 5], [3, 3, 5, 5], [5, 4, 1], [4, 2]]


def test_head_is_a_fifth_rounded_down_with_ties_by_id():
    corpus = corpus_of(TOY)
    np.testing.assert_array_equal(corpus.item_counts_V, [2, 2, 2, 1, 1])
    np.testing.assert_array_equal(groups.head_items(corpus), [True, False, False, False, False])
    assert not groups.head_users(corpus).any()  # floor(0.2 * 4) = 0
    np.testing.assert_array_equal(groups.head_users(corpus_of([*TOY, [1, 2, 3, 4, 5, 1]])), [0, 0, 0, 0, 1])


def test_held_out_items_do_not_count():
    # Item 5 is everybody's target and nobody's training item, although it is the most frequent.
    corpus = corpus_of([[1, 2, 5, 5], [1, 3, 5, 5], [1, 4, 5, 5]])
    np.testing.assert_array_equal(groups.head_items(corpus), [True, False, False, False, False])


def test_members_by_hand():
    members = groups.members(corpus_of(TOY), "test")  # targets 5 5 1 of users 1 2 3; user 4 is not evaluated
    np.testing.assert_array_equal(members["overall"], [1, 1, 1])
    np.testing.assert_array_equal(members["head_item"], [0, 0, 1])
    np.testing.assert_array_equal(members["tail_item"], [1, 1, 0])
    np.testing.assert_array_equal(groups.members(corpus_of(TOY), "valid")["tail_item"], [1, 1, 1])  # targets 4 5 4


def test_bounds_of_the_groups_are_inclusive_and_in_order():
    lengths = [1, 4, 5, 9, 10, 14, 15, 19, 20, 40]
    corpus = corpus_of([[1] * n + [1, 1] for n in lengths])
    members = groups.members(corpus, "test")["user_length"]
    assert {label: [n for n, m in zip(lengths, mask) if m] for label, mask in members.items()} == {
        "1-4": [1, 4],
        "5-9": [5, 9],
        "10-14": [10, 14],
        "15-19": [15, 19],
        "20+": [20, 40],
    }
    counts = [0, 1, 4, 5, 9, 10, 19, 20, 29, 30, 49, 50, 59, 60, 99, 100, 300]
    histories = [[i] * count for i, count in enumerate(counts, 1) if count]
    # The last two items of a history do not count in training; one user per item has it as target.
    histories = [h + [1, 1] for h in histories] + [[len(counts) + 1, 1, i] for i in range(1, len(counts) + 1)]
    popularity = groups.members(corpus_of(histories), "test")["item_popularity"]
    got = {label: [n for n, m in zip(counts, mask[-len(counts) :]) if m] for label, mask in popularity.items()}
    assert list(got.items()) == [
        ("0", [0]),
        ("1-4", [1, 4]),
        ("0-9", [0, 1, 4, 5, 9]),
        ("10-29", [10, 19, 20, 29]),
        ("30-59", [30, 49, 50, 59]),
        ("60-99", [60, 99]),
        ("100+", [100, 300]),
        ("0-4", [0, 1, 4]),
        ("5-9", [5, 9]),
        ("10-19", [10, 19]),
        ("20-49", [20, 29, 30, 49]),
        ("50+", [50, 59, 60, 99, 100, 300]),
    ]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=30), min_size=1, max_size=20),
    st.sampled_from(["valid", "test"]),
)
def test_every_family_of_groups_divides_the_evaluated_users(histories, split):
    corpus = corpus_of([*histories, [1, 2, 3, 4, 5, 6]])
    members = groups.members(corpus, split)
    popularity = list(members["item_popularity"].values())
    families = [
        [members["tail_item"], members["head_item"]],
        [members["tail_user"], members["head_user"]],
        list(members["user_length"].values()),
        popularity[2:7],
        popularity[7:],
        [*popularity[:2], *popularity[8:]],
    ]
    evaluated = int((corpus.test_U > 0).sum())
    assert members["overall"].shape == (evaluated,) and members["overall"].all()
    for family in families:
        np.testing.assert_array_equal(np.sum(family, axis=0), np.ones(evaluated))
    assert groups.head_items(corpus).sum() == corpus.num_items // 5
    assert groups.head_users(corpus).sum() == corpus.num_users // 5


def test_an_unknown_split_is_a_programming_error():
    with pytest.raises(KeyError):
        groups.members(corpus_of(TOY), "train")
