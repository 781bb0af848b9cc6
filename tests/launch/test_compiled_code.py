"""What XLA compiled is kept in the user's cache folder, up to a size."""

import os

import jax
import pytest

from launch import cli


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of all kinds of processors' code; the settings of this process stay as they are."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    folder = tmp_path / "llmesr_jax" / "compiled"
    (folder / "another-cpu").mkdir(parents=True)
    return folder


def kept(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_what_was_unused_for_longest_is_deleted_once_there_is_too_much(cache, monkeypatch):
    """Five programs of 10 bytes, 25 allowed: the two used last stay, whenever they were written."""
    monkeypatch.setattr(cli, "MOST_COMPILED", 25)
    for number, (written, used) in enumerate([(1, 9), (5, 6), (3, 3), (8, 8), (2, 2)]):
        path = cache / "another-cpu" / f"program-{number}"
        path.write_bytes(b"0123456789")
        os.utime(path, (1e9 + used, 1e9 + written))
    (cache.parent / "tables").write_bytes(b"of something else")
    cli.keep_compiled_code()
    assert kept(cache) == ["program-0", "program-3"]
    assert (cache.parent / "tables").exists()
    cli.keep_compiled_code()
    assert kept(cache) == ["program-0", "program-3"]


def test_what_fits_stays_and_a_file_that_cannot_be_deleted_is_no_error(cache, monkeypatch):
    (cache / "another-cpu" / "program").write_bytes(b"0123456789")
    cli.keep_compiled_code()
    assert kept(cache) == ["program"] and cli.MOST_COMPILED == 2 * 2**30
    monkeypatch.setattr(cli, "MOST_COMPILED", 5)
    monkeypatch.setattr(cli.Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(PermissionError()))
    cli.keep_compiled_code()
    assert kept(cache) == ["program"]
