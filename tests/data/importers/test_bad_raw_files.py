"""Raw files that are wrong end in one clear line, and leave nothing behind."""

import json
import re
import shutil

import prepared
import pytest
import raw_samples
from spoiled import FILES, replaced, spoil

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.summary import describe


@pytest.mark.parametrize("source", FILES)
def test_malformed_lines_up_to_a_limit(source, refused, tmp_path, caplog):
    flags = raw_samples.write(source, tmp_path / "raw")
    path = tmp_path / "raw" / FILES[source]
    spoil(path, lambda content: content + b"{half_a_li\n\xff\xfe\xff\xfe\n\n")
    message = refused(*flags, "--max_bad_lines=1")
    assert f"/raw/{FILES[source]}, line " in message and "expected " in message
    assert re.search(r"; malformed lines up to .*: 2; expected at most 1; .*--max_bad_lines$", message)
    outcome = prepared.run(tmp_path / "raw", tmp_path / "out", [*flags, "--max_bad_lines=2"])
    assert outcome.manifest["malformed_lines"]["count"] == 2
    assert all(line.startswith(f"{FILES[source]}, line ") for line in outcome.manifest["malformed_lines"]["first"])
    assert prepared.sequences(tmp_path / "out") == raw_samples.SEQUENCES


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (b'"user_id": "d"', b'"user_id": "a\\nb"', "expected an id (text or a whole number), not 'a\\nb'"),
        (b'"user_id": "d"', b'"user_id": "\\ud800"', "expected an id (text or a whole number), not '\\ud800'"),
        (b'"user_id": "d"', b'"user_id": true', "expected an id (text or a whole number), not True"),
        (b'"user_id": "d"', b'"user": "d"', "no user_id; expected an id"),
        (
            b'"timestamp": 12626',
            b'"timestamp": 1262600000000000',
            "expected a time from 1995 to 2100 in ms since 1970, not 1262",
        ),
        (b'"timestamp": 12626', b'"timestamp": -12626', "expected a time from 1995 to 2100"),
        (b'"rating": 5.0', b'"rating": NaN', "expected a number, not nan"),
        (b'"rating": 5.0', b'"rating": "good"', "expected a number, not 'good'"),
    ],
)
def test_wrong_values_are_told(refused, tmp_path, old, new, told):
    flags = raw_samples.write("amazon2023", tmp_path / "raw")
    spoil(tmp_path / "raw" / "All_Beauty.jsonl.gz", replaced(old, new))
    assert told in refused(*flags, "--max_bad_lines=0", "--min_rating=1")


def test_files_that_are_empty(refused, tmp_path):
    for source, file in FILES.items():
        flags = raw_samples.write(source, tmp_path / "raw")
        spoil(tmp_path / "raw" / file, lambda _: b"")
        message = refused(*flags)
        assert "the raw files have no interaction (only a header line?);" in message or "is empty; expected" in message
        shutil.rmtree(tmp_path / "raw")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["--user_column="], "--user_column=: is empty; expected the name of a column"),
        (["--item_column="], "--item_column=: is empty; expected the name of a column"),
        (["--title_column=nmae"], "has no column 'nmae'; expected one of: "),
        (
            ["--title_column=nmae", "--items_file="],
            "--title_column=nmae: needs --items_file; set it to the file with that column",
        ),
        (["--items_file=prodcts"], "--items_file=prodcts: /raw has no such file; it has: log"),
        (["--file=lgo"], "--file=lgo: /raw has no such file; it has: log"),
    ],
)
@pytest.mark.parametrize("source", ["csv", "jsonl", "parquet"])
def test_names_that_a_table_does_not_have(source, refused, tmp_path, changes, told):
    message = refused(*raw_samples.write(source, tmp_path / "raw"), *changes)
    assert told in message
    if "no column" in told:
        assert message.endswith("; name it with --title_column") and "/raw/products." in message


def table(folder, lines):
    """A CSV file and the flags for it."""
    folder.mkdir()
    (folder / "log.csv").write_text("user_id,item_id,at\n" + "".join(f"{line}\n" for line in lines))
    return ["--importer=table", "--time_column=at"]


ISO = "expected a time in ISO 8601, such as 2019-12-31 or 2019-12-31T13:45, a number and --time_unit, or text and --time_format"


@pytest.mark.parametrize(("date", "form"), [("31/12/2019", "%d/%m/%Y"), ("31-12-2019", "%d-%m-%Y")])
def test_dates_of_another_form_are_one_message_with_their_format(refused, tmp_path, date, form):
    message = refused(*table(tmp_path / "raw", [f"u{n % 9},i{n % 7},{date}" for n in range(150)]))
    assert message.startswith(f"/raw/log.csv: column 'at' cannot be read as times, as it holds '{date}'; expected")
    assert message.endswith(f"set --time_format={form}") and "--max_bad_lines" not in message


@pytest.mark.parametrize("date", ["31 Dec 2019", "soon"])
def test_dates_of_an_unknown_form_say_what_is_wanted(refused, tmp_path, date):
    flags = table(tmp_path / "raw", [f"u{n % 9},i{n % 7},{date}" for n in range(150)])
    message = refused(*flags)
    assert (
        f"/raw/log.csv, line 2: {ISO}" in message
        and "; no line up to line 102 can be read either; check the" in message
    )
    assert "--max_bad_lines" not in message


def test_dates_without_dashes_are_seconds_and_the_first_and_last_are_told(tmp_path):
    flags = table(tmp_path / "raw", [f"a,i{n},{at}" for n, at in enumerate((20190115, 20190116, 20200101))])
    outcome = prepared.run(tmp_path / "raw", tmp_path / "out", flags)
    assert outcome.manifest["times"] == {"first": "1970-08-22", "last": "1970-08-22"}
    told = "from 1970-08-22 to 1970-08-22; is --time_unit=s right? a date needs dashes (2019-12-31) or --time_format"
    assert told in describe(outcome).splitlines()


@pytest.mark.parametrize("rest", ["a,y,3\n" * 3, "a,y,3\n" * 30_000])  # up to the end; beyond the limit of a field
def test_a_quote_that_is_not_closed(refused, tmp_path, rest):
    flags = table(tmp_path / "raw", ['a,"x,1', rest])
    message = refused(*flags, "--max_bad_lines=0")
    assert "found misplaced quotes (unexpected end of data); expected 3 fields" in message
    assert '(does this line have an unclosed quote ("), or is --separator wrong?)' in message
    assert "log.csv, line 2: f" in message


def test_what_a_quote_swallows_is_counted_line_by_line(refused, tmp_path):
    flags = table(tmp_path / "raw", ["a,x,1", "a,y,2", 'a,"x,3', *["a,y,3"] * 150])
    assert "log.csv, line 154: 151; expected at most 100" in refused(*flags)


METADATA = {  # the file of item records of each source
    "amazon2014": "meta_Beauty.json.gz",
    "amazon2018": "meta_AMAZON_FASHION.json.gz",
    "recbole": "shop.item",
}


@pytest.mark.parametrize("source", METADATA)
def test_metadata_that_are_not_there_are_told(source, tmp_path):
    flags, name = raw_samples.write(source, tmp_path / "raw"), METADATA[source]
    assert prepared.run(tmp_path / "raw", tmp_path / "with", flags).manifest["absent"] == ""
    (tmp_path / "raw" / name).unlink()
    outcome = prepared.run(tmp_path / "raw", tmp_path / "out", flags)
    assert outcome.manifest["absent"] == name
    told = f"no {name}, so items have no texts; if you have this file, put it into --raw_dir"
    assert told in describe(outcome).splitlines()[-2]


def test_movies_that_are_not_there_are_told(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "ratings.dat").write_text("".join(f"1::{n}::5::{978300000 + n}\n" for n in range(5)))
    outcome = prepared.run(tmp_path / "raw", tmp_path / "out", ["--importer=movielens"])
    assert outcome.manifest["absent"] == "movies.dat"
    assert "from 2000-12-31 to 2000-12-31" in describe(outcome).splitlines()


def test_another_separator(refused, tmp_path):
    flags = raw_samples.write("csv", tmp_path / "raw")
    message = refused(*flags, "--separator=;")
    assert "expected four of: when,sku,uid,stars (only one column: is --separator right?); name them with " in message
    assert message.endswith("--user_column, --item_column, --rating_column and --time_column")


def test_the_items_file_is_not_named(refused, tmp_path):
    flags = raw_samples.write("csv", tmp_path / "raw")
    message = refused(*(flag for flag in flags if "items_file" not in flag and "title" not in flag))
    wanted = "set the file of the interactions with --file, the file of the items with --items_file"
    assert message.startswith("/raw: found log.csv.gz, products.csv; expected one ") and message.endswith(wanted)


@pytest.mark.parametrize("source", ["csv", "parquet", "recbole"])
def test_a_missing_column_names_those_there_are(source, refused, tmp_path):
    flags = raw_samples.write(source, tmp_path / "raw")
    if source == "recbole":
        spoil(tmp_path / "raw" / "shop.inter", replaced(b"item_id:token", b"thing"))
        assert "has no column 'item_id'; expected one of: user_id:token, thing, rating:float" in refused(*flags)
    else:
        message = refused(*flags, "--user_column=user")
        assert "has no column 'user'; expected one of: " in message and "uid" in message and "--user_column" in message


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (
            ["--user_core=100", "--item_core=1", "--core=once"],
            "the rule leaves no interaction (raw: 12 interactions; users >= 100",
        ),
        (["--min_length=99"], "the rule leaves no interaction"),
        (["--category="], "--category: is not an option of importer table; its options: "),
        (["--file=absent.csv"], "--file=absent.csv: /raw has no such file; it has: log.csv.gz, products.csv"),
        (["--file=log.csv.gz", "--items_file=absent.csv"], "--items_file=absent.csv: /raw has no such file"),
        (["--separator=ab"], "--separator=ab: is not a separator; expected one character"),
        (["--append", "--overwrite"], "--append keeps ids, --overwrite assigns new ones"),
        (["--append"], "was not made by launch.prepare"),
        (["--download"], "--download: a table of your own has no public address"),
        (["--importer=csv"], "importer 'csv' is not known; expected one of: amazon2014, "),
        (["--dataset=../x"], "--dataset=../x: expected one of fashion, "),
    ],
)
def test_settings_that_do_not_fit(args, told, refused, tmp_path):
    flags = raw_samples.write("csv", tmp_path / "raw")
    if args[0].startswith("--dataset"):
        with pytest.raises(InputError, match="expected one of fashion, "):
            prepared.run(tmp_path / "raw", tmp_path / "out", flags, dataset=args[0].partition("=")[2])
        return
    assert told in refused(*flags, *args)


def test_no_raw_files(refused, tmp_path):
    (tmp_path / "raw").mkdir()
    assert "/raw: has no reviews_Beauty.json.gz or reviews_Beauty.json; expected the reviews" in refused(
        "--importer=amazon2014", "--category=Beauty"
    )
    (tmp_path / "raw" / "inter.txt").write_text("1 1\n")
    assert "--importer=handled" in refused("--importer=amazon2014", "--category=Beauty")
    assert "expected one as Amazon's files name it" in refused("--importer=amazon2014")


def test_the_result_may_not_lie_on_the_raw_files(tmp_path):
    flags = raw_samples.write("handled", tmp_path)
    before = prepared.contents(tmp_path)
    for out in (tmp_path, tmp_path / ".." / tmp_path.name):
        with pytest.raises(InputError, match="is the folder of the raw files"):
            prepared.run(tmp_path, out, flags)
    assert prepared.contents(tmp_path) == before


def test_what_prepare_did_not_make_is_not_lost(tmp_path):
    flags = raw_samples.write("csv", tmp_path / "raw")
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="has files that prepare did not make"):
        prepared.run(tmp_path / "raw", out, flags)
    assert prepared.contents(out) == {"thesis.tex": b"mine"}
    outcome = prepared.run(tmp_path / "raw", out, [*flags, "--overwrite"])
    assert prepared.contents(outcome.kept) == {"thesis.tex": b"mine"}
    (out / "inter.txt").write_text("1 1\n")
    with pytest.raises(InputError, match=r"inter\.txt: was changed after it was written"):
        prepared.run(tmp_path / "raw", out, flags)
    assert prepared.run(tmp_path / "raw", out, [*flags, "--overwrite"]).fresh
    assert prepared.sequences(out) == raw_samples.SEQUENCES


def test_a_kill_between_the_two_steps_of_a_replacement_is_undone(tmp_path):
    flags = raw_samples.write("csv", tmp_path / "raw")
    prepared.run(tmp_path / "raw", tmp_path / "out", flags)
    before = prepared.contents(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / ".out.old")
    (tmp_path / ".out.partial").mkdir()
    assert not prepared.run(tmp_path / "raw", tmp_path / "out", flags).fresh
    assert prepared.contents(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]


def test_items_without_metadata_and_metadata_without_items(tmp_path):
    flags = raw_samples.write("jsonl", tmp_path / "raw")
    path = tmp_path / "raw" / "products.jsonl"
    path.write_text("".join(json.dumps({"sku": item, "title": item}) + "\n" for item in ("x", "q", "x", 7)))
    outcome = prepared.run(tmp_path / "raw", tmp_path / "out", flags)
    assert outcome.manifest["item_records"] == {
        "with_record": 1, "without_record": 4, "without_title": 4, "repeated": 1, "of_no_item": 2
    }  # fmt: skip
