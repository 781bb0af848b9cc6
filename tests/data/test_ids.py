"""Raw ids of a folder, and which row of older data each user and item of newer data is."""

import os
import subprocess
import sys

import numpy as np
import pytest

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import ids, reading


def write(folder, pairs, items=None, users=None):
    folder.mkdir()
    pairs = [*pairs, *[(1, 1)] * 3]  # a user has to have three interactions
    (folder / "inter.txt").write_text("".join(f"{user} {item}\n" for user, item in pairs))
    for name, found in (("item_ids.txt", items), ("user_ids.txt", users)):
        if found is not None:
            (folder / name).write_text("".join(f"{one}\n" for one in found), encoding="utf-8")
    return reading.read_folder("mine", folder)


@pytest.fixture
def old(tmp_path):
    return write(tmp_path / "old", [(1, 1), (1, 2), (2, 3)], ["a", "ü b", "c"], ["x", "y"])


def test_rows_are_found_by_raw_id(tmp_path, old):
    new = write(tmp_path / "new", [(1, 1), (1, 2), (2, 3), (3, 4)], ["c", "new", "a", "ü b"], ["y", "z", "x"])
    np.testing.assert_array_equal(ids.rows_in(new, old, "item"), [2, -1, 0, 1])
    np.testing.assert_array_equal(ids.rows_in(new, old, "user"), [1, -1, 0])


def test_without_raw_ids_numbers_tell(tmp_path):
    old = write(tmp_path / "old", [(1, 1), (2, 2)])
    new = write(tmp_path / "new", [(1, 1), (2, 2), (3, 3)])
    np.testing.assert_array_equal(ids.rows_in(new, old, "item"), [0, 1, -1])
    np.testing.assert_array_equal(ids.rows_in(old, new, "user"), [0, 1])


def test_raw_ids_on_one_side_only_are_refused(tmp_path, old):
    bare = write(tmp_path / "bare", [(1, 1), (1, 2), (2, 3)])
    for pair in ((bare, old), (old, bare)):
        with pytest.raises(InputError, match="bare: has no item_ids.txt.*launch.prepare"):
            ids.rows_in(*pair, "item")


@pytest.mark.parametrize(
    ("items", "message"), [(["a"], "has 1 ids; expected 3"), (["a", "a", "b"], "an id appears twice")]
)
def test_files_that_do_not_fit_are_refused(tmp_path, items, message):
    with pytest.raises(InputError, match=f"item_ids.txt: {message}"):
        ids.raw_ids(write(tmp_path / "bad", [(1, 1), (1, 2), (2, 3)], items), "item")


def test_raw_ids_are_utf_8_in_every_locale(old):
    program = (
        "import sys; from llmesr_jax.data import ids, reading; corpus = reading.read_folder('mine', sys.argv[1]); "
    )
    program += "print(ascii(ids.raw_ids(corpus, 'item')))"
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", program, str(old.folder)]
    found = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert found.strip() == ascii(["a", "ü b", "c"])
