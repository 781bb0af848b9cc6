import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmesr_jax.core.errors import InputError
from llmesr_jax.semantic.store import Store

_WIDTH = 3
_RECORD = 16 + 4 * _WIDTH + 4
_MADE_BY = {"encoder": "toy", "model": "m"}


def _key(n):
    return n.to_bytes(16, "big")


def _vectors(*numbers):
    return np.array([[n, -n, 0.5] for n in numbers], np.float32)


def _fill(folder, *numbers):
    with Store(folder, _MADE_BY) as store:
        for n in numbers:
            store.add([_key(n)], _vectors(n))


def _content(folder, **options):
    with Store(folder, _MADE_BY, **options) as store:
        keys = [int.from_bytes(key.tobytes(), "big") for key in store.keys]
        assert len(store) == len(keys)
        return dict(zip(keys, store.rows()(np.arange(len(keys))).tolist()))


def _wanted(*numbers):
    return {n: _vectors(n)[0].tolist() for n in numbers}


def test_what_was_added_is_there_for_the_next(tmp_path):
    with Store(tmp_path / "s", _MADE_BY) as store:
        assert store.width is None and len(store) == 0 and store.rows()(np.arange(0)).shape == (0, 0)
        store.add([_key(5), _key(7)], _vectors(5, 7))
        store.add([_key(1)], _vectors(1))
        np.testing.assert_array_equal(store.rows()(np.array([2, 0])), _vectors(1, 5))
    assert _content(tmp_path / "s") == _wanted(5, 7, 1)
    with Store(tmp_path / "s", _MADE_BY) as store:
        assert store.width == _WIDTH
        store.remove()
    assert not (tmp_path / "s").exists()


@given(cut=st.integers(0, 4 * _RECORD))
def test_a_torn_end_costs_the_torn_record_only(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("torn")
    _fill(folder, 1, 2, 3, 4)
    with (folder / "vectors.bin").open("rb+") as file:
        file.truncate(cut)
    whole = range(1, 1 + cut // _RECORD)
    assert _content(folder) == _wanted(*whole)
    _fill(folder, 9)
    assert _content(folder) == _wanted(*whole, 9)


@given(place=st.integers(0, 4 * _RECORD - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_costs_its_record_only(tmp_path_factory, place, bit):
    folder = tmp_path_factory.mktemp("flipped")
    _fill(folder, 1, 2, 3, 4)
    content = bytearray((folder / "vectors.bin").read_bytes())
    content[place] ^= 1 << bit
    (folder / "vectors.bin").write_bytes(content)
    sound = {1, 2, 3, 4} - {1 + place // _RECORD}
    assert _content(folder) == _wanted(*sound)
    _fill(folder, 9)
    assert _content(folder) == _wanted(*sorted(sound), 9)


@pytest.mark.parametrize(
    "vectors",
    [_vectors(1, 2), _vectors(np.nan), _vectors(np.inf), _vectors(1)[:, :2], _vectors(1).astype(float), _vectors(1)[0]],
    ids=["count", "nan", "inf", "width", "type", "shape"],
)
def test_what_is_no_vector_is_never_stored(tmp_path, vectors):
    _fill(tmp_path, 3)
    with Store(tmp_path, _MADE_BY) as store, pytest.raises(ValueError, match="expected"):
        store.add([_key(1)], vectors)
    assert _content(tmp_path) == _wanted(3)


@pytest.mark.parametrize("header", [None, "", "[]", '{"version": 1}', '{"version": 1, "width": 0, "made_by": {}}'])
def test_without_its_header_a_store_is_read_if_the_width_is_known(tmp_path, caplog, header):
    _fill(tmp_path, 1, 2)
    path = tmp_path / "store.json"
    path.unlink() if header is None else path.write_text(header)
    assert _content(tmp_path, width=_WIDTH) == _wanted(1, 2)
    path.unlink() if header is None else path.write_text(header)
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert _content(tmp_path) == {}
    assert "vectors.bin.old" in caplog.text and (tmp_path / "vectors.bin.old").stat().st_size == 2 * _RECORD


def test_another_width_starts_again(tmp_path):
    _fill(tmp_path, 1)
    assert _content(tmp_path, width=_WIDTH) == _wanted(1)
    assert _content(tmp_path, width=4) == {}
    with Store(tmp_path, _MADE_BY) as store:
        assert store.width == 4
    assert (tmp_path / "vectors.bin.old").stat().st_size == _RECORD


def test_one_process_at_a_time(tmp_path):
    with Store(tmp_path, _MADE_BY), pytest.raises(InputError, match="another launch.embed is using this folder;"):
        Store(tmp_path, _MADE_BY)
    assert _content(tmp_path) == {}
