"""What is an id in a text table, and what is none."""

import json

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
    TITLES,
    lines,
    read,
    refused,
    titles,
    write,
)

from llmesr_jax.data.staging import counted
from llmesr_jax.data.summary import describe

NAN = ["nan", "NaN", "NA", "N/A", "None", "null", "NULL", "<NA>", "\\N", "", " "]


@pytest.mark.parametrize("importer", [TABLE, RECBOLE])
def test_rows_without_an_id_are_left_out_and_counted(importer, tmp_path):
    rows = [
        (*(word if n % 12 == k else row[k] for k in range(2)), *row[2:])
        for n, (row, word) in enumerate(zip(SHUFFLED, NAN * 44))
    ]
    write(tmp_path, r__inter=lines("\t", INTER, rows))
    outcome, found = read(tmp_path, importer)
    assert (
        outcome.manifest["dropped"] == {"rows without an id": 80} and outcome.manifest["counts"]["interactions"] == 400
    )
    assert outcome.manifest["malformed_lines"]["count"] == 0 and not set(found) & set(NAN)
    assert "80 rows without an id: left out" in describe(outcome).splitlines()
    outcome, _ = read(tmp_path, importer, "--missing=", "--overwrite")
    empty = sum(not cell.strip() for row in rows for cell in row[:2])
    assert outcome.manifest["dropped"] == {"rows without an id": empty} and empty < 80
    outcome, _ = read(tmp_path, importer, "--missing=U001, I003", "--overwrite")
    assert outcome.manifest["counts"]["interactions"] < 480 - empty


def test_json_has_null_and_nan(tmp_path):
    records = [dict(zip(CSV, row)) for row in SHUFFLED]
    records[5]["user_id"], records[6]["item_id"] = None, float("nan")
    write(tmp_path, r__jsonl="\n".join(map(json.dumps, records)))
    assert read(tmp_path, TABLE)[0].manifest["dropped"] == {"rows without an id": 2}


@pytest.mark.parametrize("one", ["row without an id", "item record without an id", "row with an empty list"])
def test_one_row_is_in_the_singular(one):
    many = one.replace("row ", "rows ").replace("record ", "records ")
    assert (counted(1, many), counted(2_000, many)) == (f"1 {one}", f"2,000 {many}")


def test_sequences_without_an_id(tmp_path):
    write(tmp_path, s__txt="a x y nan z\nnan x y\nb 1.0 2.0 1 é\n".encode("latin-1"))
    outcome, found = read(tmp_path, "--importer=sequences")
    assert found == {"a": ["x", "y", "z"], "b": ["1", "2", "1", "é"]}
    assert outcome.manifest["dropped"] == {"rows without an id": 3} and len(outcome.manifest["notes"]) == 2


def test_no_row_has_an_id(tmp_path):
    write(tmp_path, r__csv=lines(",", CSV, [("nan", *row[1:]) for row in ROWS]))
    assert "every row was left out (480 rows without an id); expected at least one row" in refused(tmp_path, TABLE)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "inter"])
def test_whole_floats_are_whole_numbers(kind, tmp_path):
    rows = [(float(u[1:]), float(i[1:]), *rest) for u, i, *rest in SHUFFLED]
    text = {
        "csv": lines(",", CSV, rows),
        "jsonl": "\n".join(json.dumps(dict(zip(CSV, row))) for row in rows),
        "inter": lines("\t", INTER, rows),
    }[kind]
    header = ("item_id", "title") if kind != "inter" else ("item_id:token", "title:token_seq")
    write(tmp_path, **{f"r__{kind}": text}, r__item=lines("\t", header, [(int(i[1:]), t) for i, t in TITLES.items()]))
    importer = [RECBOLE] if kind == "inter" else [TABLE, f"--file=r.{kind}", "--items_file=r.item"]
    outcome, found = read(tmp_path, *importer)
    assert found == {str(int(u[1:])): [str(int(i[1:])) for i in items] for u, items in SEQUENCES.items()}
    assert titles(tmp_path) == {str(int(i[1:])): t for i, t in TITLES.items()}
    assert any(
        "ids that are written as whole floats were read as whole numbers" in n for n in outcome.manifest["notes"]
    )


def test_other_points_in_ids_stay(tmp_path):
    rows = [("a", x, 1) for x in ("1.5", "1.2e1", "1.10", "v2.0", "12.", "7.00")]
    write(tmp_path, r__csv=lines(",", ("user_id", "item_id", "n"), rows))
    assert read(tmp_path, TABLE)[1] == {"a": ["1.5", "1.2e1", "1.10", "v2.0", "12.", "7"]}


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_items_of_which_none_fits_are_an_error(kind, tmp_path):
    write(tmp_path, r__csv=lines(",", CSV, ROWS))
    frame = pl.DataFrame({"item_id": [f"sku-{n}" for n in range(5)], "label": ["x"] * 5})
    write_to = {"csv": frame.write_csv, "json": frame.write_json, "parquet": frame.write_parquet}[kind]
    write_to(tmp_path / "raw" / f"i.{kind}")
    flags = [TABLE, "--file=r.csv", f"--items_file=i.{kind}", "--title_column=label"]
    told = refused(tmp_path, *flags)
    assert (
        "no item record belongs to an item of the interactions: the records' ids are like 'sku-0', the interactions' ids like 'I"
        in told
    )
    assert "--items_file, --item_column and --items_id_column" in told
    assert f"i.{kind}: has no column 'name'; expected one of: " in refused(tmp_path, *flags[:-1], "--title_column=name")


def test_items_with_their_id_in_another_column(tmp_path):
    write(tmp_path, r__csv=lines(",", CSV, SHUFFLED))
    records = [json.dumps({"sku": i, "product_name": t}) for i, t in TITLES.items()]
    write(tmp_path, i__json="[" + ",".join(records) + "]")
    flags = [TABLE, "--file=r.csv", "--items_file=i.json"]
    assert "i.json: has no column 'item_id'; expected one of: product_name, sku; name it with --item" in refused(
        tmp_path, *flags
    )
    read(tmp_path, *flags, "--items_id_column=sku")
    assert titles(tmp_path) == TITLES


def test_two_columns_of_one_name(tmp_path):
    write(tmp_path, r__csv=lines(",", ("user_id", "item_id", "item_id"), [("a", "x", "y")] * 9))
    assert "has 2 columns 'item_id'; expected one; give the columns different names, or set" in refused(tmp_path, TABLE)
    assert read(tmp_path, TABLE, "--item_column=3")[1] == {"a": ["y"] * 9}


def test_two_columns_of_titles(tmp_path):
    write(tmp_path, r__csv=lines(",", CSV, ROWS))
    records = [(item, "a group", title, "Ada") for item, title in TITLES.items()]
    write(tmp_path, i__csv=lines(",", ("item_id", "title", "title", "brand"), records))
    flags = [TABLE, "--file=r.csv", "--items_file=i.csv"]
    assert (
        "i.csv: has 2 columns 'title'; expected one; give the columns different names, or set --title_col"
        in refused(tmp_path, *flags)
    )
    read(tmp_path, *flags, "--title_column=3")
    assert titles(tmp_path) == TITLES


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_columns_user_and_item_need_no_flag(kind, tmp_path):
    (tmp_path / "raw").mkdir()
    frames = {
        "r": pl.DataFrame(ROWS, schema=("user", "item", *CSV[2:]), orient="row"),
        "i": pl.DataFrame({"item": list(TITLES), "title": list(TITLES.values())}),
    }
    for name, frame in frames.items():
        write_to = {"csv": frame.write_csv, "json": frame.write_ndjson, "parquet": frame.write_parquet}[kind]
        write_to(tmp_path / "raw" / f"{name}.{kind}")
    assert read(tmp_path, TABLE, f"--file=r.{kind}", f"--items_file=i.{kind}")[1] == SEQUENCES
    assert titles(tmp_path) == TITLES


def test_columns_that_are_not_there_are_named_as_they_are_written(tmp_path):
    write(tmp_path, r__csv="Käufer,Stück\u202e,\t x\na,b,c\n")
    assert "has no columns 'user_id' and 'item_id'; expected two of: Käufer, Stück\\u202e, x;" in refused(
        tmp_path, TABLE
    )
