"""Reading, checking, grouping and splitting interactions."""

import dataclasses
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.corpus import from_pairs
from llmesr_jax.data.reading import load, read_folder
from llmesr_jax.data.settings import DataConfig
from llmesr_jax.ranking import inference
from llmesr_jax.ranking.layout import RowPlan
from llmesr_jax.training import epoch_plan, interactions

SHARED = Path(os.environ.get("LLMESR_SHARED", Path(__file__).parents[2] / ".." / "shared"))

# User 1: items 1 2 3 1; user 2: items 2 4; user 3: items 4 3 2. Users are not contiguous.
PAIRS = "1 1\n2 2\n1 2\n3 4\n1 3\n3 3\n2 4\n1 1\n3 2\n"
TITLES = ["rose balm", "", "comb", "Köln water"]


def folder_with(path, inter=PAIRS, records=None):
    (path / "inter.txt").write_text(inter, encoding="utf-8")
    if records is not None:
        lines = [r if isinstance(r, str) else json.dumps(r) for r in records]
        (path / "items.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return path


def records(*ids):
    return [{"item_id": i, "title": TITLES[i - 1], "brand": f"b{i}"} for i in ids]


@pytest.fixture
def error(tmp_path):
    """Reads a folder that is wrong, checks that the message is one line naming a path in it, and returns that line."""

    def read(inter=PAIRS, texts=None):
        with pytest.raises(InputError) as caught:
            read_folder("shop", folder_with(tmp_path, inter, texts))
        message = str(caught.value)
        assert str(tmp_path) in message and "\n" not in message and "expected" in message or "wants" in message
        return message

    return read


def test_items_are_grouped_by_user_in_file_order(tmp_path):
    corpus = read_folder("shop", folder_with(tmp_path))
    assert (corpus.num_users, corpus.num_items) == (3, 4)
    np.testing.assert_array_equal(corpus.items, [1, 2, 3, 1, 2, 4, 4, 3, 2])
    np.testing.assert_array_equal(corpus.offsets, [0, 4, 6, 9])
    assert corpus.items.dtype == np.int32 and corpus.offsets.dtype == np.int64
    assert corpus.folder == tmp_path and corpus.item_records is None and corpus.item_titles is None


def test_split_leaves_one_out_and_short_users_only_train(tmp_path):
    corpus = read_folder("shop", folder_with(tmp_path))
    np.testing.assert_array_equal(corpus.lengths_U, [4, 2, 3])
    np.testing.assert_array_equal(corpus.train_lengths_U, [2, 2, 1])
    np.testing.assert_array_equal(corpus.valid_U, [3, 0, 3])
    np.testing.assert_array_equal(corpus.test_U, [1, 0, 2])
    # training: 1 2 | 2 4 | 4
    np.testing.assert_array_equal(corpus.item_counts_V, [1, 2, 0, 2])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=7), min_size=1, max_size=8), st.randoms())
def test_split_and_counts_agree_with_plain_lists_whatever_the_order_of_the_lines(histories, random):
    histories.append(list(range(1, 10)))
    queue = [user for user, history in enumerate(histories) for _ in history]
    random.shuffle(queue)
    left = [list(history) for history in histories]
    pairs = [(user + 1, left[user].pop(0)) for user in queue]
    with pytest.MonkeyPatch.context() as patch:  # what is counted block by block does not depend on the blocks
        patch.setattr("llmesr_jax.data.corpus._BLOCK", random.choice([1, 5, 1000]))
        corpus = from_pairs("any", *np.array(pairs).T)
        repeated, _ = corpus.repeated("test"), corpus.item_counts_V
    parts = [(h[:-2], h[-2], h[-1]) if len(h) >= 3 else (h, 0, 0) for h in histories]
    np.testing.assert_array_equal(corpus.items, sum(histories, []))
    np.testing.assert_array_equal(corpus.train_lengths_U, [len(train) for train, _, _ in parts])
    np.testing.assert_array_equal(corpus.valid_U, [valid for _, valid, _ in parts])
    np.testing.assert_array_equal(corpus.test_U, [test for _, _, test in parts])
    assert repeated.tolist() == [test in history[:-1] for history, (_, _, test) in zip(histories, parts) if test]
    training = sum((train for train, _, _ in parts), [])
    np.testing.assert_array_equal(corpus.item_counts_V, [training.count(i) for i in range(1, 10)])


@pytest.mark.parametrize(
    ("name", "array", "told"),
    [
        ("items", np.ones(9, np.int64), "items.npy: holds int64 of shape (9,); expected int32 in one dimension"),
        ("offsets", np.array([0, 4, 4, 9]), "items.npy: the offsets of users do not ascend from 0 to the 9 interac"),
        ("offsets", np.array([0, 4, 6, 8]), "items.npy: the offsets of users do not ascend from 0 to the 9 interac"),
        ("offsets", None, "offsets.npy: cannot be read (No such file or directory)"),
        ("inter", None, "has both inter.txt and items.npy; expected one of the two; move one"),
    ],
)
def test_arrays_in_place_of_the_text(tmp_path, name, array, told):
    folder = folder_with(tmp_path)
    text = read_folder("shop", folder)
    for file, content in (("items", text.items), ("offsets", text.offsets)):
        np.save(folder / f"{file}.npy", content)
    if name != "inter":
        (folder / "inter.txt").unlink()
        assert read_folder("shop", folder).digest == text.digest
        (folder / f"{name}.npy").unlink()
    if array is not None:
        np.save(folder / f"{name}.npy", array)
    with pytest.raises(InputError, match=re.escape(told)):
        read_folder("shop", folder)


def test_arrays_cannot_be_written(tmp_path):
    corpus = read_folder("shop", folder_with(tmp_path))
    for name in ("items", "offsets", "lengths_U", "train_lengths_U", "valid_U", "test_U", "item_counts_V"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(corpus, name)[0] = 1


def test_digest_depends_on_interactions_and_on_nothing_else(tmp_path):
    plain = read_folder("shop", folder_with(tmp_path))
    crlf = "\ufeff" + PAIRS.replace("\n", "\r\n").replace(" ", "\t") + "\r\n\r\n"
    with_texts = read_folder("other", folder_with(tmp_path, crlf, records(4, 1, 3, 2)))
    assert plain.digest == with_texts.digest and len(plain.digest) == 64
    swapped = PAIRS.replace("1 1\n2 2\n1 2", "1 2\n2 2\n1 1")
    assert read_folder("shop", folder_with(tmp_path, swapped)).digest != plain.digest


def test_records_are_ordered_by_id_and_keep_their_attributes(tmp_path):
    corpus = read_folder("shop", folder_with(tmp_path, records=[*records(4, 2), "", *records(1, 3)]))
    assert corpus.item_titles == tuple(TITLES)
    assert [r["brand"] for r in corpus.item_records] == ["b1", "b2", "b3", "b4"]


@pytest.mark.parametrize(
    "line, shown",
    [
        ("1 two", "'1 two'"),
        ("1", "'1'"),
        ("1 2 3", "'1 2 3'"),
        ("1,2", "'1,2'"),
        ("1 2.5", "'1 2.5'"),
        ("1 4.0", "'1 4.0'"),
        ("0 2", "'0 2'"),
        ("1 -2", "'1 -2'"),
        ("1 99999999999999999999", "'1 99999999999999999999'"),
        ("ü" * 99, "'" + "ü" * 60 + "'"),
    ],
)
def test_a_malformed_line_is_shown_with_its_number(error, line, shown):
    message = error(PAIRS + "\n" + line + "\n1 1\n")
    assert "inter.txt, line 11: found " + shown + "; expected two whole numbers" in message


def test_a_third_column_everywhere_is_malformed(error):
    assert "line 1: found '1 1 5'" in error(PAIRS.replace("\n", " 5\n"))


@pytest.mark.parametrize("inter", ["", "\n \n"])
def test_an_empty_file_is_said_to_be_empty(error, inter):
    assert "inter.txt: is empty" in error(inter)


@pytest.mark.parametrize(
    "extra, found",
    [
        ("5 1", "user id 4 is missing, although ids go up to 5"),
        ("1 7", "item id 5 is missing, although ids go up to 7"),
        ("1 999999999999", "item id 5 is missing, although ids go up to 999999999999"),
    ],
)
def test_a_gap_names_the_first_missing_id(error, extra, found):
    assert found in error(PAIRS + extra + "\n")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=10))
def test_gaps_are_found_exactly_where_there_are_some(items):
    missing = sorted(set(range(1, max(items))) - set(items))
    # The added user has every item there is, so that somebody has 3.
    users = np.ones(len(items) * 3, int)
    if missing:
        with pytest.raises(InputError, match=f"item id {missing[0]} is missing, although ids go up to {max(items)};"):
            from_pairs("any", users, np.array(items * 3))
    else:
        assert from_pairs("any", users, np.array(items * 3)).num_items == max(items)


def test_from_pairs_refuses_ids_below_1():
    with pytest.raises(InputError, match="data set 'any': found item id 0; expected ids from 1"):
        from_pairs("any", np.array([1, 1, 1]), np.array([0, 1, 2]))


def test_nobody_with_three_interactions_is_an_error(error):
    assert "no user has 3 interactions (the most is 2)" in error("1 1\n1 2\n2 1\n")


@pytest.mark.parametrize(
    "texts, found",
    [
        ([*records(1, 2), '{"item_id": 3,', *records(4)], "line 3: found '{\"item_id\": 3,'; expected one JSON object"),
        ([*records(1), "[2]"], "items.jsonl, line 2: found '[2]'; expected one JSON object"),
        ([*records(1, 2), {"title": "x"}], "line 3: item_id is None; expected a whole number from 1"),
        ([{"item_id": "1", "title": "x"}], "line 1: item_id is '1'; expected a whole number from 1"),
        ([{"item_id": True, "title": "x"}], "line 1: item_id is True"),
        ([{"item_id": 0, "title": "x"}], "line 1: item_id is 0"),
        (records(1, 2, 1), "line 3: item_id 1 appears a second time"),
        ([*records(1), {"item_id": 2}], "line 2: item 2 has no title"),
        ([*records(1), {"item_id": 2, "title": None}], "line 2: item 2 has no title"),
        (records(1, 2, 4), "found 3 items with ids up to 4; expected the 4 items of inter.txt"),
        (records(1, 2, 4), "ids 1..4 (the first missing is 3)"),
        ([*records(1, 2, 3, 4), {"item_id": 5, "title": "x"}], "found 5 items with ids up to 5; expected the 4 items"),
        ([*records(1, 2, 3), {"item_id": 9, "title": "x"}], "found 4 items with ids up to 9; expected the 4 items"),
        ([], "found 0 items with ids up to 0; expected the 4 items"),
    ],
)
def test_wrong_texts_are_named(error, texts, found):
    assert found in error(texts=texts)


def test_a_missing_folder_or_file_says_what_belongs_where(tmp_path):
    for folder, what in ((tmp_path / "none", "no such folder"), (tmp_path, "inter.txt: no such file")):
        with pytest.raises(InputError) as caught:
            read_folder("shop", folder)
        message = str(caught.value)
        assert what in message and "\n" not in message
        for part in ("inter.txt", "items.jsonl", "item_emb.npy", "user_emb.npy", str(folder / "handled"), "--data_dir"):
            assert part in message
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: not a folder"):
        read_folder("shop", tmp_path / "file")


def test_files_that_are_not_text_are_unreadable(tmp_path):
    folder_with(tmp_path, records=records(1, 2, 3, 4))
    (tmp_path / "items.jsonl").write_bytes(b'{"item_id": 1, "title": "\xff\xfe"}')
    with pytest.raises(InputError, match=r"items\.jsonl: cannot be read \(not UTF-8 text\)"):
        read_folder("shop", tmp_path)
    for content in (b"\x80\x81\n", b"1 1\nx\n\xff\xff\n"):
        (tmp_path / "inter.txt").write_bytes(content)
        with pytest.raises(InputError, match=r"inter\.txt: cannot be read \(not UTF-8 text\)|line 2: found 'x'"):
            read_folder("shop", tmp_path)
    (tmp_path / "inter.txt").write_bytes(b"1 1\n\x00\x01\n")
    with pytest.raises(InputError, match=r"inter\.txt, line 2: found '\\x00\\x01'"):
        read_folder("shop", tmp_path)


@pytest.mark.parametrize("name", ["inter.txt", "items.jsonl"])
def test_files_that_may_not_be_opened_are_unreadable(tmp_path, monkeypatch, name):
    folder_with(tmp_path, records=records(1, 2, 3, 4))
    opened = Path.open

    def deny(path, *args, **kwargs):
        if path.name == name:
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", deny)
    with pytest.raises(InputError, match=rf"{name}: cannot be read \(Permission denied\)"):
        load("shop", tmp_path)


def test_a_folder_in_place_of_a_file_is_unreadable(tmp_path):
    (tmp_path / "inter.txt").mkdir()
    with pytest.raises(InputError, match=r"inter\.txt: cannot be read \(Is a directory\)"):
        read_folder("shop", tmp_path)


def test_load_takes_any_name_with_a_folder_and_known_names_without(tmp_path, monkeypatch):
    assert load("demo").name == "demo" and load("demo").folder is None
    assert load("mine", folder_with(tmp_path)).num_users == 3
    assert load("demo", str(tmp_path)).num_users == 3
    (tmp_path / "data" / "yelp").mkdir(parents=True)
    folder_with(tmp_path / "data" / "yelp")
    monkeypatch.chdir(tmp_path)
    assert load("yelp").folder == Path("data/yelp")


def test_load_explains_unknown_names_and_names_not_prepared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="--dataset=mine: is not known; expected one of demo, .*beauty5.*--data_dir"):
        load("mine")
    with pytest.raises(InputError, match=r"data/fashion: no such folder; make .* put inter\.txt .* into data/fashion"):
        load("fashion")


@pytest.mark.parametrize(
    "name, users, items, interactions", [("yelp", 15_720, 11_383, 192_214), ("beauty", 52_204, 57_289, 394_908)]
)
def test_the_papers_data_sets_have_the_papers_counts(name, users, items, interactions):
    folder = SHARED / "data" / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; LLMESR_SHARED says where the shared data is")
    corpus = read_folder(name, folder)
    assert (corpus.num_users, corpus.num_items, len(corpus.items)) == (users, items, interactions)
    if name == "beauty":
        assert (corpus.lengths_U < 3).sum() == 1_706
        assert (corpus.train_lengths_U[corpus.test_U > 0] == 1).sum() == 3_094
        assert (corpus.item_counts_V[corpus.test_U[corpus.test_U > 0] - 1] == 0).sum() == 4_828
    else:
        assert (corpus.train_lengths_U == 1).sum() == 3_813


@pytest.mark.parametrize("count", [2**31, 3 * 2**31])
def test_more_interactions_than_32_bit_places_are_refused_before_anything_is_copied(count):
    """One line at once: the arrays here are views of one number, and a sort of them would take 16 GiB."""
    one = np.broadcast_to(np.int64(1), count)
    message = f"^data set 'huge': {count} interactions; expected at most 2147483647, as the device uses 32-bit"
    with pytest.raises(InputError, match=message):
        from_pairs("huge", one, one)


def test_what_lays_interactions_out_refuses_what_would_wrap():
    """A corpus made by hand: its last users' offsets would be negative as int32."""
    corpus = tiny.corpus([[1, 2, 3], [1, 2, 3]])
    huge = dataclasses.replace(corpus, items=np.broadcast_to(np.int32(1), 2**31), offsets=np.array([0, 3, 2**31]))
    plan = epoch_plan.BatchPlan(DataConfig(), "every", 0.0, RowPlan((1,), (1,)), None, 0)
    rows, stops = np.array([0, 1]), np.array([1, 1])
    for lay_out in (
        lambda data: interactions.resident(data, plan),
        lambda data: inference.histories(data, rows, stops, DataConfig(), "every"),
    ):
        with pytest.raises(InputError, match=r"^tiny: 2147483648 interactions; expected at most 2147483647"):
            lay_out(huge)
    with pytest.raises(InputError, match=r"^tiny: 1073741825 users; expected at most 1073741824"):
        interactions.resident(dataclasses.replace(corpus, num_users=2**30 + 1), plan)
