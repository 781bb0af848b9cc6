"""Text tables: names of columns, titles, ratings, lists of items."""

import gzip

import numpy as np
import polars as pl
import pytest
from text_tables import (
    CSV,
    INTER,
    RECBOLE,
    ROWS,
    SEQUENCES,
    SHUFFLED,
    TABLE,
    TIME,
    TITLES,
    lines,
    read,
    refused,
    titles,
    write,
)


def test_a_session_is_a_user(tmp_path):
    write(tmp_path, y__inter=lines("\t", ("session_id:token", *INTER[1:]), SHUFFLED))
    outcome, found = read(tmp_path, RECBOLE)
    assert found == SEQUENCES and "each session_id counts as a user" in outcome.manifest["notes"][0]
    assert read(tmp_path, TABLE, "--user_column=session_id", "--overwrite")[1] == SEQUENCES


def test_recbole_columns_by_flag_with_and_without_type(tmp_path):
    header = ("visitor:token", "sku:token", "stars:float", "clicked:float")
    write(
        tmp_path,
        y__inter=lines("\t", header, SHUFFLED),
        y__item=lines("\t", ("sku:token", "label:token_seq"), TITLES.items()),
    )
    message = refused(tmp_path, RECBOLE)
    assert "has no columns 'user_id' and 'item_id'; expected two of: visitor:token, sku:token" in message
    assert message.endswith("name them with --user_column and --item_column")
    for kind in ("", ":token"):
        flags = ["--user_column=visitor", f"--item_column=sku{kind}", "--time_column=clicked", "--title_column=label"]
        outcome, found = read(tmp_path, RECBOLE, *flags, "--rating_column=stars", "--min_rating=3", "--overwrite")
        assert found == SEQUENCES and titles(tmp_path) == TITLES


def test_a_typed_header_answers_to_names_without_types_in_a_table(tmp_path):
    rows = [(*row, '"half a quote') for row in SHUFFLED]
    write(tmp_path, strange__name=lines("\t", (*INTER, "note:token_seq"), rows))
    assert read(tmp_path, TABLE, "--rating_column=rating", "--min_rating=3")[1] == SEQUENCES


@pytest.mark.parametrize(
    ("kind", "name"),
    [("csv", "y.inter"), ("csv", "log"), ("gz", "log.dat"), ("jsonl", "log.txt"), ("parquet", "2019.export")],
)
def test_a_table_may_have_any_name(name, kind, tmp_path):
    frame = pl.DataFrame(SHUFFLED, schema=list(CSV), orient="row")
    path = tmp_path / "raw" / name
    path.parent.mkdir()
    if kind == "parquet":
        frame.write_parquet(path)
    else:
        content = (frame.write_ndjson() if kind == "jsonl" else frame.write_csv()).encode()
        path.write_bytes(gzip.compress(content) if kind == "gz" else content)
    assert read(tmp_path, TABLE, f"--file={name}")[1] == SEQUENCES
    assert read(tmp_path, TABLE, "--overwrite")[1] == SEQUENCES


def test_another_kind_of_file_is_refused_by_its_name(tmp_path):
    write(tmp_path, data__zip=b"PK\x03\x04" + b"\0" * 90)
    assert "data.zip: is compressed; expected text (plain or gzipped) or Parquet; unpack the file" in refused(
        tmp_path, TABLE
    )


@pytest.mark.parametrize(
    "columns",
    [("movie_name",), ("item_name",), ("book_title",), ("app_name",), ("product_name",), ("brand_name", "track_name"),
     ("artist_name", "song_name"), ("name", "category_name"), ("Book-Title",), ("productName",),
     ("author_name", "title")],
)  # fmt: skip
@pytest.mark.parametrize("importer", [TABLE, RECBOLE])
def test_titles_under_other_names(columns, importer, tmp_path):
    others = ("brand", "artist", "author", "category")
    title = next(n for n, column in enumerate(columns) if not column.startswith(others))
    rows = [(i, *(t if n == title else "no title" for n in range(len(columns)))) for i, t in TITLES.items()]
    header = ("item_id:token", *(f"{column}:token_seq" for column in columns))
    write(tmp_path, a__inter=lines("\t", INTER, ROWS), a__item=lines("\t", header, rows))
    outcome, _ = read(tmp_path, importer, "--file=a.inter", "--items_file=a.item")
    assert titles(tmp_path) == TITLES
    told = f"a.item: titles are read from column '{columns[title]}'; --title_column sets another"
    assert (told in outcome.manifest["notes"]) == (columns[title] != "title")


@pytest.mark.parametrize(
    "column", ["user_name", "brand_name", "category_name", "author_name", "username", "subtitle_id"]
)
def test_names_of_others_are_no_titles(column, tmp_path):
    header = ("item_id:token", f"{column}:token_seq")
    write(tmp_path, a__inter=lines("\t", INTER, ROWS), a__item=lines("\t", header, TITLES.items()))
    read(tmp_path, RECBOLE)
    assert set(titles(tmp_path).values()) == {""}


@pytest.mark.parametrize("importer", [TABLE, RECBOLE])
@pytest.mark.parametrize("empty", ["", "nan", "NA"])
def test_ratings_that_are_missing_matter_where_they_are_read(importer, empty, tmp_path):
    rows = [(*row[:2], empty if n % 3 == 0 else row[2], row[3]) for n, row in enumerate(SHUFFLED)]
    rows[1] = (*rows[1][:2], "good", rows[1][3])
    write(tmp_path, b__inter=lines("\t", INTER, rows))
    flags = [importer, "--file=b.inter", "--rating_column=rating"]
    outcome, found = read(tmp_path, *flags)
    assert found == SEQUENCES and not outcome.manifest["dropped"] and not outcome.manifest["malformed_lines"]["count"]
    outcome, _ = read(tmp_path, *flags, "--min_rating=1", "--overwrite")
    assert outcome.manifest["dropped"] == {"rows without a rating": 160}
    assert outcome.manifest["malformed_lines"]["count"] == 1
    assert outcome.manifest["counts"]["interactions"] == 319


def listed(newest=99, user="user_id:token", item="item_id"):
    """Rows from each user's second item on, with what came before, cut to the newest."""
    rows = [
        (u, items[n], TIME + n, " ".join(items[:n][-newest:])) for u, items in SEQUENCES.items() for n in range(1, 8)
    ]
    return lines("\t", (user, f"{item}:token", "timestamp:float", f"{item}_list:token_seq"), rows)


@pytest.mark.parametrize("newest", [99, 3, 1])
@pytest.mark.parametrize("importer", [TABLE, RECBOLE])
def test_items_that_stand_only_in_a_list_are_read(importer, newest, tmp_path):
    write(tmp_path, s__inter=listed(newest))
    outcome, found = read(tmp_path, importer)
    assert found == SEQUENCES and outcome.manifest["counts"]["interactions"] == 480
    assert outcome.manifest["notes"][-1].startswith("60 interactions are only in the column 'item_id_list:token_seq'")


def split(tmp_path, rows, header=("user_id:token", "item_id_list:token_seq", "item_id:token")):
    """rows: {part: [(user, earlier items, item)]} as the files of a split; gives the flags."""
    write(tmp_path, **{f"s__{part}__inter": lines("\t", header, some) for part, some in rows.items()})
    return [RECBOLE, *(f"--{part}=s.{part}.inter" for part in rows)]


@pytest.mark.parametrize("newest", [99, 3, 1])
def test_lists_of_a_split_add_nothing_to_its_later_files(newest, tmp_path):
    upto = {"train": range(1, 6), "valid": [6], "test": [7]}
    rows = {
        part: [(u, " ".join(items[:n][-newest:]), items[n]) for u, items in SEQUENCES.items() for n in places]
        for part, places in upto.items()
    }
    outcome, found = read(tmp_path, *split(tmp_path, rows))
    assert found == SEQUENCES
    assert outcome.manifest["notes"][-1].startswith("your own split: 360 train, 60 valid, 60 test interactions")


def test_items_that_only_a_list_of_valid_or_test_has_train(tmp_path):
    rows = {
        "train": [("a", "x y", "z")],
        "valid": [("a", "x y z", "w"), ("b", "z y", "x"), ("b", "z y x", "w")],
        "test": [("c", "y w", "x"), ("b", "x w", "y")],
    }
    outcome, found = read(tmp_path, *split(tmp_path, rows))
    assert found == {"a": list("xyzw"), "b": list("zyxwy"), "c": list("ywx")}
    parts = np.load(tmp_path / "out" / "split.npy").tolist()
    assert parts == [0, 0, 0, 1, 0, 0, 1, 1, 2, 0, 0, 2]
    notes = [note for note in outcome.manifest["notes"] if "interactions are only in the column" in note]
    assert [note.endswith("without a time or rating, in the training part") for note in notes] == [False, True]


def test_lists_that_only_some_files_of_a_split_have_are_an_error(tmp_path):
    rows = {"train": [("a", "", "x"), ("a", "x", "y")], "valid": [("a", "x y", "z")], "test": [("a", "x y z", "w")]}
    flags = split(tmp_path, rows)
    write(tmp_path, s__train__inter=lines("\t", ("user_id:token", "item_id:token"), [("a", "x"), ("a", "y")]))
    assert "not all of --train, --valid and --test have a column 'item_id_list:token_seq'" in refused(tmp_path, *flags)


def test_a_list_of_another_item_column(tmp_path):
    write(tmp_path, s__inter=listed(user="session_id:token", item="track_id"))
    assert read(tmp_path, RECBOLE, "--item_column=track_id")[1] == SEQUENCES


def test_lists_that_do_not_fit_the_rows_before_are_an_error(tmp_path):
    whole = listed().splitlines(keepends=True)
    write(tmp_path, s__inter="".join([*whole[:3], *whole[4:]]))  # a row is gone
    told = refused(tmp_path, RECBOLE)
    assert "s.inter, line 4: column 'item_id_list:token_seq' of user U001 ends with" in told
    assert "expected the rows of each user in time order" in told
