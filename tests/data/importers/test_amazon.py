"""Amazon's releases: ratings without reviews, ids that are not there, times of another unit."""

import gzip
import json
import zipfile

import prepared
import pytest
import raw_samples

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.importers import amazon2014, amazon2018, amazon2023
from llmesr_jax.data.summary import describe

ASINS = {item: f"B00000{n:04d}" for n, item in enumerate(raw_samples.ITEMS)}
USERS = {user: f"A{n}SGXH7AUHU8GW" for n, user in enumerate(raw_samples.USERS)}
USER_FIRST = [f"{USERS[u]},{ASINS[i]},{r},{t}" for u, i, r, t in raw_samples.ROWS]
ITEM_FIRST = [f"{ASINS[i]},{USERS[u]},{r},{t}" for u, i, r, t in raw_samples.ROWS]


def run(tmp_path, release, name, lines, *flags, category="Toys_and_Games"):
    content = "".join(f"{line}\n" for line in lines).encode()
    path = tmp_path / "raw" / name
    path.parent.mkdir(exist_ok=True)
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"data/{name[:-4]}", content)
    else:
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    flags = [f"--importer=amazon{release}", f"--category={category}", *flags]
    outcome = prepared.run(tmp_path / "raw", tmp_path / "out", flags)
    assert prepared.sequences(tmp_path / "out") == raw_samples.SEQUENCES
    return outcome, (tmp_path / "out" / "item_ids.txt").read_text().splitlines()


@pytest.mark.parametrize("end", ["", ".gz", ".zip"])
@pytest.mark.parametrize(
    "release, name, lines",
    [
        ("2014", "ratings_Toys_and_Games.csv", USER_FIRST),
        ("2018", "Toys_and_Games.csv", ITEM_FIRST),
        (
            "2023",
            "Toys_and_Games.csv",
            ["user_id,parent_asin,rating,timestamp", *(f"{line}000" for line in USER_FIRST)],
        ),
        ("2023", "Toys_and_Games.csv", [f"{line}000" for line in USER_FIRST]),  # as the first files were
    ],
)
def test_ratings_without_reviews(release, name, lines, end, tmp_path):
    outcome, ids = run(tmp_path, release, name + end, lines)
    assert ids == list(ASINS.values())
    (note,) = outcome.manifest["notes"]
    assert note.startswith("--raw_dir has no reviews, so the ratings of ") and name in note
    assert note in describe(outcome).splitlines()


def test_reviews_come_first_unless_ratings_are_asked_for(tmp_path):
    raw_samples.write("amazon2014", tmp_path / "raw")
    outcome, ids = run(tmp_path, "2014", "ratings_Beauty.csv", USER_FIRST, category="Beauty")
    assert ids == raw_samples.ITEMS and outcome.manifest["notes"] == []
    (tmp_path / "raw" / "meta_Beauty.json.gz").unlink()  # of other items
    flags = ["--subset=ratings", "--overwrite"]
    outcome, ids = run(tmp_path, "2014", "ratings_Beauty.csv", USER_FIRST, *flags, category="Beauty")
    assert ids == list(ASINS.values()) and outcome.manifest["notes"] == []
    with pytest.raises(InputError, match="has no reviews_Beauty_5.json.gz or reviews_Beauty_5.json; expected"):
        run(tmp_path, "2014", "ratings_Beauty.csv", USER_FIRST, "--subset=5core", category="Beauty")


@pytest.mark.parametrize(
    "release, name, lines, told",
    [
        ("2014", "ratings_Toys_and_Games.csv", ITEM_FIRST, "column 1 holds ASINs and column 2 does not"),
        ("2018", "Toys_and_Games.csv", USER_FIRST, "column 2 holds ASINs and column 1 does not"),
        ("2023", "Toys_and_Games.csv", [f"{line}000" for line in ITEM_FIRST], "column 1 holds ASINs"),
    ],
)
def test_columns_in_another_order_are_seen_and_told(release, name, lines, told, tmp_path):
    outcome, ids = run(tmp_path, release, name, lines)
    assert ids == list(ASINS.values()) and told in outcome.manifest["notes"][1]


@pytest.mark.parametrize(
    "header",
    ["UserId,ProductId,Rating,Timestamp", "reviewerID,asin,overall,unixReviewTime", '"user","item","rating","time"'],
)
def test_a_header_that_copies_have_is_no_row(header, tmp_path):
    outcome, ids = run(tmp_path, "2014", "ratings_Toys_and_Games.csv", [header, *USER_FIRST], "--max_bad_lines=0")
    assert ids == list(ASINS.values())
    header = ",".join(header.split(",")[n] for n in (1, 0, 2, 3))
    _, again = run(tmp_path, "2014", "ratings_Toys_and_Games.csv", [header, *ITEM_FIRST], "--overwrite")
    assert again == ids


def test_a_row_with_fewer_fields_than_the_header_is_malformed(tmp_path):
    rows = [line.replace(",", ",a title,", 1) for line in USER_FIRST]
    lines = ["user,title,item,rating,time", *rows[:5], USER_FIRST[0], *rows[5:]]
    outcome, _ = run(tmp_path, "2014", "ratings_Toys_and_Games.csv", lines)
    malformed = outcome.manifest["malformed_lines"]
    assert malformed["count"] == 1
    assert malformed["first"][0].endswith("csv, line 7: expected at least 5 fields as in the header, not 4")


def test_a_header_of_other_names(tmp_path):
    with pytest.raises(
        InputError, match=r"csv, line 1: has the columns who, what, stars, when; expected user_id.*=table"
    ):
        run(tmp_path, "2014", "ratings_Toys_and_Games.csv", ["who,what,stars,when", *USER_FIRST])


def test_seconds_where_milliseconds_are_wanted(tmp_path):
    lines = ["user_id,parent_asin,rating,timestamp", *USER_FIRST]
    with pytest.raises(
        InputError, match="line 2: expected a time from 1995 to 2100 in ms since 1970, not '1262563200'"
    ):
        run(tmp_path, "2023", "Toys_and_Games.csv", lines)
    reviews = [
        json.dumps({"user_id": u, "parent_asin": i, "rating": r, "timestamp": t}) for u, i, r, t in raw_samples.ROWS
    ]
    with pytest.raises(InputError, match="line 1: expected a time from 1995 to 2100 in ms since 1970, not 1262563200"):
        run(tmp_path, "2023", "Toys_and_Games.jsonl", reviews)


def reviews(**changes):
    keys = {"user_id": 0, "parent_asin": 1, "rating": 2, "timestamp": 3}
    rows = [{key: row[n] * (1000 if n == 3 else 1) for key, n in keys.items()} for row in raw_samples.ROWS]
    return [json.dumps({k: v for k, v in (row | changes).items() if v != "-"}) for row in rows]


def test_reviews_without_parent_asin_have_an_asin(tmp_path):
    lines = [line.replace('"parent_asin"', '"asin"') for line in reviews()[:5]] + reviews(asin="other")[5:]
    outcome, ids = run(tmp_path, "2023", "Toys_and_Games.jsonl", lines)
    assert ids == raw_samples.ITEMS
    (note,) = outcome.manifest["notes"]
    assert note == "Toys_and_Games.jsonl: 5 reviews have no parent_asin; their asin was used as the item's id"


def test_rows_without_an_id_and_without_a_rating(tmp_path):
    extra = [json.dumps({"user_id": None, "parent_asin": "x"}), json.dumps({"user_id": "a", "parent_asin": " nan"})]
    outcome, _ = run(tmp_path, "2023", "Toys_and_Games.jsonl", [*reviews(rating=None), *extra])
    assert (
        outcome.manifest["dropped"] == {"rows without an id": 2} and outcome.manifest["malformed_lines"]["count"] == 0
    )
    flags = ["--importer=amazon2023", "--category=Toys_and_Games", "--min_rating=1"]
    with pytest.raises(InputError, match="leaves no interaction|every row was left out"):
        prepared.run(tmp_path / "raw", tmp_path / "rated", flags)
    lines = [line.replace(",5.0,", ",,") for line in USER_FIRST] + [",B000000000,5.0,1262563200"]
    outcome, _ = run(tmp_path, "2014", "ratings_Toys_and_Games.csv", lines, "--overwrite")
    assert (
        outcome.manifest["dropped"] == {"rows without an id": 1} and outcome.manifest["malformed_lines"]["count"] == 0
    )


@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_a_part_of_a_split_is_no_whole(part, tmp_path):
    lines = ["user_id,parent_asin,rating,timestamp,history", *(f"{line}000," for line in USER_FIRST)]
    with pytest.raises(
        InputError, match=rf"Toys_and_Games.{part}.csv: is one part of a split; expected all interactions"
    ):
        run(tmp_path, "2023", f"Toys_and_Games.{part}.csv", lines)


def test_the_5_core_file_of_2023_has_no_name_of_its_own(tmp_path):
    with pytest.raises(InputError, match="--subset=5core: .*into a folder alone, set --raw_dir to.*--subset=ratings"):
        run(tmp_path, "2023", "Toys_and_Games.csv", USER_FIRST, "--subset=5core")


@pytest.mark.parametrize("details", [{"Brand": "Eve", "Material": "Oak"}, '{"Brand": "Eve", "Material": "Oak"}'])
def test_details_are_an_object_also_where_they_are_a_text(details, tmp_path):
    raw_samples.write("amazon2023", tmp_path / "raw")
    record = {"parent_asin": "y", "title": "Comb", "details": details}
    raw_samples.gzipped(tmp_path / "raw" / "meta_All_Beauty.jsonl.gz", [json.dumps(record)])
    prepared.run(tmp_path / "raw", tmp_path / "out", ["--importer=amazon2023", "--category=All_Beauty"])
    found = json.loads((tmp_path / "out" / "items.jsonl").read_text().splitlines()[0])
    assert found["details"] == {"Brand": "Eve", "Material": "Oak"} and found["brand"] == "Eve"


def test_details_that_are_no_object_are_left_out(tmp_path):
    raw_samples.write("amazon2023", tmp_path / "raw")
    records = [json.dumps({"asin": "y", "title": "Comb", "details": details}) for details in ("{broken", None, [1])]
    raw_samples.gzipped(tmp_path / "raw" / "meta_All_Beauty.jsonl.gz", records)
    prepared.run(tmp_path / "raw", tmp_path / "out", ["--importer=amazon2023", "--category=All_Beauty"])
    assert "details" not in json.loads((tmp_path / "out" / "items.jsonl").read_text().splitlines()[0])


def test_a_title_of_another_name(tmp_path):
    flags = raw_samples.write("amazon2018", tmp_path / "raw")
    raw_samples.gzipped(
        tmp_path / "raw" / "meta_AMAZON_FASHION.json.gz", ['{"asin": "y", "name": "Comb", "title": "no"}']
    )
    prepared.run(tmp_path / "raw", tmp_path / "out", [*flags, "--title_column=name"])
    assert json.loads((tmp_path / "out" / "items.jsonl").read_text().splitlines()[0])["title"] == "Comb"
    with pytest.raises(InputError, match="has no column 'nmae'; expected one of: asin, name, title; .*--title_column"):
        prepared.run(tmp_path / "raw", tmp_path / "other", [*flags, "--title_column=nmae"])


def test_downloads():
    of = {"category": "Beauty"}
    assert amazon2014.downloads(amazon2014.Options(**of)).paths == ("reviews_Beauty.json.gz", "meta_Beauty.json.gz")
    assert amazon2014.downloads(amazon2014.Options(**of, subset="ratings")).paths[0] == "ratings_Beauty.csv"
    assert amazon2018.downloads(amazon2018.Options(**of, subset="ratings")).paths[0] == "categoryFilesSmall/Beauty.csv"
    found = amazon2023.downloads(amazon2023.Options(**of, subset="ratings"))
    assert found.base_url.endswith("/amazon_2023/") and found.paths[0] == "benchmark/0core/rating_only/Beauty.csv.gz"
    found = amazon2023.downloads(amazon2023.Options(**of))
    assert found.base_url.endswith("/amazon_2023/raw/") and found.paths[0] == "review_categories/Beauty.jsonl.gz"
