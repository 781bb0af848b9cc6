"""Raw ids of a folder, and which row of older data each user and item of newer data is."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import manifest, raw_ids, reading

PAIRS = [(1, 1), (1, 2), (2, 3)]


def write(folder, pairs, items=None, users=None, records=None):
    folder.mkdir()
    pairs = [*pairs, *[(1, 1)] * 3]  # a user has to have three interactions
    (folder / "inter.txt").write_text("".join(f"{user} {item}\n" for user, item in pairs))
    for name, found in (("item_ids.txt", items), ("user_ids.txt", users)):
        if found is not None:
            (folder / name).write_text("".join(f"{one}\n" for one in found), encoding="utf-8")
    if records is not None:
        (folder / "items.jsonl").write_text(
            "".join(json.dumps({"item_id": n, "title": "", **one}) + "\n" for n, one in enumerate(records, 1))
        )
    return reading.read_folder("mine", folder)


@pytest.fixture
def old(tmp_path):
    return write(tmp_path / "old", [(1, 1), (1, 2), (2, 3)], ["a", "ü b", "c"], ["x", "y"])


def test_rows_are_found_by_raw_id(tmp_path, old):
    new = write(tmp_path / "new", [(1, 1), (1, 2), (2, 3), (3, 4)], ["c", "new", "a", "ü b"], ["y", "z", "x"])
    np.testing.assert_array_equal(raw_ids.rows_in(new, old, "item"), [2, -1, 0, 1])
    np.testing.assert_array_equal(raw_ids.rows_in(new, old, "user"), [1, -1, 0])


def test_without_raw_ids_numbers_tell(tmp_path):
    old = write(tmp_path / "old", [(1, 1), (2, 2)])
    new = write(tmp_path / "new", [(1, 1), (2, 2), (3, 3)])
    np.testing.assert_array_equal(raw_ids.rows_in(new, old, "item"), [0, 1, -1])
    np.testing.assert_array_equal(raw_ids.rows_in(old, new, "user"), [0, 1])


def test_raw_ids_on_one_side_only_are_refused(tmp_path, old):
    bare = write(tmp_path / "bare", [(1, 1), (1, 2), (2, 3)])
    for pair in ((bare, old), (old, bare)):
        with pytest.raises(InputError, match="bare: has no item_ids.txt.*launch.prepare"):
            raw_ids.rows_in(*pair, "item")


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["a"], ": has 1 ids, but inter.txt has 3 items"),
        (["a", "a", "b"], ": an id appears twice"),
        (["a", "", "b"], ", line 2: is empty"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, items, message):
    with pytest.raises(InputError, match=f"item_ids.txt{message}"):
        raw_ids.of_file(write(tmp_path / "bad", PAIRS, items), "item")
    with pytest.raises(InputError, match=f"item_ids.txt{message}"):
        raw_ids.check(reading.read_folder("mine", tmp_path / "bad"))


def test_a_file_changed_since_it_was_prepared_is_refused(tmp_path):
    corpus = write(tmp_path / "data", PAIRS, ["x", "y", "z"])
    path = tmp_path / "data" / "item_ids.txt"
    made = {"source": {}, "rule": {}, "counts": {}, "steps": [], "malformed_lines": {}}
    made["files"] = {path.name: manifest.entry(path)}
    (tmp_path / "data" / "manifest.json").write_text(json.dumps(made))
    raw_ids.check(corpus)
    assert raw_ids.every(corpus, "item") == ["x", "y", "z"]
    path.write_text("y\nx\nz\n")
    for read in (raw_ids.check, lambda corpus: raw_ids.every(corpus, "item")):
        with pytest.raises(InputError, match="item_ids.txt: was changed after it was written .*; use --overwrite"):
            read(corpus)


def test_raw_ids_are_utf_8_in_every_locale(old):
    program = "import sys; from llmesr_jax.data import manifest, raw_ids, reading; corpus = reading.read_folder('mine', sys.argv[1]); "
    program += "print(ascii(raw_ids.of_file(corpus, 'item')))"
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", program, str(old.folder)]
    found = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert found.strip() == ascii(["a", "ü b", "c"])


RECORDS = [
    ({"asin": "B1"}, {"asin": "B2"}, {"asin": "B3"}),  # known
    ({"asin": "B1"}, {"asin": "B2"}, {"asin": "B2"}),  # not different
    ({"asin": "B1"}, {"asin": "B2"}, {}),
    ({"asin": True}, {"asin": 2}, {"asin": 3}),
    (
        {"asin": "same", "movie_id": 7},
        {"asin": "same", "movie_id": 8},
        {"asin": "same", "movie_id": 9},
    ),  # the second is
]


@pytest.mark.parametrize(
    ("records", "known"), list(zip(RECORDS, [["B1", "B2", "B3"], None, None, None, ["7", "8", "9"]]))
)
def test_raw_ids_of_records_are_those_of_a_field_that_differs_for_every_item(tmp_path, records, known):
    corpus = write(tmp_path / "data", PAIRS, records=records)
    assert raw_ids.of_file(corpus, "item") is None
    assert raw_ids.known(corpus, "item") == known
    assert raw_ids.every(corpus, "item") == (known or ["1", "2", "3"])
    assert raw_ids.known(corpus, "user") is None and raw_ids.every(corpus, "user") == ["1", "2"]


def test_the_file_overrides_the_records(tmp_path):
    corpus = write(tmp_path / "data", PAIRS, ["x", "y", "z"], records=RECORDS[0])
    assert raw_ids.known(corpus, "item") == raw_ids.every(corpus, "item") == ["x", "y", "z"]


def test_a_file_that_is_not_utf_8_is_refused(tmp_path):
    corpus = write(tmp_path / "data", PAIRS, ["x", "y", "z"])
    (tmp_path / "data" / "item_ids.txt").write_bytes(b"x\n\xff\nz\n")
    with pytest.raises(InputError, match="item_ids.txt: cannot be read .*; expected one raw id per line"):
        raw_ids.every(corpus, "item")
    assert raw_ids.named(corpus, "item", 0) == "item x"  # a message is written all the same


def test_rows_have_names_in_messages(tmp_path):
    records = [{"title": "Lamp"}, {"title": "Cup", "asin": "B2"}, {}]
    corpus = write(tmp_path / "data", PAIRS, users=["u", "v"], records=records)
    named = [raw_ids.named(corpus, "item", row) for row in range(3)]
    assert named == ['item 1 "Lamp"', 'item B2 "Cup"', "item 3"]
    assert [raw_ids.named(corpus, "user", row) for row in (0, 1)] == ["user u", "user v"]
