import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmesr_jax.core.errors import InputError
from llmesr_jax.semantic.embedding_files import find, read_embedding, read_similar_users


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
@pytest.mark.parametrize("suffix", ["npy", "pkl"])
def test_reads_floats_of_any_width(tmp_path, dtype, suffix):
    path, array = tmp_path / f"x.{suffix}", np.array([[0.5, -2], [3, 0]], dtype)
    np.save(path, array) if suffix == "npy" else path.write_bytes(pickle.dumps(array))
    got = read_embedding(path, 2, "items")
    np.testing.assert_array_equal(got, np.array([[0.5, -2], [3, 0]], np.float32), strict=True)


def _nan(row):
    array = np.ones((5, 3))
    array[row, 1] = np.nan
    return array


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((4, 3)), r"has 4 rows; expected 5, one for each of the items$"),
        (np.ones((6, 3)), r"has 6 rows; expected 5.*row 0 must be id 1"),
        (np.ones((7, 3)), r"has 7 rows; expected 5.*row 0 must be id 1"),
        (np.ones(5), r"has shape \(5,\); expected \(5, width\)"),
        (np.ones((5, 3, 1)), r"has shape \(5, 3, 1\)"),
        (np.ones((5, 0)), r"has shape \(5, 0\)"),
        (np.ones((5, 3), int), r"holds int64; expected float16, float32 or float64"),
        (np.ones((5, 3), complex), r"holds complex128"),
        (np.ones((5, 3), bool), r"holds bool"),
        (_nan(2), r"row 2 \(id 3\) holds NaN or infinity .* 1 of 5 rows"),
        (np.full((5, 3), np.inf), r"row 0 \(id 1\) holds NaN or infinity .* 5 of 5 rows"),
        (np.full((5, 3), 1e300), r"row 0 \(id 1\) holds NaN or infinity \(as float32\)"),
    ],
)
def test_wrong_arrays_are_told_in_one_line(tmp_path, array, message):
    path = tmp_path / "item_emb.npy"
    np.save(path, array)
    with pytest.raises(InputError, match=message) as error:
        read_embedding(path, 5, "items")
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def _npy(array):
    return lambda path: np.save(path, array)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"0.1 0.2\n0.3 0.4\n"),
        lambda path: path.write_bytes(pickle.dumps([1, 2])),
        lambda path: (_npy(np.ones((5, 3)))(path), path.write_bytes(path.read_bytes()[:-8])),
        lambda path: (_npy(np.ones((5, 3)))(path), path.write_bytes(path.read_bytes()[:40])),
        _npy(np.array([[print]] * 5, object)),
        lambda path: (np.savez(path.with_suffix(".npz"), np.ones((5, 3))), path.with_suffix(".npz").rename(path)),
        lambda path: path.mkdir(),
    ],
    ids=["empty", "text", "pickle", "truncated", "truncated-header", "objects", "npz", "folder"],
)
def test_what_is_no_array_file_is_told_in_one_line(tmp_path, write):
    path = tmp_path / "item_emb.npy"
    write(path)
    with pytest.raises(InputError, match="numpy.save") as error:
        read_embedding(path, 5, "items")
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


@given(cut=st.integers(0, 127 + 60), rows=st.integers(1, 5))
def test_no_truncated_file_is_accepted(tmp_path_factory, cut, rows):
    path = tmp_path_factory.mktemp("cut") / "x.npy"
    np.save(path, np.ones((rows, 3), np.float32))
    content = path.read_bytes()
    path.write_bytes(content[: min(cut, len(content) - 1)])
    with pytest.raises(InputError):
        read_embedding(path, rows, "items")


@pytest.mark.parametrize("wrong", [np.full((3, 2), 3), np.full((3, 2), -1), np.zeros((3, 2)), np.zeros((2, 2), int)])
def test_similar_users_must_be_rows_of_users(tmp_path, wrong):
    path = tmp_path / "sim_user_100.pkl"
    right = np.array([[1, 2], [0, 2], [0, 1]])
    path.write_bytes(pickle.dumps(right))
    np.testing.assert_array_equal(read_similar_users(path, 3), right.astype(np.int32), strict=True)
    path.write_bytes(pickle.dumps(wrong))
    with pytest.raises(InputError, match="sim_user_100.pkl: .*expected"):
        read_similar_users(path, 3)


def test_our_files_go_before_the_authors_and_what_those_derived(tmp_path):
    authors = {
        "item_llm": "itm_emb_np.pkl", "user_llm": "usr_emb_np.pkl", "item_pca": "pca64_itm_emb_np.pkl",
        "similar_users": "sim_user_100.pkl",
    }  # fmt: skip
    for file in authors.values():
        (tmp_path / file).touch()
    assert {name: path.name for name, path in find(tmp_path).items()} == authors
    (tmp_path / "item_emb.npy").touch()
    assert {path.name for path in find(tmp_path).values()} == {"item_emb.npy", "usr_emb_np.pkl", "sim_user_100.pkl"}
    (tmp_path / "user_emb.npy").touch()
    assert {path.name for path in find(tmp_path).values()} == {"item_emb.npy", "user_emb.npy"}
