"""Files of histories: every format and shape gives the same histories."""

import gzip
import json

import numpy as np
import polars as pl
import pytest
import served

from llmesr_jax.core.errors import InputError
from llmesr_jax.serving import histories, sources
from llmesr_jax.serving.catalogue import Catalogue

CATALOGUE = Catalogue(["a", "b", "7", "お茶"], np.zeros(4, int), np.ones(4, bool))
# user -> items as written, numbers of those known, how many are not
WANTED = {"u2": (["b", "a", "b"], [2, 1, 2], 0), "ü 1": (["お茶", "zzz", 7], [4, 3], 1), "3": (["qqq"], [], 1)}


def read(path, work, **columns):
    staged = histories.stage(path, histories.Columns(**columns), CATALOGUE, work)
    batch = staged.batch(0, 99)
    return {u: (h.tolist(), n) for u, h, n in zip(batch.users, batch.histories, batch.unknown, strict=True)}


def rows():
    """(user, item, time), a row an interaction; times descend, so that they matter."""
    return [(user, item, 1000 + 60 * n) for user, (items, *_) in WANTED.items() for n, item in enumerate(items)][::-1]


def text(kind):
    if kind == "csv":
        return "".join(["user_id,item_id,timestamp\n", *(f"{u},{i},{t}\n" for u, i, t in rows())])
    if kind == "tsv":
        return "".join(["user_id\titem_id\ttimestamp\n", *(f"{u}\t{i}\t{t}\n" for u, i, t in rows())])
    if kind == "jsonl":
        return "".join(json.dumps({"user_id": u, "item_id": i, "timestamp": t}) + "\n" for u, i, t in rows())
    if kind == "lists.jsonl":
        return "".join(json.dumps({"user": u, "items": items}) + "\n" for u, (items, *_) in WANTED.items())
    lists = {u: " ".join(map(str, items)) for u, (items, *_) in WANTED.items()}
    return "user,items\n" + "".join(f"{u},{items}\n" for u, items in lists.items())


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "lists.jsonl", "lists.csv"])
@pytest.mark.parametrize("zipped", [False, True])
def test_every_text_format(kind, zipped, tmp_path):
    path = tmp_path / f"h.{kind}{'.gz' if zipped else ''}"
    path.write_bytes(gzip.compress(text(kind).encode()) if zipped else text(kind).encode())
    assert read(path, tmp_path) == {u: (ids, unknown) for u, (_, ids, unknown) in WANTED.items()}


def test_parquet(tmp_path):
    users, items, times = zip(*rows())
    frame = pl.DataFrame({"user_id": users, "item_id": list(map(str, items)), "time": times})
    lists = pl.DataFrame({"user_id": list(WANTED), "items": [list(map(str, items)) for items, *_ in WANTED.values()]})
    for number, one in enumerate((frame, lists)):
        work = tmp_path / str(number)
        work.mkdir()
        one.write_parquet(work / "h.parquet")
        assert read(work / "h.parquet", work) == {u: (ids, unknown) for u, (_, ids, unknown) in WANTED.items()}


def test_columns_by_name_and_file_order_without_a_time(tmp_path):
    (tmp_path / "h.csv").write_text("who;what\nx;b\ny;a\nx;a\n")
    assert read(tmp_path / "h.csv", tmp_path, user="who", item="what") == {"x": ([2, 1], 0), "y": ([1], 0)}


def test_a_user_without_items_and_numbers_as_ids(tmp_path):
    (tmp_path / "h.jsonl").write_text('{"user": 5, "items": []}\n{"user": 5.0, "items": [7.0, "7", null]}\n')
    staged = histories.stage(tmp_path / "h.jsonl", histories.Columns(), CATALOGUE, tmp_path)
    batch = staged.batch(0, 9)
    assert batch.users == ["5", "5"] and [h.tolist() for h in batch.histories] == [[], [3, 3]]
    assert staged.count == 2 and staged.batch(1, 2).users == ["5"]


def written(path, kind, pairs):
    """Writes (user, item) pairs, None for none, as a file with one row for each interaction."""
    if kind == "parquet":
        pl.DataFrame(pairs, schema={"user": pl.String, "item": pl.String}, orient="row").write_parquet(path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps({"user": u, "item": i}) + "\n" for u, i in pairs))
    else:
        path.write_text("".join(f"{u or ''},{i or ''}\n" for u, i in [("user", "item"), *pairs]))
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_users_whose_rows_have_no_item_have_an_empty_history(kind, tmp_path):
    (tmp_path / "2").mkdir()
    pairs = [("B", None), ("A", "a"), ("C", None), ("B", None), ("C", "zzz"), ("C", "b")]
    found = read(written(tmp_path / "h", kind, pairs), tmp_path)
    assert list(found.items()) == [("B", ([], 0)), ("A", ([1], 0)), ("C", ([2], 1))]
    nothing = written(tmp_path / "n", kind, [("B", None), ("A", None)])
    assert list(read(nothing, tmp_path / "2").items()) == [("B", ([], 0)), ("A", ([], 0))]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_rows_without_a_user_are_refused(kind, tmp_path):
    for pairs, said in (
        ([("A", "a"), ("B", None), (None, "b")], "h: 1 row has no user; expected"),
        ([(None, "a"), (None, "b")], "h: 2 rows have no user"),
    ):
        with pytest.raises(InputError, match=said):
            read(written(tmp_path / "h", kind, pairs), tmp_path)


def test_users_without_items_in_a_file_without_a_header(tmp_path):
    """With the user's column alone, the item of the first row would look like the name of a column of numbers."""
    path = tmp_path / "h.csv"
    path.write_text("x,b,\ny,7,\nz,,\n")
    assert read(path, tmp_path, user="1", item="2") == {"x": ([2], 0), "y": ([3], 0), "z": ([], 0)}


def test_lists_of_other_types_in_a_parquet_file(tmp_path):
    path = tmp_path / "h.parquet"
    pl.DataFrame({"user": ["x"], "items": [None]}).write_parquet(path)
    assert read(path, tmp_path) == {"x": ([], 0)}
    (tmp_path / "2").mkdir()
    pl.DataFrame({"user": ["x"], "items": ["a"]}).write_parquet(path)
    with pytest.raises(InputError, match="row 1: 'items' is 'a'; expected a list of raw item ids"):
        read(path, tmp_path / "2")


def test_what_was_staged_is_used_again(tmp_path):
    path = tmp_path / "h.jsonl"
    path.write_text('{"user": "x", "items": ["a"]}\n')
    assert read(path, tmp_path) == {"x": ([1], 0)}
    path.write_text("")
    assert read(path, tmp_path) == {"x": ([1], 0)}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "h.jsonl",
            '{"user": "x", "items": ["a"]}\n{"user": "x", "items": "a"}\n',
            "line 2: 'items' is 'a'; expected a list",
        ),
        ("h.jsonl", '{"user": "x", "items": "a"}\n', "line 1: 'items' is 'a'; expected a list of raw item ids"),
        ("h.jsonl", '{"user": "x"}\n{"user": "y", "items": 7}\n', "line 2: 'items' is 7; expected a list"),
        ("h.jsonl", '{"user": "x", "items": ["a"]}\n{"items": ["a"]}\n', "line 2: has no user"),
        ("h.jsonl", '{"items": ["a"]}\n', "has no column 'user_id'; expected one of: items"),
        ("h.jsonl", '{"user": "\\ud83d", "items": ["a"]}\n', r"line 1: the user '.ud83d' has half of a character"),
        (
            "h.jsonl",
            '{"user": "x", "items": ["\\ud83d"]}\n',
            r"1 item found, but none is in the catalogue .such as '\?'",
        ),
        ("h.jsonl", '{"user": "x", "items": [["a"]]}\n', r"\['a'\] is not a raw id"),
        ("h.jsonl", '{"user": "x", "items": ["a"]}\n{"user": \n', "line 2"),
        (
            "h.jsonl",
            '{"user": "x", "items": ["A-", 3]}\n{"user": "y", "items": []}\n',
            "2 items found, but none is in the cata",
        ),
        (
            "h.csv",
            "user_id,item_id\nx,üb\n",
            "h.csv: 1 item found, but none is in the catalogue .such as 'üb'; ids of the cat",
        ),
        (
            "h.csv",
            "user_id,item_id,n\nx,a,1\nx,a\n",
            "line 3: found 2 fields; expected 3, as in the first line; check the file$",
        ),
        ("h.csv", "user_id,thing\nx,a\n", "has no column 'item_id'"),
        ("h.csv", "", "is empty"),
        ("h.parquet", "PAR1 and nothing", "cannot be read"),
    ],
)
def test_files_that_cannot_be_read(name, content, said, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=said) as caught:
        read(tmp_path / name, tmp_path)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_users_of_a_corpus():
    corpus = served.corpus()
    names = [f"u{n}" for n in range(1, corpus.num_users + 1)]
    source, said = sources.of_users(corpus, names, ["u2", "stranger", "u1"], "--users")
    batch = source.batch(0, 10)
    assert said == "1 user is not in the data set: 'stranger'" and batch.users == ["u2", "stranger", "u1"]
    assert [h.tolist() for h in batch.histories] == [
        *(corpus.items[corpus.offsets[1] : corpus.offsets[2]].tolist(), [], corpus.items[: corpus.offsets[1]].tolist()),
    ]
    with pytest.raises(InputError, match="--users: 1 user found, but none is in the data set"):
        sources.of_users(corpus, names, ["x"], "--users")
    assert sources.of_users(corpus, names, ["u2"], "--users")[1] == ""
    assert (
        sources.of_users(corpus, names, ["x", "y", "u2"], "--users")[1]
        == "2 users are not in the data set: such as 'x'"
    )
    with pytest.raises(InputError, match="did you mean 'u2'"):
        sources.of_users(corpus, names, ["U-2"], "--users")


@pytest.mark.parametrize("text", ["user_id,item_id\n", "user,items\n"])
def test_a_file_with_a_header_alone_is_refused_and_leaves_nothing_that_stands_in_the_way(text, tmp_path):
    path = tmp_path / "h.csv"
    path.write_text(text)
    with pytest.raises(InputError, match="h.csv: has no rows"):
        read(path, tmp_path)
    path.write_text(text + ("u,a\n" if "item_id" in text else "u,a b\n"))
    assert list(read(path, tmp_path)) == ["u"]


def test_times_that_cannot_be_read_are_refused(tmp_path):
    """File order is not taken for the order of times without a word; a format or --time_column=none says what is meant."""
    path = tmp_path / "h.csv"
    path.write_text("user_id,item_id,date\nu,a,02.01.2024\nu,b,01.01.2024\n")
    with pytest.raises(InputError, match="h.csv: column 'date' cannot be read as times, as it holds '02.01.2024'"):
        read(path, tmp_path)
    assert read(path, tmp_path, time_format="%d.%m.%Y")["u"][0] == [2, 1]
    (tmp_path / "another").mkdir()
    assert read(path, tmp_path / "another", time="none")["u"][0] == [1, 2]
