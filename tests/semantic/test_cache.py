import json

import numpy as np
import pytest

from llmesr_jax.semantic.cache import Cache, Recipe, first_writable, user_folder

_RECIPE = Recipe("double", 1, {"width": 2}, {"texts": "abc"})
_FILES = ("a.npy", "b.npy")
_ARRAYS = (np.arange(6, dtype=np.int32).reshape(2, 3), np.full((2, 2), 0.5, np.float32))


def _fail():
    raise AssertionError("built again")


def _get(cache, build, recipe=_RECIPE):
    return cache.arrays(_FILES, recipe, build)


def _assert_same(arrays):
    for array, wanted in zip(arrays, _ARRAYS, strict=True):
        np.testing.assert_array_equal(array, wanted, strict=True)


@pytest.fixture
def cache(tmp_path):
    cache = Cache(tmp_path / "cache")
    _assert_same(_get(cache, lambda: _ARRAYS))
    return cache


def test_a_second_run_reads_what_the_first_one_made(cache):
    _assert_same(_get(Cache(cache.folder), _fail))
    assert sorted(path.name for path in cache.folder.iterdir()) == ["a.npy", "b.npy", "manifest.json"]
    np.testing.assert_array_equal(np.load(cache.folder / "a.npy", allow_pickle=False), _ARRAYS[0])


def test_the_manifest_says_what_made_each_array(cache):
    entry = json.loads((cache.folder / "manifest.json").read_text())["arrays"]["a.npy"]
    assert entry.pop("sha256") and entry.pop("created")
    assert entry == {
        "made_by": "double", "version": 1, "parameters": {"width": 2}, "inputs": {"texts": "abc"}, "shape": [2, 3],
        "dtype": "int32",
    }  # fmt: skip


@pytest.mark.parametrize(
    "change", [{"made_by": "triple"}, {"version": 2}, {"parameters": {"width": 3}}, {"inputs": {"texts": "abd"}}]
)
def test_another_recipe_is_made_again_and_replaces(cache, change):
    recipe = Recipe(**{**vars(_RECIPE), **change})
    other = tuple(array + 1 for array in _ARRAYS)
    np.testing.assert_array_equal(_get(cache, lambda: other, recipe)[0], other[0])
    np.testing.assert_array_equal(_get(cache, _fail, recipe)[1], other[1])
    _assert_same(_get(cache, lambda: _ARRAYS))


def _flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", [*_FILES, "manifest.json"])
@pytest.mark.parametrize(
    "damage",
    [
        _flip_a_bit,
        lambda path: path.write_bytes(path.read_bytes()[:-20]),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
        lambda path: path.write_text("[]"),
        lambda path: path.write_text('{"arrays": [], "sources": 3}'),
        lambda path: path.write_text('{"arrays": {"a.npy": 1, "b.npy": {}}, "sources": {}}'),
    ],
    ids=["bit", "truncated", "empty", "gone", "other", "wrong-parts", "wrong-entries"],
)
def test_damage_is_noticed_and_mended(cache, file, damage):
    damage(cache.folder / file)
    _assert_same(_get(cache, lambda: _ARRAYS))
    _assert_same(_get(cache, _fail))


def test_what_cannot_be_written_is_computed(tmp_path):
    (tmp_path / "file").touch()
    cache = Cache(tmp_path / "file" / "cache")  # cannot be made below a file, whoever runs this
    for _ in range(2):
        _assert_same(_get(cache, lambda: _ARRAYS))
    _assert_same(_get(Cache(None), lambda: _ARRAYS))
    assert Cache(None).file_digests({tmp_path / "file": (1, lambda: None)})


def test_a_failed_write_leaves_the_old_file_and_no_other(cache, monkeypatch):
    before = (cache.folder / "a.npy").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    other = Recipe("double", 2, {}, {})
    _assert_same(_get(cache, lambda: _ARRAYS, other))
    assert (cache.folder / "a.npy").read_bytes() == before
    assert sorted(path.name for path in cache.folder.iterdir()) == ["a.npy", "b.npy", "manifest.json"]


def test_folder_falls_back_to_the_next_writable_one_and_makes_nothing(tmp_path):
    (tmp_path / "file").touch()
    bad, good = tmp_path / "file" / "cache", tmp_path / "deep" / "cache"
    assert first_writable(bad, good) == good and not good.parent.exists()
    assert first_writable(good, bad) == good
    assert first_writable(bad) is None


def test_user_folder_follows_xdg(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_folder("demo") == tmp_path / "llmesr_jax" / "demo"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_folder("demo") == tmp_path / ".cache" / "llmesr_jax" / "demo"


def test_a_file_is_read_and_checked_once_until_it_or_its_rows_change(tmp_path):
    path, cache, checked = tmp_path / "x.npy", Cache(tmp_path / "cache"), []
    path.write_bytes(b"one")

    def sha256(rows=3):
        return cache.file_digests({path: (rows, lambda: checked.append(rows))})[path]

    first = sha256()
    assert first == sha256() and checked == [3]
    assert first == sha256(rows=4) and checked == [3, 4]
    path.write_bytes(b"three")
    assert first != sha256(rows=4) and checked == [3, 4, 4]


def test_nothing_is_recorded_before_all_files_pass(tmp_path):
    (tmp_path / "good").touch()
    (tmp_path / "bad").touch()

    def refuse():
        raise ValueError("bad")

    cache = Cache(tmp_path / "cache")
    with pytest.raises(ValueError, match="bad"):
        cache.file_digests({tmp_path / "good": (1, lambda: None), tmp_path / "bad": (1, refuse)})
    assert not cache.folder.exists()
