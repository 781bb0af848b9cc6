"""Text tables: headers, separators, quotes, encodings, parts, JSON."""

import gzip
import json

import prepared
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

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.summary import describe

NUMBERS = ["--user_column=1", "--item_column=2", "--rating_column=3", "--time_column=4"]


def test_no_header(tmp_path):
    write(tmp_path, ratings__csv=lines(",", None, SHUFFLED))
    told = refused(tmp_path, TABLE)
    assert "name the columns by number: --user_column=1 --item_column=2" in told
    outcome, found = read(tmp_path, TABLE, *NUMBERS)
    assert found == SEQUENCES and "the first line was read as a row; set --header=yes" in outcome.manifest["notes"][0]
    outcome, _ = read(tmp_path, TABLE, *NUMBERS, "--header=yes", "--overwrite")
    assert outcome.manifest["counts"]["interactions"] == 479 and not outcome.manifest["notes"]
    assert read(tmp_path, TABLE, *NUMBERS, "--header=no", "--overwrite")[1] == SEQUENCES
    assert "--header=no: the columns have no names, so 'user_id' is not a column;" in refused_again(
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
    assert f"the first line was read as the columns' names ({', '.join(header)})" in outcome.manifest["notes"][0]


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
    assert "1 repeated header line of r.csv: left out" in describe(outcome).splitlines()
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
    wanted = [f"{name}: {n} lines have bytes that are not UTF-8" for name, n in (("r.csv", 480), ("i.csv", 40))]
    assert [note.partition(";")[0] for note in notes] == (wanted if codec in ("latin-1", "cp1252") else [])


def test_an_encoding_that_is_named_is_kept_to(tmp_path):
    write(tmp_path, r__csv=lines(",", CSV, SHUFFLED).replace("U007", "Ü7").encode("latin-1"))
    assert "r.csv, line " in refused(tmp_path, TABLE, "--encoding=utf-8", "--max_bad_lines=7")
    outcome, _ = read(tmp_path, TABLE, "--encoding=utf-8", "--max_bad_lines=8")
    assert outcome.manifest["malformed_lines"]["count"] == 8
    for name in ("utf-99", "hex", "a\0b", "rot13"):
        assert "is not an encoding that Python knows" in refused_again(tmp_path, f"--encoding={name}")


@pytest.mark.parametrize("everywhere", [True, False])
def test_a_header_in_another_encoding_than_is_named_is_never_skipped(everywhere, tmp_path):
    rows = [(*row, "groß" if everywhere else "x") for row in SHUFFLED]
    write(tmp_path, r__csv=lines(",", (*CSV, "Größe"), rows).encode("cp1252"))
    told = refused(tmp_path, TABLE, "--encoding=utf-8")
    assert "r.csv, line 1: is not text in --encoding=utf-8, as it has 'user_id,item_id" in told
    assert told.endswith("set --encoding to the file's encoding, such as cp1252")
    assert read(tmp_path, TABLE, "--encoding=cp1252")[1] == SEQUENCES


def test_a_first_row_in_another_encoding_is_a_malformed_line(tmp_path):
    text = lines(",", (), SHUFFLED).encode()
    write(tmp_path, r__csv=b"\xdc,I001,3,1500087400\n" + text)
    flags = [TABLE, *(f"--{name}_column={n}" for n, name in enumerate(("user", "item"), 1)), "--time_column=4"]
    outcome, found = read(tmp_path, *flags, "--encoding=utf-8", "--header=no", "--max_bad_lines=1")
    assert found == SEQUENCES and outcome.manifest["malformed_lines"]["count"] == 1


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
    assert any(
        "has bytes that are not UTF-8" in note or "have bytes that are not UTF-8" in note
        for note in outcome.manifest["notes"]
    ) == (form == "windows")


def test_json_that_is_cut_short_or_malformed(tmp_path):
    text = json.dumps([dict(zip(CSV, row)) for row in ROWS], indent=1)
    write(tmp_path, r__json=text[: len(text) // 2])
    assert "cut short" in refused(tmp_path, TABLE)
    write(tmp_path, r__json=text.rstrip("]"))
    assert "r.json: is cut short: its array has no end; expected a whole file" in refused(tmp_path, TABLE)
    write(tmp_path, r__json=text.replace('"U002"', "U002", 1))
    line = text[: text.index('"U002"')].count("\n") + 1
    assert f"r.json, line {line}: is malformed or cut short (Expecting value)" in refused(tmp_path, TABLE)
    write(tmp_path, r__json=json.dumps([[1, "x", None, dict(zip(CSV, ROWS[0]))]] * 3))
    assert "expected one JSON object per line, or an array of objects" in refused(tmp_path, TABLE, "--max_bad_lines=8")
    assert prepared.run(
        tmp_path / "raw", tmp_path / "out", [TABLE, "--max_bad_lines=9", "--exact_duplicates=keep"]
    ).fresh
