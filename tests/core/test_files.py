"""Files are written whole or not at all."""

import hashlib
import json
from pathlib import Path

import pytest

from llmesr_jax.core import files


def test_a_text_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    files.write_text(path, json.dumps({"a": 1}))
    with monkeypatch.context() as patch, pytest.raises(OSError, match="full"):
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
        files.write_text(path, "half")
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_fails_changes_nothing(tmp_path):
    path = tmp_path / "ranks.npz"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), files.replacing(path) as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("size", [0, 1, 2**22, 2**22 + 1])
def test_a_digest_is_that_of_all_bytes(tmp_path, size):
    (tmp_path / "x").write_bytes(bytes(range(256)) * (size // 256) + b"a" * (size % 256))
    assert files.sha256(tmp_path / "x") == hashlib.sha256((tmp_path / "x").read_bytes()).hexdigest()
