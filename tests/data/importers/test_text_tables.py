"""Tables of text as people have them: other names, encodings, ends of lines, headers, ids that are none."""

import gzip
import json
import random

import polars as pl
import prepared
import pytest

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.summary import describe

# 60 users with 8 of 40 items each, a day apart; no item twice, none in order of its name.
_random = random.Random(0)
SEQUENCES = {f"U{u:03d}": [f"I{i:03d}" for i in _random.sample(range(1, 41), 8)] for u in range(1, 61)}
TIME = 1_500_087_400
ROWS = [(u, i, 3 + n % 3, TIME + 86_400 * n) for u, items in SEQUENCES.items() for n, i in enumerate(items)]
SHUFFLED = _random.sample(ROWS, len(ROWS))
TITLES = {f"I{n:03d}": f"Brush {n}" + " café" * (n % 2) for n in range(1, 41)}


def lines(separator, header, rows):
    return "".join(separator.join(map(str, row)) + "\n" for row in ([header] if header else []) + list(rows))


def write(folder, **files):
    """Files by name; __ stands for a dot and ___ for a slash. Text is written as UTF-8."""
    for name, content in files.items():
        path = folder / "raw" / name.replace("___", "/").replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def read(folder, *flags):
    """The outcome, and {raw user: raw items in order}."""
    outcome = prepared.run(folder / "raw", folder / "out", flags)
    ids = {kind: (folder / "out" / f"{kind}_ids.txt").read_text().split("\n") for kind in ("user", "item")}
    numbers = prepared.sequences(folder / "out")
    return outcome, {ids["user"][u - 1]: [ids["item"][i - 1] for i in items] for u, items in numbers.items()}


def titles(folder):
    records = map(json.loads, (folder / "out" / "items.jsonl").read_text(encoding="utf-8").splitlines())
    return {record["raw_id"]: record["title"] for record in records}


def refused(folder, *flags):
    with pytest.raises(InputError) as caught:
        prepared.run(folder / "raw", folder / "out", flags)
    assert "\n" not in str(caught.value) and not (folder / "out").exists()
    return str(caught.value)


CSV = ("user_id", "item_id", "rating", "timestamp")
INTER = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
TABLE, RECBOLE = "--importer=table", "--importer=recbole"


# Times.


@pytest.mark.parametrize("name", ["time:float", "date:float", "unixtime:token", "created_at:float", "reviewTime:float"])
def test_recbole_finds_a_time_of_another_name(name, tmp_path):
    write(tmp_path, t__inter=lines("\t", (*INTER[:3], name), SHUFFLED))
    outcome, found = read(tmp_path, RECBOLE)
    assert found == SEQUENCES
    (note,) = outcome.manifest["notes"]
    assert note.startswith(f"t.inter: times are those of column '{name}'") and "--time_column=none" in note
    assert note in describe(outcome).splitlines()


def test_a_time_in_milliseconds_is_known_by_its_size(tmp_path):
    write(tmp_path, t__inter=lines("\t", (*INTER[:3], "time:float"), [(*row[:3], row[3] * 1000) for row in SHUFFLED]))
    outcome, found = read(tmp_path, RECBOLE)
    assert found == SEQUENCES and "numbers of --time_unit=ms" in outcome.manifest["notes"][0]
    assert outcome.manifest["times"] == {"first": "2017-07-15", "last": "2017-07-22"}


@pytest.mark.parametrize("importer", [TABLE, RECBOLE])
def test_a_few_malformed_times_do_not_hide_the_column(importer, tmp_path):
    rows = [(*row[:3], "?" if n in (0, 3, 7) else row[3]) for n, row in enumerate(SHUFFLED)]
    write(tmp_path, t__inter=lines("\t", (*INTER[:3], "time_ms:float"), rows))
    outcome, found = read(tmp_path, importer)
    assert outcome.manifest["malformed_lines"]["count"] == 3 and outcome.manifest["counts"]["interactions"] == 477
    assert all(items == [i for i in SEQUENCES[user] if i in items] for user, items in found.items())


def test_a_standard_time_that_is_none_is_an_error(tmp_path):
    write(tmp_path, t__inter=lines("\t", INTER, [(*row[:3], "31/12/2019") for row in SHUFFLED]))
    assert "t.inter, line 2: wanted a time in ISO 8601" in refused(tmp_path, RECBOLE)


@pytest.mark.parametrize("importer", [TABLE, RECBOLE])
def test_several_times_are_an_error_that_names_them(importer, tmp_path):
    header = (*INTER[:3], "visit_time:float", "purchase_date:float")
    write(tmp_path, t__inter=lines("\t", header, [(*row, row[3]) for row in SHUFFLED]))
    told = refused(tmp_path, importer, "--file=t.inter")
    assert "columns visit_time:float, purchase_date:float may each be the time of an interaction; wanted one" in told
    assert "--time_column=visit_time:float, or use --time_column=none" in told
    assert read(tmp_path, importer, "--file=t.inter", "--time_column=visit_time")[1] == SEQUENCES
    in_file_order = read(tmp_path, importer, "--file=t.inter", "--time_column=none", "--overwrite")[1]
    assert in_file_order == {u: [i for v, i, *_ in SHUFFLED if v == u] for u in in_file_order} != SEQUENCES


def test_timestamp_goes_before_other_times(tmp_path):
    write(tmp_path, t__csv=lines(",", (*CSV, "date"), [(*row, "2020-01-01") for row in SHUFFLED]))
    assert read(tmp_path, TABLE)[1] == SEQUENCES


@pytest.mark.parametrize(
    ("kind", "name"),
    [("csv", "timestamp"), ("csv", "date"), ("csv", "unixReviewTime"), ("jsonl", "datetime"), ("jsonl", "Review-Time"),
     ("parquet", "event_time"), ("parquet", "date")],
)  # fmt: skip
def test_a_table_finds_its_time(name, kind, tmp_path):
    frame = pl.DataFrame(SHUFFLED, schema=[*CSV[:3], name], orient="row")
    if "date" in name:
        frame = frame.with_columns(pl.from_epoch(name).dt.strftime("%Y-%m-%d %H:%M:%S"))
    (tmp_path / "raw").mkdir()
    {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[kind](
        tmp_path / "raw" / f"t.{kind}"
    )
    outcome, found = read(tmp_path, TABLE)
    assert found == SEQUENCES and f"times are those of column '{name}'" in outcome.manifest["notes"][0]
    assert read(tmp_path, TABLE, "--time_column=none", "--overwrite")[0].manifest["times"] is None


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("release_date", "2019-01-01", None),
        ("watch_time", 33, None),
        ("session_begin_time", TIME, "column 'session_begin_time' is not used; if it is the time, use --time_column="),
        ("date", "31/12/2019", "column 'date' is not used, as it holds '31/12/2019'; wanted a time in ISO 8601"),
        ("time", "14:35", "column 'time' is not used, as it holds '14:35'"),
    ],
)
def test_what_is_no_time_is_not_used_and_told(name, value, told, tmp_path):
    write(tmp_path, t__csv=lines(",", (*CSV[:2], name), [(u, i, value) for u, i, *_ in ROWS]))
    outcome, found = read(tmp_path, TABLE)
    (note,) = outcome.manifest["notes"]
    assert found == SEQUENCES and note.startswith("t.csv: without times, the rows of each user count as in time order")
    assert told in note if told else "column" not in note


@pytest.mark.slow
@pytest.mark.parametrize(
    "form",
    ["%Y-%m-%d %H:%M:%S UTC", "%Y-%m-%d %H:%M:%S.123456 UTC", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S+00",
     "%Y-%m-%d %H:%M:%S+0000", "%Y-%m-%d %H:%M:%S +0000", "%Y-%m-%d %H:%M:%S GMT", "%Y-%m-%d %H:%M:%S utc"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_trailing_utc_is_a_time_zone(form, kind, tmp_path):
    if kind == "parquet" and " +" in form:
        pytest.skip("a blank before the offset")
    frame = pl.DataFrame(SHUFFLED, schema=[*CSV[:3], "event_time"], orient="row")
    frame = frame.with_columns(pl.from_epoch("event_time").dt.strftime(form))
    (tmp_path / "raw").mkdir()
    getattr(frame, f"write_{kind}")(tmp_path / "raw" / f"t.{kind}")
    outcome, found = read(tmp_path, TABLE, "--time_column=event_time")
    assert found == SEQUENCES and outcome.manifest["times"] == {"first": "2017-07-15", "last": "2017-07-22"}
    flags = [TABLE, "--time_column=event_time", "--date_from=2017-07-16 02:56:40 UTC", "--overwrite"]
    assert read(tmp_path, *flags)[0].manifest["counts"]["interactions"] == 420


# Columns by flag; titles; ratings.


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
    assert "has no column 'user_id'; wanted one of: visitor:token, sku:token" in refused(tmp_path, RECBOLE)
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
    assert "data.zip: is compressed; wanted text (plain or gzipped) or Parquet; unpack it" in refused(tmp_path, TABLE)


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
    told = f"a.item: titles are those of column '{columns[title]}'; --title_column names another"
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


# Lists of earlier items.


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
    assert outcome.manifest["notes"][-1].startswith("60 interactions stand only in the column 'item_id_list:token_seq'")


def test_a_list_of_another_item_column(tmp_path):
    write(tmp_path, s__inter=listed(user="session_id:token", item="track_id"))
    assert read(tmp_path, RECBOLE, "--item_column=track_id")[1] == SEQUENCES


def test_lists_that_do_not_fit_the_rows_before_are_an_error(tmp_path):
    whole = listed().splitlines(keepends=True)
    write(tmp_path, s__inter="".join([*whole[:3], *whole[4:]]))  # a row is gone
    told = refused(tmp_path, RECBOLE)
    assert "s.inter, line 4: the 'item_id_list:token_seq' of user U001 ends with" in told
    assert "wanted the rows of each user in time order" in told


# Headers, separators, ends of lines, encodings.


NUMBERS = ["--user_column=1", "--item_column=2", "--rating_column=3", "--time_column=4"]


def test_no_header(tmp_path):
    write(tmp_path, ratings__csv=lines(",", None, SHUFFLED))
    told = refused(tmp_path, TABLE)
    assert "give numbers: --user_column=1 --item_column=2" in told
    outcome, found = read(tmp_path, TABLE, *NUMBERS)
    assert found == SEQUENCES and "the first line counts as a row; --header=yes" in outcome.manifest["notes"][0]
    outcome, _ = read(tmp_path, TABLE, *NUMBERS, "--header=yes", "--overwrite")
    assert outcome.manifest["counts"]["interactions"] == 479 and not outcome.manifest["notes"]
    assert read(tmp_path, TABLE, *NUMBERS, "--header=no", "--overwrite")[1] == SEQUENCES
    assert "--header=no: the columns have no names, so 'user_id' means nothing" in refused_again(
        tmp_path, "--header=no"
    )


def refused_again(folder, *flags):
    with pytest.raises(InputError) as caught:
        prepared.run(folder / "raw", folder / "other", [TABLE, *flags])
    return str(caught.value)


@pytest.mark.parametrize(
    ("separator", "header"),
    [(",", CSV), (";", ("klant", "artikel", "cijfer", "tijd")), ("\t", ("a", "b", "Rating", "t")), ("|", CSV)],
)
def test_numbers_where_there_is_a_header(header, separator, tmp_path):
    write(tmp_path, r__csv=lines(separator, header, SHUFFLED))
    outcome, found = read(tmp_path, TABLE, *NUMBERS)
    assert found == SEQUENCES and not outcome.manifest["malformed_lines"]["count"]
    assert f"the first line counts as column names ({', '.join(header)})" in outcome.manifest["notes"][0]


def test_a_header_of_ids_alone(tmp_path):
    write(tmp_path, r__csv=lines(",", CSV[:2], [row[:2] for row in ROWS]))
    assert read(tmp_path, TABLE, "--user_column=1", "--item_column=2")[1] == SEQUENCES


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_the_separator_is_found(separator, tmp_path):
    write(tmp_path, r__csv=lines(separator, CSV, SHUFFLED), i__csv=lines(",", ("item_id", "title"), TITLES.items()))
    assert read(tmp_path, TABLE, "--file=r.csv", "--items_file=i.csv")[1] == SEQUENCES
    assert titles(tmp_path) == TITLES


def test_a_second_header_is_no_user(tmp_path):
    half = lines(",", CSV[:2], [row[:2] for row in ROWS[:240]]), lines(",", CSV[:2], [row[:2] for row in ROWS[240:]])
    write(tmp_path, r__csv="".join(half))
    outcome, found = read(tmp_path, TABLE)
    assert found == SEQUENCES and outcome.manifest["dropped"] == {"repeated header lines of r.csv": 1}
    assert "1 repeated header lines of r.csv: left out" in describe(outcome).splitlines()
    write(tmp_path, r__csv="\ufeff" + half[0] + "\ufeff" + half[1].replace("user_id,", '"user_id" , '))
    outcome, found = read(tmp_path, TABLE, "--overwrite")
    assert found == SEQUENCES and outcome.manifest["dropped"] == {"repeated header lines of r.csv": 1}


def test_a_second_header_of_recbole(tmp_path):
    write(tmp_path, r__inter=lines("\t", INTER[:2], [row[:2] for row in ROWS]) + "\t".join(INTER[:2]) + "\n")
    outcome, found = read(tmp_path, RECBOLE)
    assert found == SEQUENCES and outcome.manifest["dropped"] == {"repeated header lines of r.inter": 1}


def test_a_long_cell_loses_nothing(tmp_path):
    header, long = ("user_id", "item_id", "timestamp", "review"), "word " * 40_000
    rows = [(u, i, t, long if n == 7 else '"fine, thanks\nreally"') for n, (u, i, _, t) in enumerate(SHUFFLED)]
    records = [(i, t, long if i == "I002" else "fine") for i, t in TITLES.items()]
    write(tmp_path, r__csv=lines(",", header, rows), i__csv=lines(",", ("item_id", "title", "description"), records))
    outcome, found = read(tmp_path, TABLE, "--file=r.csv", "--items_file=i.csv", "--max_bad_lines=0")
    assert found == SEQUENCES and titles(tmp_path) == TITLES


@pytest.mark.parametrize("quoted", ['"good', '"good\nvery "good"'])
def test_a_quote_left_open_in_the_last_column_swallows_nothing_in_silence(quoted, tmp_path):
    """The row would have the right number of cells, and the rows behind it would be gone."""
    rows = [(*row, quoted if n == 400 else '"ok"') for n, row in enumerate(SHUFFLED)]
    write(tmp_path, r__csv=lines(",", (*CSV, "review"), rows))
    outcome, _ = read(tmp_path, TABLE)
    assert outcome.manifest["counts"]["interactions"] + outcome.manifest["malformed_lines"]["count"] in (480, 481)


def test_quotes_that_are_escaped_by_a_backslash(tmp_path):
    records = [
        '"I001";"A \\"fine\\"; brush"',
        '"I002";"Half a " quote"',
        *(f'"{i}";"{t}"' for i, t in list(TITLES.items())[2:]),
    ]
    write(tmp_path, r__csv=lines(",", CSV, ROWS), i__csv="item_id;title\n" + "\n".join(records))
    read(tmp_path, TABLE, "--file=r.csv", "--items_file=i.csv", "--max_bad_lines=0")
    assert titles(tmp_path) == {**TITLES, "I001": 'A "fine"; brush', "I002": 'Half a quote"'}


@pytest.mark.parametrize("end", ["\r", "\r\n", "\r\r\n"])
@pytest.mark.parametrize("kind", ["csv", "inter", "json", "txt"])
def test_ends_of_lines(end, kind, tmp_path):
    text = {
        "csv": lines(",", CSV, SHUFFLED),
        "inter": lines("\t", INTER, SHUFFLED),
        "json": "".join(json.dumps(dict(zip(CSV, row))) + "\n" for row in SHUFFLED),
        "txt": lines(" ", None, [(u, *items) for u, items in SEQUENCES.items()]),
    }[kind]
    half = text.splitlines()
    mixed = "\n".join(half[:200]) + "\n" + end.join(half[200:])
    for content in (text.replace("\n", end), mixed):
        write(tmp_path, **{f"r__{kind}": content})
        importer = {"inter": RECBOLE, "txt": "--importer=sequences"}.get(kind, TABLE)
        outcome, found = read(tmp_path, importer, "--overwrite")
        assert found == SEQUENCES and not outcome.manifest["malformed_lines"]["count"]


def test_blanks_around_names_and_values(tmp_path):
    rows = [(f"{u} ", f' "{i}"', f" {r}", f" {t} ") for u, i, r, t in SHUFFLED]
    write(tmp_path, r__csv=lines(",", ("user_id", ' "item_id"', " rating ", " timestamp"), rows))
    write(tmp_path, i__csv=lines(", ", ("item_id", "title"), TITLES.items()))
    flags = ["--file=r.csv", "--items_file=i.csv", "--rating_column=rating", "--min_rating=1"]
    assert read(tmp_path, TABLE, *flags)[1] == SEQUENCES
    assert titles(tmp_path) == TITLES


@pytest.mark.parametrize("codec", ["latin-1", "cp1252", "utf-8-sig", "utf-16", "utf-16-le", "gbk", "cp1251"])
def test_encodings(codec, tmp_path):
    word = {"gbk": "棕色", "cp1251": "щётка"}.get(codec, "café Übersee")
    of = {i: f"{t.replace(' café', '')} {word}" for i, t in TITLES.items()}
    users = {u: f"{u}{word}" for u in SEQUENCES}
    inter = lines(";", CSV, [(users[u], *rest) for u, *rest in SHUFFLED])
    items = lines(";", ("item_id", "title"), of.items())
    write(tmp_path, r__csv=inter.encode(codec), i__csv=items.encode(codec))
    files = ["--file=r.csv", "--items_file=i.csv"]
    flags = [*files, *([f"--encoding={codec}"] if codec in ("utf-16-le", "gbk", "cp1251") else [])]
    outcome, found = read(tmp_path, TABLE, *flags)
    assert found == {users[u]: items for u, items in SEQUENCES.items()} and titles(tmp_path) == of
    notes = [note for note in outcome.manifest["notes"] if "Windows-1252" in note]
    wanted = [f"{name}: {n} lines are not UTF-8 text" for name, n in (("r.csv", 480), ("i.csv", 40))]
    assert [note.partition(",")[0] for note in notes] == (wanted if codec in ("latin-1", "cp1252") else [])


def test_an_encoding_that_is_named_is_kept_to(tmp_path):
    write(tmp_path, r__csv=lines(",", CSV, SHUFFLED).replace("U007", "Ü7").encode("latin-1"))
    assert "r.csv, line " in refused(tmp_path, TABLE, "--encoding=utf-8", "--max_bad_lines=7")
    outcome, _ = read(tmp_path, TABLE, "--encoding=utf-8", "--max_bad_lines=8")
    assert outcome.manifest["malformed_lines"]["count"] == 8
    for name in ("utf-99", "hex", "a\0b", "rot13"):
        assert "is no encoding that Python knows" in refused_again(tmp_path, f"--encoding={name}")


# Parts and JSON.


@pytest.mark.parametrize("kind", ["csv", "json", "plain", "gz"])
def test_a_folder_of_parts(kind, tmp_path):
    for part in range(3):
        rows = ROWS[part * 160 : part * 160 + 160]
        text = lines(",", CSV, rows)
        if kind == "json":
            text = "".join(json.dumps(dict(zip(CSV, row))) + "\n" for row in rows)
        content = gzip.compress(text.encode()) if kind == "gz" else text
        end = {"csv": ".csv", "json": ".json", "plain": "", "gz": ".csv.gz"}[kind]
        name = f"part-0000{part}-3f{end}".replace(".", "__")
        write(tmp_path, **{f"events___{name}": content, f"events___.{name}__crc": b"crc\0"})
    write(tmp_path, events____SUCCESS="", events___part_00009__csv="")
    flags = [TABLE, "--time_column=none"]
    assert read(tmp_path, *flags)[1] == SEQUENCES
    assert read(tmp_path, *flags, "--file=events", "--overwrite")[1] == SEQUENCES
    outcome = prepared.run(tmp_path / "raw" / "events", tmp_path / "inside", flags)
    assert outcome.manifest["counts"]["interactions"] == 480


def test_parts_with_other_headers(tmp_path):
    write(
        tmp_path,
        e___part_0__csv=lines(",", CSV, ROWS),
        e___part_1__csv=lines(",", ("item_id", "user_id"), [("x", "y")]),
    )
    told = refused(tmp_path, TABLE)
    assert "part_1.csv: its columns are item_id, user_id, but those of part_0.csv are user_id, item_id, rating" in told


@pytest.mark.parametrize("form", ["pretty", "line", "lines", "objects", "behind", "twice", "windows"])
def test_json_of_all_forms(form, tmp_path):
    records = [{**dict(zip(CSV, row)), "more": {"a": [{"user_id": "no"}], "b": "]},{["}} for row in SHUFFLED]
    text = {
        "pretty": json.dumps(records, indent=1),
        "line": json.dumps(records),
        "lines": "[\n" + ",\n".join(map(json.dumps, records)) + "\n]\n",
        "objects": "\n".join(json.dumps(record, indent=2) for record in records),
        "behind": "".join(map(json.dumps, records)),
        "twice": json.dumps(records[:100]) + "\n" + json.dumps(records[100:]),
        "windows": json.dumps(records).replace("U007", "Ü7").encode("latin-1"),
    }[form]
    write(tmp_path, r__json=text)
    outcome, found = read(tmp_path, TABLE, "--rating_column=rating", "--min_rating=3")
    assert found == {u if form != "windows" else u.replace("U007", "Ü7"): items for u, items in SEQUENCES.items()}
    assert any("not UTF-8 text" in note for note in outcome.manifest["notes"]) == (form == "windows")


def test_json_that_is_cut_short_or_malformed(tmp_path):
    text = json.dumps([dict(zip(CSV, row)) for row in ROWS], indent=1)
    write(tmp_path, r__json=text[: len(text) // 2])
    assert "cut short" in refused(tmp_path, TABLE)
    write(tmp_path, r__json=text.rstrip("]"))
    assert "r.json: is cut short, its array has no end; wanted a whole file" in refused(tmp_path, TABLE)
    write(tmp_path, r__json=text.replace('"U002"', "U002", 1))
    line = text[: text.index('"U002"')].count("\n") + 1
    assert f"r.json, line {line}: is malformed or cut short (Expecting value)" in refused(tmp_path, TABLE)
    write(tmp_path, r__json=json.dumps([[1, "x", None, dict(zip(CSV, ROWS[0]))]] * 3))
    assert "wanted one JSON object a line, or an array of objects" in refused(tmp_path, TABLE, "--max_bad_lines=8")
    assert prepared.run(
        tmp_path / "raw", tmp_path / "out", [TABLE, "--max_bad_lines=9", "--exact_duplicates=keep"]
    ).fresh


# Ids.


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


def test_sequences_without_an_id(tmp_path):
    write(tmp_path, s__txt="a x y nan z\nnan x y\nb 1.0 2.0 1 é\n".encode("latin-1"))
    outcome, found = read(tmp_path, "--importer=sequences")
    assert found == {"a": ["x", "y", "z"], "b": ["1", "2", "1", "é"]}
    assert outcome.manifest["dropped"] == {"rows without an id": 3} and len(outcome.manifest["notes"]) == 2


def test_no_row_has_an_id(tmp_path):
    write(tmp_path, r__csv=lines(",", CSV, [("nan", *row[1:]) for row in ROWS]))
    assert "every row was left out (480 rows without an id); wanted some" in refused(tmp_path, TABLE)


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
    frame = pl.DataFrame({"item_id": [f"sku-{n}" for n in range(5)], "title": ["x"] * 5})
    write_to = {"csv": frame.write_csv, "json": frame.write_json, "parquet": frame.write_parquet}[kind]
    write_to(tmp_path / "raw" / f"i.{kind}")
    told = refused(tmp_path, TABLE, "--file=r.csv", f"--items_file=i.{kind}")
    assert "the records' ids are like 'sku-0', those of the interactions like 'I" in told
    assert "--items_file, --item_column and --items_id_column" in told


def test_items_with_their_id_in_another_column(tmp_path):
    write(tmp_path, r__csv=lines(",", CSV, SHUFFLED))
    records = [json.dumps({"sku": i, "product_name": t}) for i, t in TITLES.items()]
    write(tmp_path, i__json="[" + ",".join(records) + "]")
    flags = [TABLE, "--file=r.csv", "--items_file=i.json"]
    assert "i.json: has no column 'item_id'; wanted one of: product_name, sku; name it with --item" in refused(
        tmp_path, *flags
    )
    read(tmp_path, *flags, "--items_id_column=sku")
    assert titles(tmp_path) == TITLES


def test_two_columns_of_one_name(tmp_path):
    write(tmp_path, r__csv=lines(",", ("user_id", "item_id", "item_id"), [("a", "x", "y")] * 9))
    assert "has 2 columns 'item_id'; wanted one; give them different names, or name" in refused(tmp_path, TABLE)
    assert read(tmp_path, TABLE, "--item_column=3")[1] == {"a": ["y"] * 9}
