"""Which column of a text table is the time, and in which unit."""

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

from llmesr_jax.data.summary import describe


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
    assert found == SEQUENCES and f"times are read from column '{name}'" in outcome.manifest["notes"][0]
    assert read(tmp_path, TABLE, "--time_column=none", "--overwrite")[0].manifest["times"] is None


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("release_date", "2019-01-01", None),
        ("watch_time", 33, None),
        ("session_begin_time", TIME, "column 'session_begin_time' is not used; if it is the time, set --time_column="),
        ("date", "31/12/2019", "column 'date' is not used, as it holds '31/12/2019'; expected a time in ISO 8601"),
        ("time", "14:35", "column 'time' is not used, as it holds '14:35'"),
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
