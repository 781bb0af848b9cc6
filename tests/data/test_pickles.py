"""The unpickler gives back real arrays and runs nothing that a file asks for."""

import collections
import datetime
import os
import pickle
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.pickles import load_arrays

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def dump(path, value, protocol=pickle.DEFAULT_PROTOCOL):
    path.write_bytes(pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "i4", "i8", "u1", "?"])
def test_arrays_of_every_protocol_and_type_come_back_in_native_order(tmp_path, protocol, dtype):
    array = (np.arange(24).reshape(2, 3, 4) % 7).astype(dtype)
    for layout in (array, np.asfortranarray(array), array.transpose(1, 0, 2), array[:, ::2], array[:0]):
        got = load_arrays(dump(tmp_path / "a.pkl", layout, protocol))
        np.testing.assert_array_equal(got, layout)
        assert got.dtype == layout.dtype.newbyteorder("=") and got.dtype.isnative


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(st.sampled_from([np.float16, np.float32, np.int64]), hnp.array_shapes(max_dims=3)),
    st.sampled_from(PROTOCOLS),
)
def test_any_numeric_array_survives(tmp_path_factory, array, protocol):
    path = dump(tmp_path_factory.mktemp("pickles") / "a.pkl", array, protocol)
    np.testing.assert_array_equal(load_arrays(path), array)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_names_of_numpy_1_and_2_mean_the_same(tmp_path, protocol):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    plain = pickle.dumps(array, 0).decode("latin1")
    for core in ("numpy.core.multiarray", "numpy._core.multiarray"):
        path = tmp_path / "a.pkl"
        renamed = plain.replace("numpy._core.multiarray", core).replace("numpy.core.multiarray", core)
        path.write_bytes(renamed.encode("latin1"))
        np.testing.assert_array_equal(load_arrays(path), array)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_lists_of_numbers_numpy_scalars_and_arrays_are_arrays(tmp_path, protocol):
    rows = [[3, 1, 2], [0, 2, 1]]
    for value in (rows, tuple(map(tuple, rows)), [np.array(r) for r in rows], [[np.int64(x) for x in r] for r in rows]):
        got = load_arrays(dump(tmp_path / "a.pkl", value, protocol))
        np.testing.assert_array_equal(got, rows)
        assert got.dtype.kind == "i"


class Malicious:
    def __init__(self, call, *args):
        self.call = (call, args)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_code_in_a_pickle_is_refused_by_name_and_not_run(tmp_path, protocol):
    marker = tmp_path / "marker"
    for bait in (Malicious(os.system, f"touch {marker}"), Malicious(eval, f"open({str(marker)!r}, 'w').close()")):
        path = dump(tmp_path / "bad.pkl", [np.zeros(3), bait], protocol)
        with pytest.raises(InputError, match=r"bad\.pkl.*(system|eval).*NumPy arrays"):
            load_arrays(path)
        assert not marker.exists()
        # The bait is this test's own file, and live: what `load_arrays` must not do, an ordinary unpickler does.
        pickle.loads(path.read_bytes())
        assert marker.exists()
        marker.unlink()


@pytest.mark.parametrize(
    "value",
    [
        np.array([{"a": 1}], dtype=object),
        np.array(["word"]),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f4")]),
        np.datetime64("2020-01-01"),
        datetime.date(2020, 1, 1),
        collections.OrderedDict(a=1),
        {"a": np.zeros(2)},
        "text",
        [["1", "2"]],
        None,
    ],
    ids=repr,
)
def test_anything_but_numbers_is_refused(tmp_path, value):
    with pytest.raises(InputError, match=r"bad\.pkl: refused"):
        load_arrays(dump(tmp_path / "bad.pkl", value))


def test_a_type_code_that_pickles_forge_is_refused(tmp_path):
    forged = pickle.dumps(np.zeros(2, np.float32), 0).replace(b"Vf4\n", b"VO8\n")
    (tmp_path / "bad.pkl").write_bytes(forged)
    with pytest.raises(InputError, match="data type 'O8'"):
        load_arrays(tmp_path / "bad.pkl")


def test_ragged_lists_are_one_clear_error(tmp_path):
    with pytest.raises(InputError, match=r"bad\.pkl"):
        load_arrays(dump(tmp_path / "bad.pkl", [[1, 2], [3]]))


def test_every_truncation_is_one_clear_error(tmp_path):
    whole = pickle.dumps(np.arange(50.0), 4)
    path = tmp_path / "cut.pkl"
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match=r"cut\.pkl: is a truncated or damaged"):
            load_arrays(path)


def test_damaged_bytes_raise_nothing_but_input_errors(tmp_path):
    whole, draw, path = pickle.dumps(np.arange(8.0), 4), random.Random(0), tmp_path / "damaged.pkl"
    for _ in range(300):  # from byte 11: the sizes before would only test the allocator
        flipped = bytearray(whole)
        flipped[draw.randrange(11, len(whole))] = draw.randrange(128)
        path.write_bytes(flipped)
        try:
            load_arrays(path)
        except InputError as error:
            assert "damaged.pkl" in str(error) and "\n" not in str(error)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.pkl: cannot be read"):
        load_arrays(tmp_path / "none.pkl")
