"""The authors' `handled/` folder."""

import pickle

import numpy as np
import pytest

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import handled
from llmesr_jax.data.reading import load
from llmesr_jax.semantic import embedding_files

PAIRS = "1 1\n1 2\n1 3\n2 3\n2 1\n"


def fill(folder, **values):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "inter.txt").write_text(PAIRS)
    for key, value in values.items():
        (folder / handled.FILES[key]).write_bytes(pickle.dumps(value, 4))
    return folder


def read(key, path):
    """A table of the 3 items and 2 users, as training reads it."""
    if key == "similar_users":
        return embedding_files.read_similar_users(path, 2)
    rows, kind = (2, "users") if key == "user_llm" else (3, "items")
    return embedding_files.read_embedding(path, rows, kind)


@pytest.fixture
def tables():
    rng = np.random.default_rng(0)
    return {
        "item_llm": rng.normal(size=(3, 8)),
        "user_llm": rng.normal(size=(2, 8)).astype(np.float32),
        "item_pca": rng.normal(size=(3, 4)),
        "similar_users": np.array([[1], [0]]),
    }


def test_the_folder_is_found_from_above_and_from_inside(tmp_path, tables):
    inside = fill(tmp_path / "fashion" / "handled", **tables)
    for given in (inside, inside.parent):
        corpus = load("fashion", given)
        assert (corpus.num_users, corpus.num_items, corpus.folder) == (2, 3, inside)
        files = embedding_files.find(corpus.folder)
        assert files.keys() == tables.keys()
        for key, table in tables.items():
            np.testing.assert_array_equal(read(key, files[key]), table.astype(np.float32))


def test_only_tables_that_are_there_are_read(tmp_path, tables):
    files = embedding_files.find(fill(tmp_path / "handled", similar_users=[[1], [0]]))
    assert list(files) == ["similar_users"]
    assert read("similar_users", files["similar_users"]).tolist() == [[1], [0]]
    assert embedding_files.find(tmp_path / "elsewhere") == {}


def test_interactions_beside_a_handled_folder_are_ambiguous(tmp_path, tables):
    """Taking either silently would ignore the other's embeddings or interactions."""
    fill(tmp_path / "handled", **tables)
    (tmp_path / "inter.txt").write_text("1 1\n")
    with pytest.raises(
        InputError, match="has both inter.txt and handled/; expected one of the two; set --data_dir=.*handled to use"
    ):
        handled.find(tmp_path)


def test_a_handled_folder_without_interactions_says_so(tmp_path, tables):
    (fill(tmp_path / "handled", **tables) / "inter.txt").unlink()
    with pytest.raises(InputError, match=r"handled/inter\.txt: no such file"):
        load("mine", tmp_path)


@pytest.mark.parametrize(
    "key, value, found",
    [
        ("item_llm", np.zeros(3), r"itm_emb_np\.pkl: has shape \(3,\); expected \(3, width\)"),
        ("user_llm", np.zeros((2, 2), int), r"usr_emb_np\.pkl: holds int64; expected float16, float32 or float64"),
        ("similar_users", np.zeros((2, 1)), r"sim_user_100\.pkl: holds float64.*integers from 0"),
        ("similar_users", np.array([[1], [-1]]), r"sim_user_100\.pkl: holds int64 from -1.*integers from 0"),
        ("item_pca", print, r"pca64_itm_emb_np\.pkl: refused, as it holds builtins\.print"),
    ],
)
def test_a_wrong_table_is_named(tmp_path, key, value, found):
    path = fill(tmp_path / "handled", **{key: value}) / handled.FILES[key]
    with pytest.raises(InputError, match=found):
        read(key, path)
