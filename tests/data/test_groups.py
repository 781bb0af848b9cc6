"""Head, tail by three definitions, and buckets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import groups, reading
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
        "0": [],
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


# Training, total: item 1 3, 3; 2 1, 2; 3 1, 1; 4 0, 4; 5 1, 1. User 1 4, 6; user 2 1, 3; user 3 1, 3.
# (With 5 items and 5 users the head is one of each.)
SIDES = [[1, 2, 1, 5, 4, 2], [3, 4, 4], [1, 4, 6], [6, 6], [6]]


def test_three_definitions_of_head_and_tail_by_hand():
    corpus = corpus_of(SIDES)
    total, release = groups.Tail("total"), groups.Tail("release", 5, 3)
    np.testing.assert_array_equal(corpus.item_counts_V, [3, 1, 1, 0, 1, 3])
    # Total counts 3 2 1 4 1 4: the head of one is item 4, which training never saw. By the release, those of 3 and more.
    assert np.flatnonzero(groups.head_items(corpus)).tolist() == [0]
    assert np.flatnonzero(groups.head_items(corpus, total)).tolist() == [3]
    assert np.flatnonzero(groups.head_items(corpus, release)).tolist() == [0, 3, 5]
    # Test targets 2, 4, 6 of users 1, 2, 3, with inputs of 5, 2 and 2.
    sides = {
        tail.by: [groups.members(corpus, "test", tail)[group].tolist() for group in ("head_item", "head_user")]
        for tail in (groups.TRAINING, total, release)
    }
    assert sides == {
        "training": [[False, False, False], [True, False, False]],
        "total": [[False, True, False], [True, False, False]],
        "release": [[False, True, True], [True, False, False]],
    }
    longer = groups.members(corpus, "test", groups.Tail("release", 6, 3))
    assert longer["tail_user"].all() and longer["item_popularity"]["0"].tolist() == [False, True, False]


def test_thresholds_of_the_release_are_those_of_its_scripts_or_given():
    found = {name: groups.tail_of("release", name)[1:] for name in ("yelp", "beauty", "fashion")}
    assert found == {"yelp": (12, 13), "beauty": (9, 4), "fashion": (3, 4)}
    assert str(groups.tail_of("release", "mine", 5, 6)) == "release, users below 5, items below 6"
    with pytest.raises(InputError, match="no thresholds for mine .* --tail_user and --tail_item"):
        groups.tail_of("release", "mine")
    with pytest.raises(
        InputError, match="thresholds of --tail=release, not of --tail=total; remove them, or set --tail=release"
    ):
        groups.tail_of("total", "yelp", 3)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        # Share of test targets that change sides between training and total counts.
        ("yelp", (0.0244,)),
        ("beauty", (0.0805,)),
    ],
)
def test_targets_that_change_sides(shared, name, counts):
    corpus = reading.read_folder(name, shared / "data" / name)
    training, total = (
        groups.members(corpus, "test", tail)["tail_item"] for tail in (groups.TRAINING, groups.Tail("total"))
    )
    assert (training != total).mean() == pytest.approx(counts[0], abs=5e-4)
