"""Which column of a table is the time, and in which unit or format."""

import datetime

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
    lines,
    read,
    refused,
    write,
)

from llmesr_jax.data import time_formats, times
from llmesr_jax.data.summary import describe
from llmesr_jax.data.values import Malformed


@pytest.mark.parametrize("name", ["time:float", "date:float", "unixtime:token", "created_at:float", "reviewTime:float"])
def test_recbole_finds_a_time_of_another_name(name, tmp_path):
    write(tmp_path, t__inter=lines("\t", (*INTER[:3], name), SHUFFLED))
    outcome, found = read(tmp_path, RECBOLE)
    assert found == SEQUENCES
    (note,) = outcome.manifest["notes"]
    assert note.startswith(f"t.inter: times are read from column '{name}'") and "--time_column=none" in note
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
    assert "t.inter, line 2: expected a time in ISO 8601" in refused(tmp_path, RECBOLE)


@pytest.mark.parametrize("importer", [TABLE, RECBOLE])
def test_several_times_are_an_error_that_names_them(importer, tmp_path):
    header = (*INTER[:3], "visit_time:float", "purchase_date:float")
    write(tmp_path, t__inter=lines("\t", header, [(*row, row[3]) for row in SHUFFLED]))
    told = refused(tmp_path, importer, "--file=t.inter")
    assert "columns visit_time:float, purchase_date:float may each be the time of an interaction; expected one" in told
    assert "--time_column=visit_time:float, or --time_column=none" in told
    assert read(tmp_path, importer, "--file=t.inter", "--time_column=visit_time")[1] == SEQUENCES
    in_file_order = read(tmp_path, importer, "--file=t.inter", "--time_column=none", "--overwrite")[1]
    assert in_file_order == {u: [i for v, i, *_ in SHUFFLED if v == u] for u in in_file_order} != SEQUENCES


def test_timestamp_goes_before_other_times(tmp_path):
    write(tmp_path, t__csv=lines(",", (*CSV, "date"), [(*row, "2020-01-01") for row in SHUFFLED]))
    assert read(tmp_path, TABLE)[1] == SEQUENCES


@pytest.mark.parametrize(
    ("kind", "name"),
    [("csv", "timestamp"), ("csv", "date"), ("csv", "unixReviewTime"), ("jsonl", "datetime"), ("jsonl", "Review-Time"),
     pytest.param("parquet", "event_time", marks=pytest.mark.slow), ("parquet", "date")],
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
    assert found == SEQUENCES and f"times are read from column '{name}'" in outcome.manifest["notes"][0]
    assert read(tmp_path, TABLE, "--time_column=none", "--overwrite")[0].manifest["times"] is None


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("release_date", "2019-01-01", None),
        ("watch_time", 33, None),
        ("session_begin_time", TIME, "column 'session_begin_time' is not used; if it is the time, set --time_column="),
        (
            "session_begin_time",
            "14:35",
            "column 'session_begin_time' is not used, as it holds '14:35'; expected a time",
        ),
        (
            "moment",
            "2019-12-31",
            "column 'moment' looks like times; if it has the interactions' times, set --time_column",
        ),
        ("moment", TIME * 1000, "column 'moment' looks like times"),
        ("price", 19.5, None),
        ("invoice_id", TIME, None),
    ],
)
def test_what_is_no_time_is_not_used_and_told(name, value, told, tmp_path):
    write(tmp_path, t__csv=lines(",", (*CSV[:2], name), [(u, i, value) for u, i, *_ in ROWS]))
    outcome, found = read(tmp_path, TABLE)
    (note,) = outcome.manifest["notes"]
    assert found == SEQUENCES and note.startswith(
        "t.csv: has no times, so each user's rows count as being in time order"
    )
    assert told in note if told else "column" not in note


@pytest.mark.parametrize(("name", "value"), [("date", "31/12/2019"), ("time", "14:35"), ("Purchased at", "1.2.2020")])
def test_a_time_that_cannot_be_read_is_an_error_rather_than_file_order(name, value, tmp_path):
    write(tmp_path, t__csv=lines(",", (*CSV[:2], name), [(u, i, value) for u, i, *_ in ROWS]))
    told = refused(tmp_path, TABLE)
    assert f"t.csv: column '{name}' cannot be read as times, as it holds '{value}'; expected a time in ISO 8601" in told
    assert "--time_format" in told and "none if the rows are in time order" in told
    assert read(tmp_path, TABLE, "--time_column=none")[1] == SEQUENCES


DATES = [  # one column's values, and the formats that fit them all
    (("31.12.2023", "02.01.2024"), ["%d.%m.%Y"]),
    (("02.01.2024 14:05", "31.12.2023 09:30"), ["%d.%m.%Y %H:%M"]),
    (("31/12/2023", ""), ["%d/%m/%Y"]),
    (("12/31/2023 2:05 PM", "1/2/2024 11:30 AM"), ["%m/%d/%Y %I:%M %p"]),
    (("31.12.2023, 14:05:09",), ["%d.%m.%Y, %H:%M:%S"]),
    (("2023/12/31 14:05",), ["%Y/%m/%d %H:%M"]),
    (("02.01.2024", "03.04.2024"), ["%d.%m.%Y", "%m.%d.%Y"]),
    (("31/12/2023", "12/31/2023"), []),
    (("31.12.2023", "soon"), []),
    (("31.12.1950",), []),
    (("1.10.2",), []),
    (("192.168.1.12",), []),
    (("", None), []),
]


@pytest.mark.parametrize(("values", "forms"), DATES)
def test_formats_that_fit_all_dates(values, forms):
    assert time_formats.fitting(values, earliest=times.day("1980-01-01", "x")) == forms


@pytest.mark.parametrize(
    ("wanted", "flag"),
    [
        ("%d.%m.%Y %H:%M", "--time_column=Datum --time_format='%d.%m.%Y %H:%M'"),
        ("%m/%d/%Y", "--time_column=Datum --time_format=%m/%d/%Y"),
        ("05.06.%Y", "--time_format=%d.%m.%Y (day first) or --time_format=%m.%d.%Y (month first), as both fit"),
    ],
)
def test_dates_in_another_form_are_told_with_their_format(wanted, flag, tmp_path):
    rows = [(*row[:2], datetime.datetime.fromtimestamp(row[3], datetime.UTC).strftime(wanted)) for row in ROWS]
    for folder in (tmp_path / "one", tmp_path / "two"):
        write(folder, t__csv=lines(",", (*CSV[:2], "Datum"), rows))
    (note,) = read(tmp_path / "one", TABLE)[0].manifest["notes"]
    assert "column 'Datum' looks like times; if it has the interactions' times, set" in note and flag in note
    told = refused(tmp_path / "two", TABLE, "--time_column=Datum")
    assert (
        f"t.csv: column 'Datum' cannot be read as times, as it holds '{rows[0][2]}'; expected a time in ISO 8601"
        in told
    )
    assert f"2019-12-31; set {flag.removeprefix('--time_column=Datum ')}" in told


FORMATS = [
    "%d.%m.%Y %H:%M:%S",
    "%m/%d/%y %I:%M:%S %p",
    "%H:%M:%S.%f on %d %b %Y",
    "%Y%m%d%H%M%S",
    "%d/%m/%Y %H:%M:%S %z",
]


@pytest.mark.parametrize("form", FORMATS)
def test_text_and_columns_are_read_alike_by_a_format(form):
    moments = [datetime.datetime.fromtimestamp(row[3], datetime.UTC) for row in SHUFFLED]
    texts = [moment.strftime(form) for moment in moments]
    found = [times.from_any(text, times.form("s", form)) for text in texts]
    assert found == [row[3] * 1_000_000 for row in SHUFFLED]
    frame = pl.DataFrame({"at": [*texts, "soon", None]})
    assert frame.select(times.column("at", pl.String(), form)).to_series().to_list() == [*found, None, None]


@pytest.mark.parametrize(
    ("form", "texts"),
    [
        ("%d.%m.%Y %H:%M:%S.%f", ["31.12.2019 13:45:00.1", "31.12.2019 13:45:00.123", "31.12.2019  13:45:00.123456"]),
        ("%d.%m.%Y %H:%M:%S.%f", ["31.12.2019 13:45:00", "31.12.2019 13:45:00.", "31.12.2019 13:45:00.1234567"]),
        ("%Y-%m-%d %H:%M:%S.%f%z", ["2019-12-31 13:45:00.5+0100", "2019-12-31 13:45:00+0100"]),
    ],
)
def test_fractions_of_any_length_are_read_alike_by_a_format(form, texts):
    frame = pl.DataFrame({"at": texts})
    found = frame.select(times.column("at", pl.String(), form)).to_series().to_list()
    assert found == [_micros(text, form) for text in texts]


def _micros(text, unit="s"):
    """What `times.from_any` reads; None for what it refuses."""
    try:
        return times.from_any(text, unit)
    except Malformed:
        return None


ISO = {
    "2019-12-31": 1577750400000000,
    "2019-12-31T23:59:59Z": 1577836799000000,
    "2019-12-31 23:59:59": 1577836799000000,
    "2019-12-31T23:59:59+01:00": 1577833199000000,
    "2019-12-31 23:59:59 +0100": 1577833199000000,
    "2019-12-31 23:59:59 +01": 1577833199000000,
    " 2019-12-31 23:59 ": 1577836740000000,
    "2019-12-31T23:59-05:30": 1577856540000000,
    "2019-12-31T23:59:59,123": 1577836799123000,
    "2019-12-31T23:59:59.123456789": 1577836799123456,
    "2019-12-31T23:59:59.5 UTC": 1577836799500000,
    "20191231T235959": 1577836799000000,
    " 1577836799": 1577836799000000,
    "05/12/2019": None,
    "2019-02-30": None,
    "2019-1-2": None,
    "2019-12-31 23:59:60": None,
    "2019-12-31 24:00:00": None,
    "soon": None,
    "": None,
}


@pytest.mark.parametrize("first", ISO)
def test_iso_times_are_read_alike_whichever_form_comes_first(first):
    assert _micros(first) == ISO[first]
    texts = [first, *(text for text in ISO if text != first)]
    found = pl.DataFrame({"at": texts}).select(times.column("at", pl.String(), "s")).to_series().to_list()
    assert dict(zip(texts, found)) == ISO


@pytest.mark.parametrize("kind", ["csv", "ndjson", "parquet"])
def test_times_in_a_format_of_the_users_own(kind, tmp_path):
    frame = pl.DataFrame(SHUFFLED, schema=[*CSV[:3], "Purchased at"], orient="row")
    frame = frame.with_columns(pl.from_epoch("Purchased at").dt.strftime(FORMATS[0]))
    (tmp_path / "raw").mkdir()
    getattr(frame, f"write_{kind}")(tmp_path / "raw" / f"t.{kind}")
    told = refused(tmp_path, TABLE, "--time_column=Purchased at")
    assert f"column 'Purchased at' cannot be read as times, as it holds '{frame['Purchased at'][0]}'" in told
    assert told.endswith(f"set --time_format='{FORMATS[0]}'")
    outcome, found = read(tmp_path, TABLE, f"--time_format={FORMATS[0]}")
    assert found == SEQUENCES and outcome.manifest["times"] == {"first": "2017-07-15", "last": "2017-07-22"}


def test_times_in_another_format_than_was_said(tmp_path):
    write(tmp_path, t__csv=lines(",", (*CSV[:3], "at"), [(*row[:3], "2019-12-31") for row in SHUFFLED]))
    told = refused(tmp_path, TABLE, "--time_column=at", "--time_format=%d-%m-%Y")
    assert "t.csv, line 2: expected a time as --time_format=%d-%m-%Y says, not '2019-12-31'" in told


@pytest.mark.parametrize(
    "form", ["%d.%m.", "%H:%M", "d.m.Y", "%d.%m.%Y %H", "%d.%m.%Y %I:%M", "%d.%m.%Y %Z", "%d.%Q.%Y"]
)
def test_a_format_that_loses_the_day_or_the_hour_is_refused(form, tmp_path):
    write(tmp_path, t__csv=lines(",", (*CSV[:3], "date"), SHUFFLED))
    told = refused(tmp_path, TABLE, f"--time_format={form}")
    assert f"--time_format={form}: is not the format of a day, or of a day with hour and minute" in told


def test_a_format_without_a_column_of_times(tmp_path):
    write(tmp_path, t__csv=lines(",", CSV[:3], [row[:3] for row in SHUFFLED]))
    assert "has no column of times for --time_format=%d.%m.%Y" in refused(tmp_path, TABLE, "--time_format=%d.%m.%Y")


@pytest.mark.slow
@pytest.mark.parametrize(
    "form",
    ["%Y-%m-%d %H:%M:%S UTC", "%Y-%m-%d %H:%M:%S.123456 UTC", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S+00",
     "%Y-%m-%d %H:%M:%S+0000", "%Y-%m-%d %H:%M:%S +0000", "%Y-%m-%d %H:%M:%S GMT", "%Y-%m-%d %H:%M:%S utc"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_trailing_utc_is_a_time_zone(form, kind, tmp_path):
    frame = pl.DataFrame(SHUFFLED, schema=[*CSV[:3], "event_time"], orient="row")
    frame = frame.with_columns(pl.from_epoch("event_time").dt.strftime(form))
    (tmp_path / "raw").mkdir()
    getattr(frame, f"write_{kind}")(tmp_path / "raw" / f"t.{kind}")
    outcome, found = read(tmp_path, TABLE, "--time_column=event_time")
    assert found == SEQUENCES and outcome.manifest["times"] == {"first": "2017-07-15", "last": "2017-07-22"}
    flags = [TABLE, "--time_column=event_time", "--date_from=2017-07-16 02:56:40 UTC", "--overwrite"]
    assert read(tmp_path, *flags)[0].manifest["counts"]["interactions"] == 420
