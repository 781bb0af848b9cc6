"""The three splits by hand on ten users, shuffled ties, and what is refused."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import corpus as corpus_lib
from llmesr_jax.data import groups, reading, splits
from llmesr_jax.data.splits import UNKNOWN, SplitConfig

# Ten users: (item, time) in time order. Validation begins at 100, the test at 200.
USERS = [
    [(1, 10), (2, 20), (3, 120), (4, 220)],  # 1: one of each
    [(1, 10), (2, 99), (3, 100), (5, 200)],  # 2: the instants themselves belong to what they begin
    [(2, 10), (3, 20), (4, 30)],  # 3: training only
    [(4, 110), (5, 120), (1, 130)],  # 4: validation only; its first has nothing before it
    [(5, 210), (1, 220)],  # 5: test only; its first has nothing before it
    [(1, 10), (6, 210), (2, 220), (3, 230)],  # 6: no validation, three tests
    [(2, 10), (3, 110), (1, 120), (4, 130)],  # 7: three validations, no test
    [(3, 10), (1, 150), (2, 250), (6, 260)],  # 8
    [(7, 250)],  # 9: one interaction
    [(1, UNKNOWN), (2, 50), (3, 150), (1, 250)],  # 10: the oldest at an unknown time; it returns to 1
]


def arrays():
    users = np.repeat(np.arange(1, 11), [len(history) for history in USERS])
    items, times = np.array([pair for history in USERS for pair in history], np.int64).T
    return users, items, times


def made(parts=None, **settings):
    users, items, times = arrays()
    return corpus_lib.from_pairs("ten", users, items, times=times, parts=parts, split=SplitConfig(**settings))


def targets(corpus, split):
    """{(user, the items of the input): target}."""
    rows, stops = corpus.targets[split]
    start = corpus.offsets[rows]
    inputs = [
        (row + 1, tuple(corpus.items[s : s + stop].tolist())) for row, s, stop in zip(rows.tolist(), start, stops)
    ]
    return dict(zip(inputs, corpus.target_items(split).tolist(), strict=True))


BOUNDS = {"split": "time", "valid_from": "1970-01-01T00:01:40", "test_from": "1970-01-01 00:03:20"}


def test_leave_one_out_by_hand():
    corpus = made()
    assert corpus.train_lengths_U.tolist() == [2, 2, 1, 1, 2, 2, 2, 2, 1, 2]
    assert targets(corpus, "valid") == {
        (1, (1, 2)): 3, (2, (1, 2)): 3, (3, (2,)): 3, (4, (4,)): 5, (6, (1, 6)): 2, (7, (2, 3)): 1, (8, (3, 1)): 2,
        (10, (1, 2)): 3,
    }  # fmt: skip
    assert targets(corpus, "test") == {
        (1, (1, 2, 3)): 4, (2, (1, 2, 3)): 5, (3, (2, 3)): 4, (4, (4, 5)): 1, (6, (1, 6, 2)): 3, (7, (2, 3, 1)): 4,
        (8, (3, 1, 2)): 6, (10, (1, 2, 3)): 1,
    }  # fmt: skip
    assert corpus.repeated("test").tolist() == [False] * 7 + [True]
    assert (corpus.split.name, corpus.split.without_input) == ("leave_one_out", {"valid": 0, "test": 0})


def test_time_by_hand_first_targets():
    corpus = made(**BOUNDS)
    assert corpus.train_lengths_U.tolist() == [2, 2, 3, 0, 0, 1, 1, 1, 0, 2]
    assert targets(corpus, "valid") == {(1, (1, 2)): 3, (2, (1, 2)): 3, (7, (2,)): 3, (8, (3,)): 1, (10, (1, 2)): 3}
    assert targets(corpus, "test") == {
        (1, (1, 2, 3)): 4, (2, (1, 2, 3)): 5, (6, (1,)): 6, (8, (3, 1)): 2, (10, (1, 2, 3)): 1
    }  # fmt: skip
    # User 4 has no history before the validation, users 5 and 9 none before the test.
    assert corpus.split.without_input == {"valid": 1, "test": 2}
    # Training counts: item 1 of users 1 2 6 10, item 2 of 1 2 3 7 10, item 3 of 3 8, item 4 of 3.
    assert corpus.item_counts_V.tolist() == [4, 5, 2, 1, 0, 0, 0]
    assert corpus.split.name == (
        "time, validation from 1970-01-01 00:01:40, test from 1970-01-01 00:03:20, first targets"
    )
    assert corpus.valid_U.tolist() == [3, 3, 0, 0, 0, 0, 3, 1, 0, 3]
    assert corpus.test_U.tolist() == [4, 5, 0, 0, 0, 6, 0, 2, 0, 1]


def test_time_by_hand_all_targets():
    corpus = made(**BOUNDS, targets="all")
    assert targets(corpus, "valid") == {
        (1, (1, 2)): 3, (2, (1, 2)): 3, (4, (4,)): 5, (4, (4, 5)): 1, (7, (2,)): 3, (7, (2, 3)): 1, (7, (2, 3, 1)): 4,
        (8, (3,)): 1, (10, (1, 2)): 3,
    }  # fmt: skip
    assert targets(corpus, "test") == {
        (1, (1, 2, 3)): 4, (2, (1, 2, 3)): 5, (5, (5,)): 1, (6, (1,)): 6, (6, (1, 6)): 2, (6, (1, 6, 2)): 3,
        (8, (3, 1)): 2, (8, (3, 1, 2)): 6, (10, (1, 2, 3)): 1,
    }  # fmt: skip
    assert corpus.split.without_input == {"valid": 1, "test": 2}
    # Groups have a row for each target, user 6's three times: one training interaction each.
    members = groups.members(corpus, "test")
    assert len(members["overall"]) == 9
    assert members["user_length"]["1-4"].tolist() == [True, True, False, True, True, True, True, True, True]


def test_files_by_hand():
    parts = np.array([0, 0, 1, 2] + [0, 0, 1, 2] + [0, 0, 0] + [1, 1, 1] + [2, 2] + [0, 2, 2, 2] + [0, 1, 1, 1]
                     + [0, 1, 2, 2] + [2] + [0, 0, 1, 2], np.uint8)  # fmt: skip
    by_time = made(**BOUNDS, targets="all")
    for settings in ({}, {"split": "files"}):  # what the folder has is used by itself
        corpus = made(parts, **settings)
        assert corpus.split.name == "files, all targets"
        assert corpus.train_lengths_U.tolist() == by_time.train_lengths_U.tolist()
        assert [targets(corpus, part) for part in ("valid", "test")] == [
            targets(by_time, part) for part in ("valid", "test")
        ]
    first = made(parts, targets="first")
    assert targets(first, "test") == targets(made(**BOUNDS), "test")
    assert made(parts, split="leave_one_out").digest == made().digest


def test_a_share_of_the_interactions_is_an_instant():
    users, items = np.repeat([1, 2], 5), np.tile([1, 2, 3, 4, 5], 2)
    times = np.array([0, 10, 20, 30, 40, 5, 15, 25, 35, 45])
    config = SplitConfig(split="time", valid_from="50%", test_from="80%", targets="all")
    corpus = corpus_lib.from_pairs("x", users, items, times=times, split=config)
    # Sorted times 0 5 10 ... 45: half of the ten lie before 25, eight before 40.
    assert corpus.train_lengths_U.tolist() == [3, 2]
    assert targets(corpus, "valid") == {(1, (1, 2, 3)): 4, (2, (1, 2)): 3, (2, (1, 2, 3)): 4}
    assert targets(corpus, "test") == {(1, (1, 2, 3, 4)): 5, (2, (1, 2, 3, 4)): 5}


@given(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=8), min_size=1, max_size=8), st.booleans())
def test_every_interaction_is_in_its_part_and_every_target_has_a_past(times, every):
    times = [sorted(history) for history in times]
    times_n = np.concatenate(times)
    offsets = np.concatenate([[0], np.cumsum([len(history) for history in times])])
    config = SplitConfig(split="time", valid_from="1970-01-01 00:00:10", test_from="1970-01-01 00:00:20")
    config = SplitConfig(**vars(config) | {"targets": "all" if every else "first"})
    try:
        split = splits.make(config, offsets, times_n, None, "x")
    except InputError:
        has = lambda low, high: any(low <= t < high for h in times for t in h[1:])  # noqa: E731
        assert not has(10, 20) or not has(20, 31) or not any(t < 10 for t in times_n) or not every
        return
    assert split.train_U.tolist() == [sum(t < 10 for t in history) for history in times]
    for part, low, high in (("valid", 10, 20), ("test", 20, 31)):
        wanted, lost = [], 0
        for user, history in enumerate(times):
            places = [i for i, t in enumerate(history) if low <= t < high][: None if every else 1]
            wanted += [(user, i) for i in places if i > 0]
            lost += sum(i == 0 for i in places)
        assert list(zip(*(array.tolist() for array in split.targets[part]))) == wanted
        assert split.without_input[part] == lost


# User 1 has three items at one time, and two more at another; user 2 has two of unknown time.
TIED = (np.repeat([1, 2], [6, 3]), [1, 2, 3, 4, 5, 6, 2, 3, 1], [5, 7, 7, 7, 9, 9, UNKNOWN, UNKNOWN, 7])


def tied(seed):
    users, items, times = map(np.asarray, TIED)
    return corpus_lib.from_pairs("t", users, items, times=times, split=SplitConfig(ties="shuffled", ties_seed=seed))


def test_ties_are_shuffled_and_nothing_else_moves():
    found = [tied(seed) for seed in range(60)]
    assert {tuple(c.items[[0, 6, 7, 8]].tolist()) for c in found} == {(1, 2, 3, 1)}
    assert all((c.times == TIED[2]).all() for c in found)
    assert {tuple(c.items[1:4].tolist()) for c in found} == {
        (2, 3, 4), (2, 4, 3), (3, 2, 4), (3, 4, 2), (4, 2, 3), (4, 3, 2)
    }  # fmt: skip
    assert {tuple(c.items[4:6].tolist()) for c in found} == {(5, 6), (6, 5)}
    assert tied(3).digest == tied(3).digest and len({c.digest for c in found}) == 12
    assert tied(3).split.name == "leave_one_out, ties shuffled by seed 3"


def test_ties_are_not_shuffled_across_parts():
    users, items, times = np.ones(6, int), np.arange(1, 7), np.full(6, 7)
    parts = np.array([0, 0, 1, 1, 2, 2], np.uint8)
    for seed in range(20):
        config = SplitConfig(ties="shuffled", ties_seed=seed)
        corpus = corpus_lib.from_pairs("t", users, items, times=times, parts=parts, split=config)
        assert [set(pair) for pair in corpus.items.reshape(3, 2).tolist()] == [{1, 2}, {3, 4}, {5, 6}]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"split": "files"}, "no own split"),
        (
            {**BOUNDS, "valid_from": "1971"},
            "data.valid_from=1971: is not a date; expected a date or time in UTC such as 2014-01-01",
        ),
        ({**BOUNDS, "test_from": "100%"}, "expected more than 0% and less than 100%"),
        ({**BOUNDS, "test_from": BOUNDS["valid_from"]}, "the validation to begin before the test"),
        ({**BOUNDS, "test_from": "1980-01-01"}, "no test target"),
    ],
)
def test_what_makes_no_split(settings, told):
    with pytest.raises(InputError, match=told):
        made(**settings)


def test_no_target_with_a_past():
    config = SplitConfig(**BOUNDS)
    with pytest.raises(InputError, match=r"has no validation target \(2 have no earlier interaction\)"):
        users, items, times = np.array([1, 1, 2, 2]), np.array([1, 2, 2, 1]), np.array([150, 250, 150, 250])
        corpus_lib.from_pairs("x", users, items, times=times, split=config)


def test_nothing_to_train_on():
    parts = np.array([1, 1, 2, 2], np.uint8)
    with pytest.raises(InputError, match="split files, all targets: has no training interaction;"):
        corpus_lib.from_pairs("x", np.array([1, 1, 1, 1]), np.array([1, 2, 3, 4]), parts=parts)


def test_without_times():
    users, items, _ = arrays()
    for settings, told in (({"split": "time"}, "data.split=time"), ({"ties": "shuffled"}, "data.ties=shuffled")):
        with pytest.raises(InputError, match=f"{told}, but the data have no times"):
            corpus_lib.from_pairs("ten", users, items, split=SplitConfig(**settings))


def written(folder, **files):
    users, items, times = arrays()
    folder.mkdir()
    np.savetxt(folder / "inter.txt", np.stack([users, items], 1), fmt="%d")
    for name, array in {"times": times, **files}.items():
        np.save(folder / f"{name}.npy", array)
    return folder


def test_a_plain_folder_may_have_times(tmp_path):
    config = SplitConfig(**BOUNDS)
    whole = reading.load("ten", written(tmp_path / "a"), config)
    assert (whole.digest, whole.times.tolist()) == (made(**BOUNDS).digest, arrays()[2].tolist())
    moments = arrays()[2].view("datetime64[s]")
    assert reading.load("ten", written(tmp_path / "b", times=moments), config).digest == whole.digest


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"times": np.zeros(3, np.int64)}, r"times.npy: holds int64 of shape \(3,\); expected int64 of shape \(33,\)"),
        ({"times": np.zeros(33)}, r"times.npy: holds float64 of shape \(33,\)"),
        ({"times": np.arange(33)[::-1].copy()}, "the times of user 1 in times.npy do not ascend"),
        ({"split": np.full(33, 3, np.uint8)}, r"split.npy holds 3; expected 0 \(training\)"),
        ({"split": np.tile([1, 0, 2], 11).astype(np.uint8)}, "user 1 has training after validation"),
    ],
)
def test_arrays_that_do_not_fit_the_lines(tmp_path, files, told):
    with pytest.raises(InputError, match=told):
        reading.load("ten", written(tmp_path / "x", **files))


def test_lines_that_were_changed_after_prepare(tmp_path):
    folder = written(tmp_path / "x")
    from llmesr_jax.data import manifest

    files = {name: manifest.entry(folder / name) for name in ("inter.txt", "times.npy")}
    made_by = {"source": {}, "rule": {}, "counts": {}, "steps": [], "malformed_lines": {}, "files": files}
    (folder / manifest.FILE).write_text(json.dumps(made_by))
    assert reading.load("ten", folder).times is not None
    lines = (folder / "inter.txt").read_text().splitlines()
    (folder / "inter.txt").write_text("\n".join([lines[1], lines[0], *lines[2:]]) + "\n")
    with pytest.raises(InputError, match="inter.txt: was changed after it was written"):
        reading.load("ten", folder)
