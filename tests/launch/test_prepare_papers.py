"""`launch.prepare` against the papers' counts, and the rules that meet them."""

import json

import prepared
import pytest
import raw_samples

from llmesr_jax.data import known, reading
from llmesr_jax.data.summary import describe

PAPERS = {
    "yelp": {"users": 15_720, "items": 11_383, "interactions": 192_214, "mean_length": 12.23},
    "beauty": {"users": 52_204, "items": 57_289, "interactions": 394_908, "mean_length": 7.56},
}


def check_papers(name, raw, out):
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["counts"] == manifest["papers"]["papers"] == PAPERS[name]
    assert manifest["papers"]["match"] is True and set(manifest["papers"]["difference"].values()) == {0}
    assert reading.load(name, out).digest == reading.read_folder(name, raw).digest


@pytest.mark.slow
def test_the_papers_counts_are_met_and_the_manifest_says_so(shared, prepare, tmp_path):
    raw = shared / "data" / "yelp"
    result = prepare("--dataset=yelp", "--importer=handled", f"--raw_dir={raw}", cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert "the counts match the papers'\n" in result.out
    check_papers("yelp", raw, tmp_path / "data" / "yelp")
    raw = shared / "data" / "beauty"
    outcome = prepared.run(raw, tmp_path / "out", ["--importer=handled"], dataset="beauty")
    assert "the counts match the papers'\n" in describe(outcome)
    check_papers("beauty", raw, tmp_path / "out")


@pytest.mark.slow
def test_beauty5_out_of_raw_reviews(shared, tmp_path):
    """Reviews written as Amazon's 5-core file are, from interactions that are known: the rule changes nothing."""
    folder = shared / "data" / "beauty5"
    (tmp_path / "raw").mkdir()
    pairs = [line.split() for line in (folder / "inter.txt").read_text().splitlines()]
    reviews = (
        f'{{"reviewerID": "A{user}", "asin": "B{item}", "overall": 5.0, "unixReviewTime": {1_262_304_000 + at // 3}}}'
        for at, (user, item) in enumerate(pairs)  # three reviews at a time: ties, in file order
    )
    raw_samples.gzipped(tmp_path / "raw" / "reviews_Beauty_5.json.gz", reviews)
    items = map(json.loads, (folder / "items.jsonl").read_text().splitlines())
    metadata = (repr({"asin": f"B{record['item_id']}", "title": record["title"]}) for record in items)
    raw_samples.gzipped(tmp_path / "raw" / "meta_Beauty.json.gz", metadata)
    flags = ["--core=iterated"]  # what the data set has, too
    outcome = prepared.run(tmp_path / "raw", tmp_path / "out", flags, dataset="beauty5")
    assert outcome.manifest["papers"]["match"] is True
    ours, theirs = reading.load("beauty5", tmp_path / "out"), reading.read_folder("beauty5", folder)
    assert (ours.digest, ours.item_titles) == (theirs.digest, theirs.item_titles)


def test_counts_that_miss_the_papers_are_told(tmp_path):
    args = raw_samples.write("amazon2018", tmp_path / "raw")
    flags = [*args, "--core=iterated", "--user_core=1", "--item_core=1"]
    outcome = prepared.run(tmp_path / "raw", tmp_path / "out", flags, dataset="fashion")
    assert outcome.manifest["papers"]["match"] is False
    assert outcome.manifest["papers"]["difference"] == {"users": -9045, "items": -4717, "mean_length": -0.82}
    told = "the counts differ from the papers': users -9,045, items -4,717, mean_length -0.82\n"
    assert told in describe(outcome)


def test_the_named_rules_are_those_of_the_protocol(tmp_path):
    """What decides the counts, as the table of the protocol says it."""
    rules = {name: known.DATASETS[name].rule for name in known.DATASETS}
    core = {name: (rule.core, rule.user_core, rule.item_core) for name, rule in rules.items()}
    assert core["fashion"] == ("iterated", 3, 2)
    assert core["beauty"] == core["grocery"] == ("once", 5, 5)
    assert core["yelp"] == ("once", 3, 3) and rules["yelp"].date_to == "2019-12-31"
    assert core["beauty5"] == ("iterated", 5, 5)
    assert all(rule.duplicates == "all" and rule.min_rating is None for rule in rules.values())
