"""Files of vectors that users bring: matrices, and vectors by raw id."""

import pickle
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import polars as pl
import pytest

from llmesr_jax.core.errors import InputError
from llmesr_jax.semantic import vector_files

IDS = ["B7", "A1", "12", "C3"]
ROWS = np.arange(1, 13, dtype=np.float32).reshape(4, 3)
BY_ID = dict(zip(IDS, ROWS))
SHUFFLED = {name: BY_ID[name] for name in ("12", "C3", "B7", "A1")}


def read(path, raw_ids=IDS):
    return vector_files.read(Path(path), lambda: raw_ids, "items")


def npy(path, array):
    with path.open("wb") as file:
        np.save(file, array)


def npz(path, **arrays):
    with path.open("wb") as file:
        np.savez(file, **arrays)


def parquet(path, **columns):
    pl.DataFrame(columns).write_parquet(path)


WRITERS = {
    "npy": lambda path: npy(path, ROWS),
    "npy of objects": lambda path: npy(path, np.array([*ROWS, None], object)[:4]),
    "pickle of an array": lambda path: path.write_bytes(pickle.dumps(ROWS)),
    "pickle of lists": lambda path: path.write_bytes(pickle.dumps(ROWS.tolist())),
    "pickle by id": lambda path: path.write_bytes(pickle.dumps(SHUFFLED)),
    "pickle by id, old": lambda path: path.write_bytes(pickle.dumps(SHUFFLED, 2)),
    "pickle by id, lists": lambda path: path.write_bytes(pickle.dumps({k: v.tolist() for k, v in SHUFFLED.items()})),
    "pickle by number": lambda path: path.write_bytes(pickle.dumps({12.0 if k == "12" else k: v for k, v in SHUFFLED.items()})),
    "npz of one": lambda path: npz(path, a=ROWS),
    "npz by id": lambda path: npz(path, **SHUFFLED),
    "npz of ids and vectors": lambda path: npz(path, vectors=np.array(list(SHUFFLED.values())), ids=np.array(list(SHUFFLED))),
    "parquet": lambda path: parquet(path, v=ROWS.tolist()),
    "parquet by id": lambda path: parquet(path, sku=list(SHUFFLED), v=[v.tolist() for v in SHUFFLED.values()]),
    "parquet of arrays": lambda path: pl.DataFrame({"v": pl.Series(ROWS.tolist(), dtype=pl.Array(pl.Float32, 3))}).write_parquet(path),
}  # fmt: skip


@pytest.mark.parametrize("writer", WRITERS)
def test_each_kind_of_file_gives_the_rows_in_order_of_id(tmp_path, writer):
    WRITERS[writer](tmp_path / "file")  # what it is, its content says
    found = read(tmp_path / "file")
    np.testing.assert_array_equal(np.asarray(found.array, np.float32), ROWS)
    assert (found.missing, found.of_nobody) == (0, 0)


def test_safetensors(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    for tensors in ({"a": ROWS}, SHUFFLED, {k: v.astype(ml_dtypes.bfloat16) for k, v in SHUFFLED.items()}):
        library.save_file(tensors, tmp_path / "x.safetensors")
        np.testing.assert_array_equal(np.asarray(read(tmp_path / "x.safetensors").array, np.float32), ROWS)
    (tmp_path / "x.safetensors").write_bytes((tmp_path / "x.safetensors").read_bytes()[:-7])
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        read(tmp_path / "x.safetensors")


def test_safetensors_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    (tmp_path / "x.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(InputError, match="the package safetensors is not installed; run pip install safetensors"):
        read(tmp_path / "x.safetensors")


def test_vectors_that_are_missing_or_of_nobody_are_counted(tmp_path):
    more = {**SHUFFLED, "unknown": ROWS[0], "other": ROWS[1]}
    del more["C3"]
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(more))
    found = read(tmp_path / "x.pkl")
    assert (found.missing, found.of_nobody) == (1, 2)
    np.testing.assert_array_equal(found.array, [*ROWS[:3], np.zeros(3)])


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.longdouble, ml_dtypes.bfloat16])
def test_numbers_that_become_floats(dtype):
    got = vector_files.as_floats(Path("x"), np.array([[1, -2], [3, 0]], dtype))
    np.testing.assert_array_equal(got, np.array([[1, -2], [3, 0]], np.float32), strict=True)


@pytest.mark.parametrize(
    ("dtype", "reason"),
    [(np.uint8, "may be packed bits"), (bool, "these are bits"), (complex, "complex numbers"), ("U3", "not numbers")],
)
def test_numbers_that_are_refused_with_the_reason(dtype, reason):
    with pytest.raises(InputError, match=rf"^x: holds \S+; .*{reason}.*; save the array as float32"):
        vector_files.as_floats(Path("x"), np.ones((2, 2)).astype(dtype))


class _Evil:
    def __reduce__(self):
        return print, ("ran",)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda p: p.write_bytes(pickle.dumps({"A1": _Evil()})), r"refused, as it holds builtins.print.*none of its code was"),
        (lambda p: p.write_bytes(pickle.dumps({("a",): ROWS[0]})), "an id of type tuple"),
        (lambda p: p.write_bytes(pickle.dumps({"A1": "text"})), "a value of type str"),
        (lambda p: npy(p, np.array([[_Evil()]], object)), "refused, as it holds"),
        (lambda p: p.write_bytes(pickle.dumps({"x": ROWS[0], "y": ROWS[1]})), "none of its 2 ids .* has 'x', but item 1 is 'B7'"),
        (lambda p: p.write_bytes(pickle.dumps({"A1": ROWS[0], "B7": ROWS[0][:2]})), "vectors of the shapes"),
        (lambda p: p.write_bytes(pickle.dumps({"A1": ROWS, "B7": ROWS})), "vectors of the shapes"),
        (lambda p: npz(p, a=ROWS, b=ROWS), r"holds 2 arrays \(a \(4, 3\), b \(4, 3\)\); expected one"),
        (lambda p: npz(p, a=ROWS, ids=np.array(IDS[:3])), "has 3 ids and 4 vectors"),
        (lambda p: npz(p, a=ROWS, ids=np.array(["A1"] * 4)), "3 ids appear twice"),
        (lambda p: p.write_bytes(b"PK\x03\x04 broken"), "not a readable .npz file"),
        (lambda p: p.write_bytes(b"PAR1 broken"), "not a readable Parquet file"),
        (lambda p: parquet(p, a=[1, 2], b=[3, 4]), "has the columns a, b; expected one of lists"),
        (lambda p: parquet(p, v=[[1.0], [1.0, 2.0]]), "lists of different lengths"),
        (lambda p: parquet(p, v=[["a"], ["b"]]), "column 'v' holds String"),
        (lambda p: p.write_bytes(b"0.1 0.2\n"), "file of vectors"),
        (lambda p: p.write_bytes(b""), "file of vectors"),
        (lambda p: None, "cannot be read .No such file"),
    ],
)  # fmt: skip
def test_what_is_no_such_file_is_told_in_one_line(tmp_path, capsys, write, message):
    write(tmp_path / "file")
    with pytest.raises(InputError, match=message) as error:
        read(tmp_path / "file")
    assert str(error.value).startswith(f"{tmp_path / 'file'}: ") and "\n" not in str(error.value)
    assert capsys.readouterr().out == ""


def test_without_raw_ids_there_is_nothing_to_join_by(tmp_path):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(SHUFFLED))
    with pytest.raises(InputError, match="the raw ids of these items are not known; expected item_ids.txt"):
        read(tmp_path / "x.pkl", None)
