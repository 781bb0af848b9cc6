"""Parquet as pandas, Spark, Snowflake and others write it: ids of every type, lists, parts of different widths."""

import datetime
import uuid
from decimal import Decimal

import polars as pl
import prepared
import pytest

from llmesr_jax.core.errors import InputError

DAY = 86_400
START = 1_500_000_000
USERS = [1, 1, 1, 2, 2, 2]
ITEMS = [7, 8, 9, 9, 8, 7]
TIMES = [START + n * DAY for n in (3, 1, 2, 1, 2, 3)]
IN_TIME = [["8", "9", "7"], ["9", "8", "7"]]  # of the two users


@pytest.fixture
def run(tmp_path):
    """run(frames, *flags) -> the outcome, and the items of each user in time order; frames may have names."""

    def run(frames, *flags, time="at", items=None, number=[0]):
        number[0] += 1
        raw, out = tmp_path / f"raw{number[0]}", tmp_path / f"out{number[0]}"
        raw.mkdir()
        frames = frames if isinstance(frames, dict) else {f"part-{n}.parquet": f for n, f in enumerate(frames)}
        for name, frame in frames.items():
            (raw / name).parent.mkdir(parents=True, exist_ok=True)
            frame.write_parquet(raw / name)
        flags = ["--importer=table", *flags, *([f"--time_column={time}"] if time else [])]
        if items is not None:
            items.write_parquet(raw / "things.parquet")
            flags.append("--items_file=things.parquet")
        outcome = prepared.run(raw, out, flags)
        ids = (out / "item_ids.txt").read_text().splitlines()
        found = [[ids[i - 1] for i in items] for items in prepared.sequences(out).values()]
        return outcome, found, (out / "user_ids.txt").read_text().splitlines()

    return run


def frame(users=USERS, items=ITEMS, times=TIMES, **types):
    found = pl.DataFrame({"user_id": users, "item_id": items, "at": times})
    return found.with_columns(pl.col(name).cast(dtype) for name, dtype in types.items())


@pytest.mark.slow
@pytest.mark.parametrize(
    "dtype",
    [pl.Int8, pl.UInt32, pl.Int64, pl.Int128, pl.Float32, pl.Float64, pl.Decimal(38, 0), pl.Decimal(20, 4), pl.String,
     pl.Categorical(), pl.Enum(list("123456789"))],
)  # fmt: skip
def test_ids_of_every_type_are_the_same_ids(dtype, run):
    ids = frame().with_columns(pl.col("user_id", "item_id").cast(pl.String)) if dtype in (pl.String,) else frame()
    if isinstance(dtype, (pl.Categorical, pl.Enum)):
        ids = ids.with_columns(pl.col("user_id", "item_id").cast(pl.String))
    outcome, found, users = run([ids.with_columns(pl.col("user_id", "item_id").cast(dtype))])
    assert (found, users) == (IN_TIME, ["1", "2"])
    assert outcome.manifest["malformed_lines"]["count"] == 0 and outcome.manifest["dropped"] == {}


def test_bytes_are_utf_8_text(run):
    ids = frame().with_columns(
        pl.format("né{}", "user_id").cast(pl.Binary), pl.format("€{}", "item_id").cast(pl.Binary)
    )
    bad = pl.DataFrame({"user_id": [b"\xff\xfe", b"\xed\xa0\x80"], "item_id": [b"x", b"x"], "at": TIMES[:2]})
    outcome, found, users = run([ids, bad])
    assert users == ["né1", "né2"] and found[0] == ["€8", "€9", "€7"]
    assert outcome.manifest["malformed_lines"]["count"] == 2
    assert "user_id has 'fffe', expected text" in outcome.manifest["malformed_lines"]["first"][0]


def test_uuids_of_16_bytes(run):
    of = {n: uuid.uuid5(uuid.NAMESPACE_DNS, str(n)) for n in {*USERS, *ITEMS}}
    ids = frame([of[n].bytes for n in USERS], [of[n].bytes for n in ITEMS])
    _, found, users = run([ids])
    assert users == [str(of[1]), str(of[2])] and found[0] == [str(of[n]) for n in (8, 9, 7)]


def test_floats_beside_gaps_as_pandas_writes_them(run):
    gaps = frame([1.0, None, float("nan"), 2.0], [7.0, 8.0, 9.0, None], TIMES[:4])
    outcome, found, users = run([frame(user_id=pl.Float64, item_id=pl.Float64), gaps], "--exact_duplicates=keep")
    assert users == ["1", "2"] and found == [["8", "9", "7", "7"], IN_TIME[1]]
    assert outcome.manifest["dropped"] == {"rows without an id": 3}
    assert outcome.manifest["malformed_lines"]["count"] == 0


@pytest.mark.parametrize(
    "users, told",
    [
        (pl.Series([1.5, 2.5] * 3), "user_id has '1.5', expected text or a whole number"),
        (pl.Series([2.0**53 + 2, 2.0**60] * 3), "user_id has '9007199254740994.0'"),  # its neighbour is the same float
        (pl.Series([2.0**24 + 2] * 6, dtype=pl.Float32), "user_id has '16777218.0'"),
        (pl.Series([float("inf")] * 6), "user_id has 'inf'"),
        (pl.Series([Decimal("1.50")] * 6), "user_id has '1.50'"),
        (
            pl.Series([[1]] * 6),
            "column 'user_id' holds lists; expected lists of items (item_id), with one user per row",
        ),
        (pl.Series([True] * 6), "column 'user_id' holds Boolean; expected ids: text or whole numbers"),
        (pl.Series([{"a": 1}] * 6), "column 'user_id' holds Struct"),
        (pl.Series([datetime.date(2020, 1, 1)] * 6), "column 'user_id' holds Date; expected ids"),
    ],
)
def test_what_is_no_id(users, told, run):
    with pytest.raises(InputError) as caught:
        run([frame().with_columns(user_id=users)])
    assert told in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("word", ["", "nan", "NaN", "NA", "None", "null", "<NA>", "  ", " nan "])
def test_words_that_are_no_id(word, run):
    outcome, found, _ = run([frame(list("aaabbb"), list("xyzxyz")), frame([word, "a"], ["x", word], TIMES[:2])])
    assert outcome.manifest["dropped"] == {"rows without an id": 2} and len(found) == 2


def test_blanks_around_an_id_and_whole_floats(run):
    ids = [" 1", "1.0", "1", "2 ", "2.00", "2"]
    outcome, found, users = run([frame(ids, [f"{n}.0" for n in ITEMS])])
    assert (found, users) == (IN_TIME, ["1", "2"]) and outcome.manifest["dropped"] == {}
    note = "ids that are written as whole floats were read as whole numbers: 1.0 as 1"
    assert outcome.manifest["notes"] == [note]
    _, _, users = run([frame(["v1.0", "1.0.0", "1.", "1e3", "v1.0", "v1.0"], list("xyxyyz"))])
    assert users == ["v1.0", "1.0.0", "1.", "1e3"]  # none of these is a whole float


@pytest.mark.slow
def test_items_meet_ids_of_another_type(run):
    titles = ["Seven", "Eight", "Nine"]
    for ids in (
        [7.0, 8.0, 9.0],
        [Decimal(7), Decimal(8), Decimal(9)],
        ["7.0", " 8", "9"],
        [b"7", b"8", b"9"],
        [7, 8, 9],
    ):
        things = pl.DataFrame({"item_id": ids, "title": titles})
        outcome, _, _ = run([frame()], "--file=part-0.parquet", items=things)
        assert outcome.manifest["item_records"]["with_record"] == 3
    things = things.with_columns(pl.col("title").cast(pl.Binary))
    outcome, _, _ = run([frame()], "--file=part-0.parquet", items=things)
    assert '"title": "Eight"' in (outcome.plan.out / "items.jsonl").read_text()


def test_parts_whose_types_differ_in_width_or_unit(run):
    second = [datetime.datetime.fromtimestamp(t, datetime.UTC).replace(tzinfo=None) for t in TIMES]
    moments = frame(times=second)
    parts = [
        moments[:2].with_columns(pl.col("at").cast(pl.Datetime("ns"))),
        moments[2:3].with_columns(pl.col("at").dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo")),
        moments[3:4].with_columns(pl.col("user_id").cast(pl.Int32), pl.col("item_id").cast(pl.UInt8)),
        moments[:0].with_columns(pl.col("user_id", "item_id").cast(pl.String)),  # an empty part may say anything
        pl.DataFrame({}),
        moments[4:].with_columns(pl.col("at").cast(pl.Datetime("ms")), pl.col("user_id").cast(pl.Float64)),
    ]
    outcome, found, users = run(parts)
    assert (found, users) == (IN_TIME, ["1", "2"])
    assert outcome.manifest["times"] == {"first": "2017-07-15", "last": "2017-07-17"}
    texts = frame(list("aaabbb"), list("xyzzyx"))
    _, found, _ = run([texts[:3].with_columns(pl.col("item_id").cast(pl.Categorical())), texts[3:]])
    assert found == [["y", "z", "x"], ["z", "y", "x"]]


def test_parts_of_two_kinds(run):
    texts, lists = frame(item_id=pl.String), frame().with_columns(item_id=pl.concat_list("item_id"))
    for other, told in ((texts, "holds String, but Int64 in part-0.parquet"), (lists, "holds List")):
        with pytest.raises(
            InputError, match=rf"part-1.parquet: column 'item_id' {told}.*expected the same type in all parts;"
        ):
            run([frame(), other])


@pytest.mark.slow
@pytest.mark.parametrize(
    "dtype", [pl.Int32, pl.UInt32, pl.Int64, pl.Float64, pl.Decimal(38, 0), pl.Decimal(18, 3), pl.String]
)
def test_seconds_of_every_type(dtype, run):
    """Seconds of 32 bits have room for seconds, not for microseconds."""
    outcome, found, _ = run([frame(at=dtype)])
    assert found == IN_TIME and outcome.manifest["times"] == {"first": "2017-07-15", "last": "2017-07-17"}


def test_nanoseconds(run):
    outcome, found, _ = run([frame(times=[t * 10**9 + 123 for t in TIMES])], "--time_unit=ns")
    assert found == IN_TIME and outcome.manifest["times"] == {"first": "2017-07-15", "last": "2017-07-17"}


def test_a_column_that_is_no_time_names_its_file(run):
    with pytest.raises(InputError, match=r"part-0.parquet: column 'at' holds Boolean; expected times.*--time_column"):
        run([frame().with_columns(at=pl.lit(True))])


LISTS = pl.DataFrame({
    "user_id": ["a", "b", "c"], "item_id": [["x", "y", "x"], ["z", "x", "y"], []], "at": [[3, 1, 2], [1, 2, 3], []],
    "stars": [[1.0, 5, 5], [5.0, 5, 5], []],
})  # fmt: skip


def test_lists_of_items_are_read_in_their_order(run):
    outcome, found, users = run([LISTS.select("user_id", "item_id")], time="")
    assert users == ["a", "b"] and found == [["x", "y", "x"], ["z", "x", "y"]]
    assert outcome.manifest["dropped"] == {"rows with an empty list": 1}
    assert outcome.manifest["counts"]["interactions"] == 6


def test_lists_with_times_and_ratings_of_their_own(run):
    _, found, _ = run([LISTS])
    assert found == [["y", "x", "x"], ["z", "x", "y"]]
    outcome, _, _ = run([LISTS], "--rating_column=stars", "--min_rating=1")
    assert outcome.manifest["steps"][-1]["interactions"] == 6
    with pytest.raises(InputError, match="no user is left with 3|3 interactions"):
        run([LISTS[:1]], "--rating_column=stars", "--min_rating=4")


def test_one_time_for_a_list_keeps_its_order(run):
    sessions = pl.DataFrame({"user_id": ["a", "a"], "item_id": [["x", "y"], ["z", "w"]], "at": [20, 10]})
    _, found, _ = run([sessions])
    assert found == [["z", "w", "x", "y"]]


def test_lists_of_one_size_and_of_numbers(run):
    of_three = pl.DataFrame({"user_id": [1, 2], "item_id": [[7.0, 8, 9], [9.0, 8, 7]], "at": [[1, 2, 3], [1, 2, 3]]})
    of_three = of_three.with_columns(pl.col("item_id").cast(pl.Array(pl.Float64, 3)))
    _, found, _ = run([of_three])
    assert found == [["7", "8", "9"], ["9", "8", "7"]]


def test_lists_with_gaps(run):
    gaps = pl.DataFrame({"user_id": ["a", "b", None], "item_id": [["x", None, "y", "z", ""], None, ["x", "y"]]})
    outcome, found, _ = run([gaps], time="")
    assert found == [["x", "y", "z"]]
    assert outcome.manifest["dropped"] == {"rows with an empty list": 1, "rows without an id": 4}


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"at": [[1, 2], [1, 2, 3], []]}, "1 rows have lists of unequal length (row 1: 3 in item_id, 2 in at)"),
        ({"at": [[1, 2, 3], [1, 2, 3], [4]]}, "1 rows have lists of unequal length (row 3: 0 in item_id, 1 in at)"),
        (
            {"at": [[1, 2, 3], [1, 2, 3], [4]], "item_id": ["x", "y", "z"]},
            "column 'at' holds lists; expected lists of items",
        ),
        ({"item_id": [[["x"]], [["y"]], [["z"]]]}, "column 'item_id' holds List(List(String)); expected ids"),
    ],
)
def test_lists_that_do_not_fit(changes, told, run):
    with pytest.raises(InputError) as caught:
        run([LISTS.with_columns(pl.Series(name, values) for name, values in changes.items())])
    assert told in str(caught.value)


def test_a_rating_matters_where_a_rule_reads_it(run):
    rated = frame().with_columns(stars=pl.Series([1.0, None, float("nan"), 4, 4, 4]))
    outcome, found, _ = run([rated], "--rating_column=stars")
    assert found == IN_TIME and outcome.manifest["malformed_lines"]["count"] == 0
    outcome, found, _ = run([rated], "--rating_column=stars", "--min_rating=4")
    assert found == [["9", "8", "7"]] and outcome.manifest["malformed_lines"]["count"] == 0
    assert outcome.manifest["dropped"] == {"rows without a rating": 2}
    texts = frame().with_columns(stars=pl.Series(["5", " 4.5 ", "", "NA", "good", "4"]))
    flags = ("--rating_column=stars", "--min_rating=4", "--exact_duplicates=keep")
    outcome, _, _ = run([pl.concat([texts, texts])], *flags)
    assert outcome.manifest["dropped"] == {"rows without a rating": 4}
    assert outcome.manifest["malformed_lines"]["count"] == 2
    with pytest.raises(InputError, match="2 rows without a usable value of each of user_id, item_id, stars, at"):
        run([pl.concat([texts, texts])], *flags, "--max_bad_lines=1")


def test_a_folder_of_items_beside_the_parts(run, tmp_path):
    items = pl.DataFrame({"item_id": [7, 8, 9], "title": ["Mug", "Cup", "Pot"]})
    parts = {"part-0.parquet": frame().head(3), "part-1.parquet": frame().tail(3)}
    for name, where in (("items", ""), ("log/items", "log/")):
        frames = {f"{where}{part}": one for part, one in parts.items()} | {f"{name}/part-0.parquet": items}
        outcome, found, _ = run(frames, f"--items_file={name}", *([f"--file={where}"] if where else []))
        assert found == IN_TIME and outcome.manifest["item_records"]["with_record"] == 3
    both = frame().with_columns(title=pl.lit("Mug"))  # one folder that holds both
    outcome, found, _ = run({"log/part-0.parquet": both, "log/part-1.parquet": both}, "--file=log", "--items_file=log")
    assert outcome.manifest["counts"]["interactions"] == 6 and outcome.manifest["item_records"]["with_record"] == 3


def test_what_spark_leaves_beside_its_parts(run, tmp_path):
    log, where = frame(), tmp_path / "raw1"
    (where / "log").mkdir(parents=True)
    for name in ("_SUCCESS", "._SUCCESS.crc", ".part-0.snappy.parquet.crc"):
        (where / "log" / name).write_bytes(b"crc\0")
    (where / "log" / "_temporary").mkdir()
    log.write_parquet(where / "log" / "_temporary" / "part-9.snappy.parquet")
    for name in ("_metadata", "_common_metadata", ".part-1.snappy.parquet", "part-0.snappy.parquet"):
        log.write_parquet(where / "log" / name)
    outcome = prepared.run(where, tmp_path / "out", ["--importer=table", "--file=log", "--time_column=at"])
    assert outcome.manifest["counts"]["interactions"] == 6
