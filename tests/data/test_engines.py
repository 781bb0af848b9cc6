"""The rules in DuckDB and Spark: launch.prepare makes of their parts what it makes of the raw files."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import prepared
import pytest

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import reading
from llmesr_jax.data.engines import run
from llmesr_jax.data.engines.rule_sql import Columns
from llmesr_jax.data.rules import Rule

COLUMNS = Columns("uid", "sku", "stars", "at")
RULES = [
    Rule(core="none"),
    Rule(min_rating=2.0, date_from="1970-01-02", core="once", user_core=3, item_core=4),
    Rule(exact_duplicates="keep", core="iterated", user_core=4, item_core=5, date_to="1970-01-09"),
    Rule(duplicates="last", core="iterated", user_core=4, item_core=5, core_counts="distinct", min_length=5),
    Rule(duplicates="first", core="none", min_length=4),
]


def engines():
    """Those that are installed; Spark, whose Java starts slowly, among the slow tests."""
    for name, module, marks in (("duckdb", "duckdb", []), ("spark", "pyspark", [pytest.mark.slow])):
        if importlib.util.find_spec(module) is None:
            marks = [*marks, pytest.mark.skip(f"{module} is not installed")]
        yield pytest.param(name, marks=marks)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Three parts with many exact duplicates, ties in time, and rows without an id."""
    folder, rng = tmp_path_factory.mktemp("raw"), np.random.default_rng(0)
    for part in range(3):
        day = rng.integers(0, 12, 200)
        frame = pl.DataFrame(
            {
                "uid": rng.integers(5, 40, 200),
                "sku": [f" {'abcdefghijklmnopqrst'[i]} " if i else None for i in rng.integers(0, 20, 200)],
                "stars": rng.integers(1, 6, 200).astype(float),
                "at": day * 86_400 + 1,
            }
        )
        frame.write_parquet(folder / f"part-{part}.parquet")
    return folder


@pytest.fixture(scope="module")
def spark():
    """Few tasks for few rows."""
    if importlib.util.find_spec("pyspark") is None:
        return None
    from pyspark.sql import SparkSession

    settings = {"spark.sql.shuffle.partitions": 2, "spark.ui.enabled": False, "spark.driver.host": "127.0.0.1"}
    builder = SparkSession.builder.master("local[1]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    yield session
    session.stop()


def corpus(raw: Path, out: Path, flags):
    """Digest, times, raw ids."""
    prepared.run(raw, out, ["--importer=table", *flags])
    read = reading.load("shop", out)
    times = None if read.times is None else read.times.tolist()
    return read.digest, times, *((out / f"{kind}_ids.txt").read_text() for kind in ("user", "item"))


@pytest.mark.parametrize("engine", list(engines()))
@pytest.mark.parametrize("number", range(len(RULES)))
def test_prepare_makes_of_the_parts_what_it_makes_of_the_raw_files(raw, tmp_path, engine, number, request):
    if engine == "spark":
        request.getfixturevalue("spark")
    rule, default = RULES[number], Rule()
    counts = run.filter_folder(engine, raw, tmp_path / "parts", COLUMNS, rule)
    settings = {name: value for name, value in vars(rule).items() if value != getattr(default, name)}
    flags = ["--user_column=uid", "--item_column=sku", "--rating_column=stars", "--time_column=at"]
    wanted = corpus(
        raw, tmp_path / "wanted", [*flags, f"--core={rule.core}", *(f"--{k}={v}" for k, v in settings.items())]
    )
    found = corpus(
        tmp_path / "parts", tmp_path / "found", ["--time_column=time", "--time_unit=us", "--exact_duplicates=keep"]
    )
    assert found == wanted
    steps = prepared.manifest(tmp_path / "wanted")["steps"]
    assert [step._asdict() for step in counts] == steps
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found", "parts", "wanted"]


@pytest.mark.parametrize("engine", list(engines()))
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns", "float", "stamp", "day"])
def test_times_of_every_type(tmp_path, engine, unit, request):
    if engine == "spark":
        request.getfixturevalue("spark")
    micros = pl.Series("at", [1_500_000_000_123_457, 86_400_000_000, 1_600_000_000_999_999])
    made = {
        "s": micros // 1_000_000,
        "ms": micros // 1000,
        "us": micros,
        "ns": micros * 1000 + 999,
        "float": micros / 1_000_000,
        "stamp": micros.cast(pl.Datetime("us", "UTC")),
        "day": micros.cast(pl.Datetime("us")).cast(pl.Date),
    }[unit]
    if engine == "spark" and unit == "ns":
        made = made.cast(pl.Int64)
    (tmp_path / "raw").mkdir()
    pl.DataFrame({"user_id": ["a"] * 3, "item_id": ["x", "y", "z"], "at": made}).write_parquet(
        tmp_path / "raw" / "a.parquet"
    )
    flags = [f"--time_unit={unit}"] if unit in ("s", "ms", "us", "ns") else []
    columns = Columns(time_column="at", time_unit=unit if flags else "s")
    run.filter_folder(engine, tmp_path / "raw", tmp_path / "parts", columns, Rule(core="none"))
    wanted = corpus(tmp_path / "raw", tmp_path / "wanted", ["--time_column=at", *flags])
    assert corpus(tmp_path / "parts", tmp_path / "found", ["--time_column=time", "--time_unit=us"]) == wanted


@pytest.mark.parametrize("engine", list(engines()))
def test_ids_that_are_written_as_whole_floats_are_whole_numbers(tmp_path, engine, request):
    if engine == "spark":
        request.getfixturevalue("spark")
    (tmp_path / "raw").mkdir()
    items = ["12", "12.0", " -7.00 ", "-7", "1.0.0", "v2.0", "1.50", ".0"]
    pl.DataFrame({"user_id": ["3.0", "3"] * 4, "item_id": items}).write_parquet(tmp_path / "raw" / "a.parquet")
    run.filter_folder(engine, tmp_path / "raw", tmp_path / "parts", Columns(), Rule(core="none"))
    wanted = corpus(tmp_path / "raw", tmp_path / "wanted", ["--time_column=none"])
    assert corpus(tmp_path / "parts", tmp_path / "found", ["--time_column=none"]) == wanted
    found = pl.read_parquet(tmp_path / "parts")
    assert found["user_id"].to_list() == ["3"] * 8
    assert found["item_id"].to_list() == ["12", "12", "-7", "-7", "1.0.0", "v2.0", "1.50", ".0"]


@pytest.mark.parametrize("engine", list(engines()))
def test_a_rating_that_is_not_a_number_is_none(tmp_path, engine, request):
    if engine == "spark":
        request.getfixturevalue("spark")
    (tmp_path / "raw").mkdir()
    stars = [5.0, float("nan"), 2.0, 3.0, None]
    pl.DataFrame({"user_id": ["a"] * 5, "item_id": list("vwxyz"), "stars": stars}).write_parquet(
        tmp_path / "raw" / "a.parquet"
    )
    rule = Rule(core="none", min_rating=3.0)
    counts = run.filter_folder(engine, tmp_path / "raw", tmp_path / "parts", Columns(rating_column="stars"), rule)
    assert counts[-1].interactions == 2
    assert pl.read_parquet(tmp_path / "parts")["item_id"].to_list() == ["v", "y"]


@pytest.mark.skipif(importlib.util.find_spec("duckdb") is None, reason="duckdb is not installed")
def test_mistakes_are_one_line_and_leave_nothing(raw, tmp_path):
    def refused(rule=Rule(core="none"), raw=raw, out=tmp_path / "out", **columns):
        with pytest.raises(InputError) as caught:
            run.filter_folder("duckdb", raw, out, Columns(**{**vars(COLUMNS), **columns}), rule)
        return str(caught.value)

    assert "has no column 'user'" in refused(user_column="user")
    assert "column 'stars' holds DOUBLE; expected ids: text or whole numbers" in refused(item_column="stars")
    assert "column 'sku' holds VARCHAR; expected times" in refused(time_column="sku")
    (tmp_path / "lists").mkdir()
    pl.DataFrame({"uid": ["a"], "sku": [[1, 2, 3]], "stars": [[1.0, 2.0, 3.0]]}).write_parquet(
        tmp_path / "lists" / "a.parquet"
    )
    of_lists = {"raw": tmp_path / "lists", "time_column": ""}
    assert "column 'sku' holds BIGINT[]; expected ids: text or whole numbers" in refused(**of_lists, rating_column="")
    assert "column 'stars' holds DOUBLE[]; expected ratings: numbers" in refused(**of_lists, item_column="uid")
    shutil.rmtree(tmp_path / "lists")
    assert "the rule leaves no interaction" in refused(Rule(user_core=1000))
    assert "--min_rating: reads the rating, whose column is not named" in refused(
        Rule(min_rating=3.0), rating_column=""
    )
    assert f"{raw}: already exists" in refused(out=raw)
    assert "has no .parquet file" in refused(raw=tmp_path)
    assert list(tmp_path.iterdir()) == []
