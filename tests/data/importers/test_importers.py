"""Every source, in its exact format with its oddities, says the same interactions and the same items."""

import json

import polars as pl
import prepared
import pytest
import raw_samples
from hypothesis import given, settings
from hypothesis import strategies as st

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import importers, reading
from llmesr_jax.data.importers import Downloads, amazon2014
from llmesr_jax.data.values import Malformed

NO_TITLES = {"sequences"}


@pytest.mark.parametrize("source", raw_samples.SOURCES)
def test_a_source_is_read_as_it_is(source, tmp_path):
    outcome, out = prepared.sample(source, tmp_path)
    assert prepared.sequences(out) == raw_samples.SEQUENCES
    wanted = ("1 2 3 4 5".split(), "1 2 3 4".split()) if source == "handled" else (raw_samples.ITEMS, raw_samples.USERS)
    for kind, ids in zip(("item", "user"), wanted):
        assert (out / f"{kind}_ids.txt").read_text().splitlines() == ids
    if source not in NO_TITLES:
        titles = reading.load("shop", out).item_titles
        assert list(titles) == [raw_samples.TITLES[item] for item in raw_samples.ITEMS]
    assert outcome.manifest["malformed_lines"]["count"] == 0
    assert outcome.manifest["counts"] == {"users": 4, "items": 5, "interactions": 12, "mean_length": 3.0}


@pytest.mark.slow
@pytest.mark.parametrize("source", sorted(set(raw_samples.SOURCES) - {"handled", "sequences", "recbole_lists"}))
def test_ratings_and_times_are_read(source, tmp_path):
    """4 stars and more, up to the fourth day, leave nobody 3; 3 and more, up to the eighth, nine of twelve."""
    flags = ["--min_rating=4", "--date_to=2010-01-04"]
    with pytest.raises(InputError, match="no user is left with 3 interactions"):
        prepared.sample(source, tmp_path / "few", *flags)
    outcome, out = prepared.sample(source, tmp_path / "more", "--min_rating=3", "--date_to=2010-01-09 00:00:00")
    steps = [(step["step"], step["interactions"]) for step in outcome.manifest["steps"]]
    assert steps == [("raw", 12), ("rating >= 3", 10), ("up to 2010-01-09 00:00:00", 9)]


def items(out):
    records = map(json.loads, (out / "items.jsonl").read_text(encoding="utf-8").split("\n")[:-1])
    return {record["title"] or record["item_id"]: record for record in records}


def test_amazon_2014_metadata(tmp_path):
    outcome, out = prepared.sample("amazon2014", tmp_path)
    found = items(out)
    assert found['Rose & "Thorn" balm'] == {
        "item_id": 3, "title": 'Rose & "Thorn" balm', "asin": "x", "price": 3.17, "brand": "Ada's",
        "categories": [["Beauty", "Skin Care"], ["Health"]], "description": 'It\'s "new"\\d',
    }  # fmt: skip
    assert found["Comb"] == {"item_id": 1, "title": "Comb", "asin": "y", "categories": [["Beauty"]], "price": 1}
    assert found["Köln water"]["description"] == "two lines"
    assert outcome.manifest["item_records"] == {
        "with_record": 4, "without_record": 1, "without_title": 2, "repeated": 1, "of_no_item": 1
    }  # fmt: skip


def test_amazon_2018_metadata(tmp_path):
    _, out = prepared.sample("amazon2018", tmp_path)
    found = items(out)
    assert found['Rose & "Thorn" balm'] == {
        "item_id": 3, "title": 'Rose & "Thorn" balm', "asin": "x", "brand": "Ada", "price": "$1.99 - $3.50",
        "feature": ["Soft", "Imported & tested"], "description": ["One.", "Two."], "date": "5 star5 star (0%)",
        "category": ["Fashion", "Women"],
    }  # fmt: skip
    assert found["Comb"] == {"item_id": 1, "title": "Comb", "asin": "y", "description": "A string."}


def test_amazon_2023_metadata(tmp_path):
    _, out = prepared.sample("amazon2023", tmp_path)
    found = items(out)
    rose = found['Rose & "Thorn" balm']
    assert (rose["brand"], rose["date"], rose["parent_asin"]) == ("Eve", "May 1, 2019", "x")
    assert not rose.keys() & {"images", "videos", "features", "categories"}
    assert found["Comb"]["brand"] == "Ada" and "price" not in found["Comb"]


def test_yelp_businesses(tmp_path):
    _, out = prepared.sample("yelp", tmp_path)
    found = items(out)
    assert found['Rose & "Thorn" balm'] == {
        "item_id": 3, "title": 'Rose & "Thorn" balm', "business_id": "x", "city": "Köln", "stars": 4.5,
        "review_count": 7, "is_open": 1, "categories": "Food, Balms",
    }  # fmt: skip
    assert (found["Comb"]["open"], found["Comb"]["type"]) == (False, "business")


def test_fields_that_prompts_look_for(tmp_path):
    _, out = prepared.sample("movielens", tmp_path / "movielens")
    assert items(out)['Rose & "Thorn" balm']["categories"] == ["Drama", "War"]
    _, out = prepared.sample("recbole", tmp_path / "recbole")
    assert items(out)['Rose & "Thorn" balm'] == {
        "item_id": 3, "title": 'Rose & "Thorn" balm', "raw_id": "x", "categories": "A B"
    }  # fmt: skip
    _, out = prepared.sample("parquet", tmp_path / "parquet")
    assert items(out)["Comb"] == {"item_id": 1, "title": "Comb", "raw_id": "y", "tags": ["a", "b"]}


@pytest.mark.parametrize(
    "line",
    ["__import__('os').mkdir('harm')", "{'a': __import__('os')}", "{'a': (lambda: 1)()}", "[" * 5000, "{'a': " * 5000,
     "-" * 10_000 + "1", "{'a': 1}}", "{'a': '\\ud800", "{1: 2}[1]", "{'a': 9**9**9}", "'" * 3, "", "{'a'}", "{[]: 1}",
     "{'a': " + "9" * 5000 + "}", "{'a': 1" + " " * (1 << 20) + "}", "\0"],
)  # fmt: skip
def test_a_literal_builds_a_dict_and_runs_nothing(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Malformed):
        amazon2014.literal(line.encode())
    assert not list(tmp_path.iterdir())


def test_literals_that_json_does_not_have():
    line = "{'asin': 'x', 'a': None, 'b': (1, -2.5), 'c': u'\\u00e9', 'd': \"it's\", 'e': '\\/\\d', 'f': True}"
    assert amazon2014.literal(line.encode()) == {
        "asin": "x", "a": None, "b": (1, -2.5), "c": "é", "d": "it's", "e": "\\/\\d", "f": True
    }  # fmt: skip


IDS = st.text(max_size=4) | st.sampled_from(["a", "b,", '"', "'", "\\", "a b", " a", "é", "\n", "\r", "", "\0", "1"])


@pytest.mark.slow
@settings(max_examples=20)
@given(rows=st.lists(st.tuples(IDS, IDS, st.integers(-1, 5)), min_size=1, max_size=30))
def test_any_ids_read_the_same_from_every_kind_of_table(rows, tmp_path_factory):
    """Strange ids survive, and what is no id or no time is left out and counted, in each of the three alike."""
    frame = pl.DataFrame(rows, schema={"user_id": pl.String, "item_id": pl.String, "at": pl.Int64}, orient="row")
    found = []
    for kind in ("csv", "jsonl", "parquet"):
        raw = tmp_path_factory.mktemp(kind) / "raw"
        raw.mkdir()
        write = {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[kind]
        write(raw / f"log.{kind}")
        try:
            outcome = prepared.run(raw, raw.parent / "out", ["--importer=table", "--time_column=at"])
        except InputError:
            found.append("refused")
        else:
            contents = prepared.contents(raw.parent / "out")
            del contents["manifest.json"]
            found.append((contents, outcome.manifest["counts"], outcome.manifest["malformed_lines"]["count"]))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("name", importers.PLUGINS.names())
def test_every_importer_keeps_the_contract(name, tmp_path):
    module = importers.PLUGINS.load(name)
    assert isinstance(module.downloads(module.Options()), Downloads)
    downloads = module.downloads(module.Options())
    assert bool(downloads.base_url) != bool(downloads.terms)
    options = module.Options(category="Beauty") if name.startswith("amazon") else module.Options()
    for folder, what in ((tmp_path / "absent", "no such folder"), (tmp_path, "(has|found) no")):
        with pytest.raises(InputError, match=rf"{what}.*expected .*--\w+") as caught:
            module.locate(folder, options)
        assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("unit, scale", [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_units_of_time(kind, unit, scale, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    frame = pl.DataFrame({"user_id": [1, 1, 1], "item_id": [7, 8, 9], "at": [3 * scale, 1 * scale, 2 * scale]})
    {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[kind](raw / f"log.{kind}")
    flags = ["--importer=table", "--time_column=at", f"--time_unit={unit}"]
    prepared.run(raw, tmp_path / "out", flags)
    assert (tmp_path / "out" / "item_ids.txt").read_text().split() == ["8", "9", "7"]
    outcome = prepared.run(raw, tmp_path / "dated", [*flags, "--date_to=1970-01-01 00:00:03"])
    assert outcome.manifest["steps"][-1]["interactions"] == 3
    with pytest.raises(InputError, match="leaves no interaction|3 interactions"):
        prepared.run(raw, tmp_path / "early", [*flags, "--date_to=1970-01-01 00:00:02"])


@pytest.mark.parametrize("times", [pl.Series([3, 1, 2]).cast(pl.Datetime("ms")), pl.Series([3, 1, 2]).cast(pl.Date),
                                   pl.Series(["1999-01-03", "1999-01-01", "1999-01-02"]),
                                   pl.Series(["1999-01-01 00:00:03", "1999-01-01 00:00:01", "1999-01-01 00:00:02"]),
                                   pl.Series(["3", "1", "2.5"])])  # fmt: skip
def test_kinds_of_time_in_parquet(times, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    pl.DataFrame({"user_id": ["u"] * 3, "item_id": ["x", "y", "z"], "at": times}).write_parquet(raw / "log.parquet")
    prepared.run(raw, tmp_path / "out", ["--importer=table", "--time_column=at"])
    assert (tmp_path / "out" / "item_ids.txt").read_text().split() == ["y", "z", "x"]
