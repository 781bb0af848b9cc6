"""Parquet of others is read in a process of its own, whatever that does."""

import random

import polars as pl
import pytest

from llmesr_jax.data import isolated
from llmesr_jax.data.isolated import Failed

# fmt: off
TYPES = pl.Schema({
    "text": pl.String, "bytes": pl.Binary, "day": pl.Date, "at": pl.Datetime("ns", "UTC"), "list": pl.List(pl.Int32),
    "few": pl.Enum(["a", "b"]), "kind": pl.Categorical(), "exact": pl.Decimal(9, 2), "nothing": pl.Null,
    "both": pl.Struct({"a": pl.UInt8, "b": pl.List(pl.String)}), "pair": pl.Array(pl.Float32, 2), "flag": pl.Boolean,
})  # fmt: on


@pytest.fixture
def paths(tmp_path):
    """Two files, of three rows and of none."""
    paths = [tmp_path / "one.parquet", tmp_path / "tw\u00f6.parquet"]
    pl.DataFrame({name: [None] * 3 for name in TYPES}, schema=TYPES).write_parquet(paths[0])
    pl.DataFrame(schema={"id": pl.Int64}).write_parquet(paths[1])
    return paths


def test_footers_are_those_that_polars_reads(paths):
    found = isolated.footers(paths)
    assert [file.path for file in found] == paths and [file.rows for file in found] == [3, 0]
    assert [file.schema for file in found] == [pl.read_parquet_schema(path) for path in paths]
    assert all(isinstance(file.schema, pl.Schema) for file in found)


def test_the_first_file_that_fails_is_named(paths, tmp_path):
    (tmp_path / "text").write_text("a,b\n")
    with pytest.raises(Failed, match="out of specification") as caught:
        isolated.footers([paths[0], tmp_path / "text", tmp_path / "absent"])
    assert caught.value.path == tmp_path / "text" and "\n" not in str(caught.value)


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "os._exit(1)", "raise pl.exceptions.PanicException('x')"])
def test_a_file_that_takes_the_process_down_is_named(paths, monkeypatch, capfd, end):
    program = isolated._FOOTERS.replace("    try:\n", f"    if path.endswith('tw\u00f6.parquet'): {end}\n    try:\n")
    monkeypatch.setattr(isolated, "_FOOTERS", "import os\n" + program)
    with pytest.raises(Failed, match="^the file is damaged$") as caught:
        isolated.footers(paths)
    assert caught.value.path == paths[1]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("seed", range(4))
def test_of_damage_nothing_is_written_on_the_terminal(paths, capfd, seed):
    rng, content = random.Random(seed), bytearray(paths[0].read_bytes())
    for _ in range(4):
        content[-rng.randrange(9, 600)] = rng.randrange(256)
    paths[0].write_bytes(content)
    try:
        isolated.footers(paths)
    except Failed as error:
        assert "\n" not in str(error)
    assert capfd.readouterr() == ("", "")
