"""Files that real people met, where the folder of them is there: each is read whole. What each is, stands in its README.

The kinds are tested one by one, on files made in the tests, in the other modules of this folder.
"""

import prepared
import pytest

from llmesr_jax.data import reading

ALL = (60, 40, 480)  # users, items, interactions
TABLE = ("--importer=table", "--time_column=timestamp")
ITEMS = ("--file=inter.csv", "--items_file=items.csv")
FILES = {
    "recbole_time_named_otherwise": (["--importer=recbole"], ALL, None),
    "repeat_consumption": (TABLE, (150, 60, 3600), None),
    "amazon2023_exact_duplicates": (["--importer=amazon2023", "--category=Grocery"], ALL, None),
    "raw_id_in_text/raw_a": ([*TABLE, *ITEMS], ALL, 40),
    "raw_id_in_text/raw_b": ([*TABLE, *ITEMS], ALL, 40),
    "recbole_item_id_list": (["--importer=recbole"], ALL, None),
    "float_ids": ([*TABLE, *ITEMS], ALL, 40),
    "nan_ids": (TABLE, (60, 40, 426), None),
    "bookcrossing_latin1": (
        ["--importer=table", "--user_column=User-ID", "--item_column=ISBN", "--rating_column=Book-Rating"]
        + ["--title_column=Book-Title", "--file=BX-Book-Ratings.csv", "--items_file=BX-Books.csv"],
        ALL,
        40,
    ),
    "amazon2023_details_dict": (["--importer=amazon2023", "--category=All_Beauty"], ALL, 40),
    "amazon2018_html_titles": (["--importer=amazon2018", "--category=Toys"], ALL, 40),
    "repeated_header": (["--importer=table"], ALL, None),
    "recbole_session_id": (["--importer=recbole"], ALL, None),
    "recbole_movie_name": (["--importer=recbole"], ALL, 40),
    "recbole_rating_missing": (["--importer=recbole"], ALL, None),
    "recbole_presplit": (
        ["--importer=recbole", "--train=b.train.inter", "--valid=b.valid.inter", "--test=b.test.inter"],
        ALL,
        None,
    ),
    "amazon_ratings_only_no_header": (["--importer=amazon2014", "--category=Beauty"], ALL, None),
    "csv_long_field": ([*TABLE, *ITEMS], ALL, 40),
    "csv_cr_only": (TABLE, ALL, None),
    "space_after_comma": ([*TABLE, *ITEMS], ALL, 40),
    "spark_csv_parts": (TABLE, ALL, None),
    "json_array": (TABLE, ALL, None),
    "parquet_list_items": (["--importer=table"], ALL, None),
    "parquet_decimal_ids": (["--importer=table"], ALL, None),
    "parquet_binary_ids": (["--importer=table"], ALL, None),
    "parquet_int_types": (["--importer=table"], ALL, None),
    "bigquery_utc": (["--importer=table", "--time_column=event_time"], ALL, None),
    "ml_100k": (["--importer=movielens"], ALL, 40),
    "ml_25m_zip": (["--importer=movielens"], ALL, 40),
    "yelp_no_extension": (["--importer=yelp"], ALL, 40),
    "yelp_review_json": (["--importer=yelp"], ALL, 40),
    "long_texts": ([*TABLE, "--file=inter.csv", "--items_file=items.jsonl"], ALL, 40),
}


@pytest.mark.parametrize("name", FILES)
def test_it_is_read_whole(name, shared, tmp_path):
    folder, args, (counts, titles) = shared / "cases" / name, FILES[name][0], FILES[name][1:]
    raw = folder if "/" in name else folder / "raw"
    outcome = prepared.run(raw, tmp_path / "out", args)
    found = outcome.manifest["counts"]
    assert (found["users"], found["items"], found["interactions"]) == counts
    assert outcome.manifest["malformed_lines"]["count"] == 0
    records = outcome.manifest["item_records"]
    assert (None if records is None else records["with_record"] - records["without_title"]) == titles
    dropped = {"nan_ids": {"rows without an id": 54}, "repeated_header": {"repeated header lines of inter.csv": 1}}
    assert outcome.manifest["dropped"] == dropped.get(name, {})
    assert outcome.manifest["exact_duplicates"] == (30 if name == "amazon2023_exact_duplicates" else 0)
    reading.load("shop", tmp_path / "out")


def test_times_order_the_sequences(shared, tmp_path):
    """The same 480 interactions in time order, whatever the form."""
    sequences = []
    for name in (
        "recbole_session_id",
        "recbole_time_named_otherwise",
        "spark_csv_parts",
        "bigquery_utc",
        "csv_cr_only",
    ):
        prepared.run(shared / "cases" / name / "raw", tmp_path / name, FILES[name][0])
        read = reading.load("shop", tmp_path / name)
        ids = [(tmp_path / name / f"{kind}_ids.txt").read_text().split() for kind in ("user", "item")]
        ends = zip(read.offsets, read.offsets[1:])
        sequences.append(
            {ids[0][u]: [ids[1][i - 1] for i in read.items[a:b].tolist()] for u, (a, b) in enumerate(ends)}
        )
    assert all(found == sequences[0] for found in sequences[1:])


def test_a_split_of_the_users_own(shared, tmp_path):
    raw = shared / "cases" / "recbole_presplit" / "raw"
    prepared.run(raw, tmp_path / "out", FILES["recbole_presplit"][0])
    read = reading.load("shop", tmp_path / "out")
    assert read.split.name == "files, all targets" and read.train_lengths_U.sum() == 300
    assert len(read.targets["valid"].rows_E) + read.split.without_input["valid"] == 100
    assert len(read.targets["test"].rows_E) + read.split.without_input["test"] == 80
