"""Raw files that are wrong end in one clear line, and leave nothing behind."""

import gzip
import io
import json
import re
import shutil
import tarfile
import zipfile

import polars as pl
import prepared
import pytest
import raw_samples

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import isolated, prepare
from llmesr_jax.data.summary import describe


@pytest.fixture
def refused(tmp_path):
    """refused(*args) -> the message; nothing was written beside the raw files."""

    def refused(*args):
        with pytest.raises(InputError) as caught:
            prepared.run(tmp_path / "raw", tmp_path / "data" / "out", args)
        assert [path.name for path in tmp_path.iterdir()] == ["raw"]
        assert "\n" not in str(caught.value)
        return str(caught.value).replace(str(tmp_path), "")

    return refused


def spoil(path, spoiled):
    """The file's bytes through `spoiled`, gzipped again where they were."""
    zipped = path.suffix == ".gz"
    content = gzip.decompress(path.read_bytes()) if zipped else path.read_bytes()
    content = spoiled(content)
    path.write_bytes(gzip.compress(content) if zipped else content)


def replaced(old, new, count=-1):
    return lambda content: content.replace(old, new, count)


FILES = {  # the file of interactions of each source
    "amazon2014_ratings": "ratings_Beauty.csv",
    "amazon2018_ratings": "Toys_and_Games.csv",
    "amazon2023_ratings": "Toys_and_Games.csv.gz",
    "movielens_100k": "ml-100k/u.data",
    "amazon2014": "reviews_Beauty.json.gz",
    "amazon2018": "AMAZON_FASHION.json.gz",
    "amazon2023": "All_Beauty.jsonl.gz",
    "recbole": "shop.inter",
    "csv": "log.csv.gz",
    "jsonl": "log.jsonl",
    "handled": "inter.txt",
    "sequences": "shop.txt",
}


@pytest.mark.parametrize("source", FILES)
def test_malformed_lines_up_to_a_limit(source, refused, tmp_path, caplog):
    flags = raw_samples.write(source, tmp_path / "raw")
    path = tmp_path / "raw" / FILES[source]
    spoil(path, lambda content: content + b"{half_a_li\n\xff\xfe\xff\xfe\n\n")
    message = refused(*flags, "--max_bad_lines=1")
    assert f"/raw/{FILES[source]}, line " in message and "wanted " in message
    assert re.search(r"; malformed lines up to .*: 2; wanted at most 1; .*--max_bad_lines$", message)
    outcome = prepared.run(tmp_path / "raw", tmp_path / "out", [*flags, "--max_bad_lines=2"])
    assert outcome.manifest["malformed_lines"]["count"] == 2
    assert all(line.startswith(f"{FILES[source]}, line ") for line in outcome.manifest["malformed_lines"]["first"])
    assert prepared.sequences(tmp_path / "out") == raw_samples.SEQUENCES


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (b'"user_id": "d"', b'"user_id": "a\\nb"', "wanted an id (text or a whole number), not 'a\\nb'"),
        (b'"user_id": "d"', b'"user_id": "\\ud800"', "wanted an id (text or a whole number), not '\\ud800'"),
        (b'"user_id": "d"', b'"user_id": true', "wanted an id (text or a whole number), not True"),
        (b'"user_id": "d"', b'"user": "d"', "no user_id; wanted an id"),
        (
            b'"timestamp": 12626',
            b'"timestamp": 1262600000000000',
            "wanted a time from 1995 to 2100 in ms since 1970, not 1262",
        ),
        (b'"timestamp": 12626', b'"timestamp": -12626', "wanted a time from 1995 to 2100"),
        (b'"rating": 5.0', b'"rating": NaN', "wanted a number, not nan"),
        (b'"rating": 5.0', b'"rating": "good"', "wanted a number, not 'good'"),
    ],
)
def test_wrong_values_are_told(refused, tmp_path, old, new, told):
    flags = raw_samples.write("amazon2023", tmp_path / "raw")
    spoil(tmp_path / "raw" / "All_Beauty.jsonl.gz", replaced(old, new))
    assert told in refused(*flags, "--max_bad_lines=0", "--min_rating=1")


@pytest.mark.parametrize("source", [name for name, file in FILES.items() if file.endswith(".gz")])
def test_a_gz_that_was_cut_short_or_is_none(source, refused, tmp_path):
    flags = raw_samples.write(source, tmp_path / "raw")
    path = tmp_path / "raw" / FILES[source]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    assert f"/raw/{path.name}: is cut short" in refused(*flags)
    path.write_bytes(gzip.decompress(whole))
    assert re.search(rf"/raw/{path.name}: is damaged \(Not a gzipped file \(.*'\)\); wanted", refused(*flags))
    path.write_bytes(whole[:-8] + b"\0" * 8)
    assert f"/raw/{path.name}: is damaged" in refused(*flags)


def test_files_that_are_empty(refused, tmp_path):
    for source, file in FILES.items():
        flags = raw_samples.write(source, tmp_path / "raw")
        spoil(tmp_path / "raw" / file, lambda _: b"")
        message = refused(*flags)
        assert "the raw files hold no interaction (only a line of names?)" in message or "is empty; wanted" in message
        shutil.rmtree(tmp_path / "raw")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["--user_column="], "--user_column=: is empty; wanted the name of a column"),
        (["--item_column="], "--item_column=: is empty; wanted the name of a column"),
        (["--title_column=nmae"], "has no column 'nmae'; wanted one of: "),
        (["--title_column=nmae", "--items_file="], "--title_column=nmae: wants --items_file, which has that column"),
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


ISO = "wanted a time in ISO 8601, such as 2019-12-31 or 2019-12-31T13:45, or a number and --time_unit, not '31"


@pytest.mark.parametrize("date", ["31/12/2019", "31-12-2019"])
def test_dates_of_another_form_say_what_is_wanted(refused, tmp_path, date):
    flags = table(tmp_path / "raw", [f"u{n % 9},i{n % 7},{date}" for n in range(150)])
    message = refused(*flags)
    assert f"/raw/log.csv, line 2: {ISO}" in message and "; no line up to line 102 can be read; check the" in message
    assert "--max_bad_lines" not in message


def test_dates_of_another_form_in_parquet(refused, tmp_path):
    (tmp_path / "raw").mkdir()
    frame = pl.DataFrame({"user_id": ["a", "b"], "item_id": ["x", "y"], "at": ["31/12/2019", "30/12/2019"]})
    frame.write_parquet(tmp_path / "raw" / "log.parquet")
    message = refused("--importer=table", "--time_column=at", "--max_bad_lines=0")
    assert "all 2 rows are without a usable value of each of user_id, item_id, at (a time in ISO 8601, such" in message
    assert "--max_bad_lines" not in message


def test_dates_without_dashes_are_seconds_and_the_first_and_last_are_told(tmp_path):
    flags = table(tmp_path / "raw", [f"a,i{n},{at}" for n, at in enumerate((20190115, 20190116, 20200101))])
    outcome = prepared.run(tmp_path / "raw", tmp_path / "out", flags)
    assert outcome.manifest["times"] == {"first": "1970-08-22", "last": "1970-08-22"}
    told = "from 1970-08-22 to 1970-08-22; does --time_unit=s fit? a date wants dashes: 2019-12-31"
    assert told in describe(outcome).splitlines()


@pytest.mark.parametrize("rest", ["a,y,3\n" * 3, "a,y,3\n" * 30_000])  # up to the end; beyond the limit of a field
def test_a_quote_that_is_not_closed(refused, tmp_path, rest):
    flags = table(tmp_path / "raw", ['a,"x,1', rest])
    message = refused(*flags, "--max_bad_lines=0")
    assert "found quotes that do not fit (unexpected end of data); wanted 3 fields" in message
    assert 'is a quote (") of this line left open? or does --separator not fit?' in message
    assert "log.csv, line 2: f" in message


def test_what_a_quote_swallows_is_counted_line_by_line(refused, tmp_path):
    flags = table(tmp_path / "raw", ["a,x,1", "a,y,2", 'a,"x,3', *["a,y,3"] * 150])
    assert "log.csv, line 154: 151; wanted at most 100" in refused(*flags)


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
    told = f"no {name}, so items have no texts; if you can get it, put it into --raw_dir"
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
    assert (
        "wanted one of: when,sku,uid,stars (one column: does --separator fit?); name it with --user_column" in message
    )


def test_the_items_file_is_not_named(refused, tmp_path):
    flags = raw_samples.write("csv", tmp_path / "raw")
    message = refused(*(flag for flag in flags if "items_file" not in flag and "title" not in flag))
    wanted = "name that of the interactions with --file, that of the items with --items_file"
    assert message.startswith("/raw: found log.csv.gz, products.csv; wanted one ") and message.endswith(wanted)


def archive_with(path, names):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, "1::2::3::4\n")
        return
    with tarfile.open(path, "w") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 3
            archive.addfile(info, io.BytesIO(b"{}\n"))


def test_a_zip_entry_without_a_name_is_passed_over(tmp_path):
    path = tmp_path / "raw" / "ml-1m.zip"
    flags = raw_samples.write("movielens", path.parent)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(""), b"")
    assert prepared.run(path.parent, tmp_path / "out", flags).fresh


@pytest.mark.parametrize(
    "name", ["../ratings.dat", "/etc/ratings.dat", "a/../../ratings.dat", "..\\ratings.dat", "C:/x"]
)
def test_a_zip_entry_that_would_leave_its_folder(refused, tmp_path, name):
    (tmp_path / "raw").mkdir()
    archive_with(tmp_path / "raw" / "ml-1m.zip", ["ml-1m/ratings.dat", name])
    assert "/raw/ml-1m.zip: refused, its entry" in refused("--importer=movielens")


@pytest.mark.parametrize("name", ["../yelp_academic_dataset_review.json", "/tmp/x"])
def test_a_tar_entry_that_would_leave_its_folder(refused, tmp_path, name):
    (tmp_path / "raw").mkdir()
    archive_with(tmp_path / "raw" / "yelp.tar", ["yelp_academic_dataset_review.json", name])
    assert "/raw/yelp.tar: refused, its entry" in refused("--importer=yelp")


def test_a_tar_link_that_would_leave_its_folder(refused, tmp_path):
    (tmp_path / "raw").mkdir()
    with tarfile.open(tmp_path / "raw" / "yelp.tar", "w") as archive:
        info = tarfile.TarInfo("yelp_academic_dataset_review.json")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    assert "/raw/yelp.tar: refused, its entry '/etc/passwd'" in refused("--importer=yelp")


@pytest.mark.parametrize("source", ["movielens", "yelp", "yelp_zip", "movielens_25m"])
def test_a_damaged_archive(source, refused, tmp_path):
    flags = raw_samples.write(source, tmp_path / "raw")
    (path,) = (tmp_path / "raw").iterdir()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 5])
    message = refused(*flags)
    assert f"/raw/{path.name}" in message and ("damaged" in message or "cut short" in message)


@pytest.mark.parametrize("source", ["csv", "parquet", "recbole"])
def test_a_missing_column_names_those_there_are(source, refused, tmp_path):
    flags = raw_samples.write(source, tmp_path / "raw")
    if source == "recbole":
        spoil(tmp_path / "raw" / "shop.inter", replaced(b"item_id:token", b"item"))
        assert "has no column 'item_id'; wanted one of: user_id:token, item, rating:float" in refused(*flags)
    else:
        message = refused(*flags, "--user_column=user")
        assert "has no column 'user'; wanted one of: " in message and "uid" in message and "--user_column" in message


@pytest.mark.parametrize("spoiled", [b"", b"PAR1", b"PAR1" + b"\0" * 100 + b"PAR1", None])
def test_a_damaged_parquet_part(spoiled, refused, tmp_path):
    flags = raw_samples.write("parquet", tmp_path / "raw")
    path = tmp_path / "raw" / "log" / "part-1.parquet"
    path.write_bytes(path.read_bytes()[:-20] if spoiled is None else spoiled)
    message = refused(*flags)
    assert "cannot be read" in message and not re.search(r"[\"']\); wanted", message)


def test_parquet_parts_of_two_types(refused, tmp_path):
    flags = raw_samples.write("parquet", tmp_path / "raw")
    path = tmp_path / "raw" / "log" / "part-1.parquet"
    pl.read_parquet(path).with_columns(uid=pl.lit(1)).write_parquet(path)
    assert (
        "part-1.parquet: column 'uid' holds Int32, but String in part-0.parquet; wanted parts of one type"
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


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (
            ["--user_core=100", "--item_core=1", "--core=once"],
            "the rule leaves no interaction (raw: 12 interactions; users >= 100",
        ),
        (["--min_length=99"], "the rule leaves no interaction"),
        (["--category="], "--category: is no option of importer table; it has: "),
        (["--file=absent.csv"], "--file=absent.csv: /raw has no such file; it has: log.csv.gz, products.csv"),
        (["--file=log.csv.gz", "--items_file=absent.csv"], "--items_file=absent.csv: /raw has no such file"),
        (["--separator=ab"], "--separator=ab: wanted one character"),
        (["--append", "--overwrite"], "--append keeps ids and --overwrite numbers anew"),
        (["--append"], "was not made by launch.prepare"),
        (["--download"], "--download: a table of your own has no public address"),
        (["--importer=csv"], "importer 'csv' is not known; wanted one of: amazon2014, "),
        (["--dataset=../x"], "--dataset=../x: wanted one of fashion, "),
    ],
)
def test_settings_that_do_not_fit(args, told, refused, tmp_path):
    flags = raw_samples.write("csv", tmp_path / "raw")
    if args[0].startswith("--dataset"):
        with pytest.raises(InputError, match="wanted one of fashion, "):
            prepared.run(tmp_path / "raw", tmp_path / "out", flags, dataset=args[0].partition("=")[2])
        return
    assert told in refused(*flags, *args)


def test_no_raw_files(refused, tmp_path):
    (tmp_path / "raw").mkdir()
    assert "/raw: holds no reviews_Beauty.json.gz or reviews_Beauty.json; wanted the reviews" in refused(
        "--importer=amazon2014", "--category=Beauty"
    )
    (tmp_path / "raw" / "inter.txt").write_text("1 1\n")
    assert "--importer=handled" in refused("--importer=amazon2014", "--category=Beauty")
    assert "wanted the category as Amazon's files name it" in refused("--importer=amazon2014")


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
    with pytest.raises(InputError, match="holds files that prepare did not make"):
        prepared.run(tmp_path / "raw", out, flags)
    assert prepared.contents(out) == {"thesis.tex": b"mine"}
    outcome = prepared.run(tmp_path / "raw", out, [*flags, "--overwrite"])
    assert prepared.contents(outcome.kept) == {"thesis.tex": b"mine"}
    (out / "inter.txt").write_text("1 1\n")
    with pytest.raises(InputError, match=r"inter\.txt: is not as it was written"):
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


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "os._exit(1)", "raise SystemExit('PanicException: x')"])
def test_parquet_that_takes_polars_process_down(refused, tmp_path, monkeypatch, end):
    """As an absurd length in a damaged page does, which no exception tells."""
    flags = raw_samples.write("parquet", tmp_path / "raw")
    monkeypatch.setattr(isolated, "_PROGRAM", f"import os; {end}")
    assert "/raw/log: cannot be read (its bytes make no sense); wanted whole Parquet files" in refused(*flags)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (pl.exceptions.PanicException("called `Option::unwrap()`"), "its bytes make no sense"),
        (pl.exceptions.ComputeError("parquet: too short\nmore"), "parquet: too short"),
    ],
)
def test_what_polars_cannot_stand_is_one_line(refused, tmp_path, monkeypatch, error, told):
    def fails(*_, **__):
        raise error

    flags = raw_samples.write("csv", tmp_path / "raw")
    monkeypatch.setattr(prepare.preprocess, "apply", fails)
    assert refused(*flags) == f"/raw: cannot be read ({told}); wanted whole files of --importer=table"


def test_another_s_error_is_not_of_the_raw_files(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise TypeError("a bug")

    flags = raw_samples.write("csv", tmp_path / "raw")
    monkeypatch.setattr(prepare.preprocess, "apply", fails)
    with pytest.raises(TypeError, match="a bug"):
        prepared.run(tmp_path / "raw", tmp_path / "out", flags)
