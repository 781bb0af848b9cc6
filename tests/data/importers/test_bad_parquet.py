"""Parquet files that are damaged or do not fit, and what polars makes of them."""

import re

import polars as pl
import prepared
import pytest
import raw_samples

from llmesr_jax.data import isolated, prepare


def test_dates_of_another_form_in_parquet(refused, tmp_path):
    (tmp_path / "raw").mkdir()
    frame = pl.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"], "at": ["31 Dec 2019", "30 Dec 2019"]})
    frame.write_parquet(tmp_path / "raw" / "log.parquet")
    message = refused("--importer=table", "--time_column=at", "--max_bad_lines=0")
    assert "all 2 rows are without a usable value of each of user_id, item_id, at (a time in ISO 8601, such" in message
    assert "--max_bad_lines" not in message


@pytest.mark.parametrize("spoiled", [b"", b"PAR1", b"PAR1" + b"\0" * 100 + b"PAR1", None])
def test_a_damaged_parquet_part(spoiled, refused, tmp_path):
    flags = raw_samples.write("parquet", tmp_path / "raw")
    path = tmp_path / "raw" / "log" / "part-1.parquet"
    path.write_bytes(path.read_bytes()[:-20] if spoiled is None else spoiled)
    message = refused(*flags)
    assert "cannot be read" in message and not re.search(r"[\"']\); expected", message)


def test_parquet_parts_of_two_types(refused, tmp_path):
    flags = raw_samples.write("parquet", tmp_path / "raw")
    path = tmp_path / "raw" / "log" / "part-1.parquet"
    pl.read_parquet(path).with_columns(uid=pl.lit(1)).write_parquet(path)
    assert (
        "part-1.parquet: column 'uid' holds Int32, but String in part-0.parquet; expected the same type in all parts;"
        in refused(*flags)
    )


def test_parquet_rows_that_lack_a_value(refused, tmp_path):
    flags = raw_samples.write("parquet", tmp_path / "raw")
    path = tmp_path / "raw" / "log" / "part-1.parquet"
    whole = pl.read_parquet(path)
    lacking = pl.DataFrame(
        {"uid": [None, "", "a", "b", "c\nd"], "sku": ["x", "x", None, "x", "y"], "stars": [1.0, 1, 1, float("nan"), 1],
         "when": [whole["when"][0]] * 5}
    )  # fmt: skip
    pl.concat([whole, lacking]).write_parquet(path)
    assert "/raw/log: 1 row without a usable value of each of uid, sku, stars, when" in refused(
        *flags, "--max_bad_lines=0", "--min_rating=0"
    )
    outcome = prepared.run(tmp_path / "raw", tmp_path / "out", [*flags, "--max_bad_lines=1", "--min_rating=0"])
    assert outcome.manifest["malformed_lines"]["count"] == 1
    assert outcome.manifest["dropped"] == {"rows without an id": 3, "rows without a rating": 1}
    assert prepared.sequences(tmp_path / "out") == raw_samples.SEQUENCES


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "os._exit(1)", "raise SystemExit('PanicException: x')"])
def test_parquet_that_takes_polars_process_down(refused, tmp_path, monkeypatch, end):
    """As an absurd length in a damaged page does, which no exception tells."""
    flags = raw_samples.write("parquet", tmp_path / "raw")
    monkeypatch.setattr(isolated, "_PROGRAM", f"import os; {end}")
    assert "/raw/log: cannot be read (the file is damaged); expected whole Parquet files" in refused(*flags)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (pl.exceptions.PanicException("called `Option::unwrap()`"), "the file is damaged"),
        (pl.exceptions.ComputeError("parquet: too short\nmore"), "parquet: too short"),
    ],
)
def test_what_polars_cannot_stand_is_one_line(refused, tmp_path, monkeypatch, error, told):
    def fails(*_, **__):
        raise error

    flags = raw_samples.write("csv", tmp_path / "raw")
    monkeypatch.setattr(prepare.preprocess, "apply", fails)
    assert refused(*flags) == f"/raw: cannot be read ({told}); expected whole files of --importer=table"


def test_another_s_error_is_not_of_the_raw_files(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise TypeError("a bug")

    flags = raw_samples.write("csv", tmp_path / "raw")
    monkeypatch.setattr(prepare.preprocess, "apply", fails)
    with pytest.raises(TypeError, match="a bug"):
        prepared.run(tmp_path / "raw", tmp_path / "out", flags)
