"""launch.recommend and launch.export as processes: a run, a bundle, files of histories, and a user's mistakes."""

import csv
import json

import commands
import numpy as np
import pytest

from llmesr_jax.core.errors import InputError
from llmesr_jax.serving import bulk
from llmesr_jax.serving.model import Options

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workplace(train, tmp_path_factory):
    """A folder with a trained run."""
    folder = tmp_path_factory.mktemp("serving")
    result = train("--method=llmesr", "--epochs=1", "--seeds=1,2", "--workdir=run", cwd=folder)
    assert result.status == 0, result.err
    return folder


@pytest.fixture(scope="module")
def call(environment, workplace):
    """call("recommend", *args) -> Result of the command in the workplace."""
    return lambda command, *args: commands.finish(
        commands.start("-m", f"launch.{command}", *args, cwd=workplace, env=environment)
    )


def answers(path):
    return {line["user"]: line for line in map(json.loads, path.read_text().splitlines())}


def items_of(answer):
    return [one["item"] for one in answer["recommendations"]]


def test_all_users_of_a_run(call, workplace, data):
    result = call("recommend", "--workdir=run", "--out=all.csv", "--k=3")
    assert result.status == 0 and result.err == ""
    assert result.out.startswith("all.csv: top 3 for 60 users; ")
    rows = list(csv.DictReader((workplace / "all.csv").read_text().splitlines()))
    assert len(rows) == 180 and {row["source"] for row in rows} == {"model"}
    seen = {tuple(line.split()) for line in (data / "inter.txt").read_text().splitlines()}
    assert not {(row["user"], row["item"]) for row in rows} & seen
    assert [row["rank"] for row in rows[:3]] == ["1", "2", "3"] and rows[0]["title"]
    assert float(rows[0]["score"]) >= float(rows[1]["score"])
    again = call("recommend", "--workdir=run", "--out=all.csv", "--k=3")
    assert (again.status, again.out) == (2, "") and again.err.count("\n") == 1
    assert "all.csv: is there already" in again.err


def test_a_bundle_answers_as_the_run(call, workplace, data):
    pytest.importorskip("flatbuffers")
    made = call("export", "--workdir=run", "--out=bundle", "--platforms=cpu")
    assert made.status == 0 and made.err == "", made.err
    assert made.out.startswith("bundle: 150 items, ") and "for cpu; scores equal the run's to" in made.out
    histories = [{"user": "new", "items": ["3", 4, "nope"]}, {"user": "empty", "items": []}]
    (workplace / "h.jsonl").write_text("".join(json.dumps(one) + "\n" for one in histories))
    for source in ("--workdir=run", "--bundle=bundle"):
        out = f"--out=by_{source[2:5]}.jsonl"
        result = call("recommend", source, "--histories=h.jsonl", out, "--where=brand=red", "--diversity=0.2")
        assert result.status == 0, result.err
        assert "popular items for 1 of them, whose history holds no known item" in result.out
        assert "1 items of histories are not in the catalogue" in result.out
    run, bundle = (answers(workplace / f"by_{name}.jsonl") for name in ("wor", "bun"))
    assert [items_of(run[user]) for user in run] == [items_of(bundle[user]) for user in bundle]
    assert run["empty"]["source"] == "popular" and run["new"]["source"] == "model" and run["new"]["unknown"] == 1
    brands = {str(r["item_id"]): r["brand"] for r in map(json.loads, (data / "items.jsonl").read_text().splitlines())}
    assert {brands[item] for item in items_of(run["new"]) + items_of(run["empty"])} == {"red"}


def test_new_items(call, workplace, data):
    items = [{"item": "new-1", "title": "red tea", "brand": "red"}, {"item": "new-2", "title": "", "brand": "blue"}]
    (workplace / "new.jsonl").write_text("".join(json.dumps(one) + "\n" for one in items))
    np.save(workplace / "new.npy", np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32))
    (workplace / "new-h.jsonl").write_text('{"user": "u", "items": ["new-1", "3"]}\n')
    flags = ("--new_items=new.jsonl", "--new_embeddings=new.npy", "--histories=new-h.jsonl", "--where=brand=blue")
    result = call("recommend", "--workdir=run", *flags, "--out=new.jsonl.jsonl", "--k=40")
    assert result.status == 0, result.err
    answer = answers(workplace / "new.jsonl.jsonl")["u"]
    assert "unknown" not in answer and "new-2" in items_of(answer) and "new-1" not in items_of(answer)


def test_some_users_and_lists(call, workplace):
    (workplace / "users.txt").write_text("7\nstranger\n3\n")
    (workplace / "allow.txt").write_text("\n".join(map(str, range(1, 31))))
    (workplace / "deny.txt").write_text("5\n6\n")
    args = ("--users=users.txt", "--allow=allow.txt", "--deny=deny.txt", "--seen=shown", "--seed=2", "--tail_share=.5")
    result = call("recommend", "--workdir=run", "--out=some.jsonl", *args)
    assert result.status == 0 and "1 users are not in the data set" in result.out, result.err
    found = answers(workplace / "some.jsonl")
    assert list(found) == ["7", "stranger", "3"] and found["stranger"]["source"] == "popular"
    assert set(items_of(found["7"])) <= {str(n) for n in range(1, 31)} - {"5", "6"} and len(items_of(found["7"])) == 10


MISTAKES = [
    ({}, "--workdir and --bundle: both are missing"),
    ({"workdir": "run", "out": ""}, "--out is missing"),
    ({"workdir": "run", "out": "x.xls"}, "wanted a file that ends in .parquet, .csv, .jsonl"),
    ({"workdir": "nowhere"}, "nowhere/config.json: cannot be read"),
    ({"bundle": "nowhere", "histories": "h.csv"}, "wanted a bundle, a folder that launch.export makes"),
    ({"bundle": "b"}, "a bundle knows no users; wanted --histories"),
    ({"workdir": "run", "histories": "no.csv"}, "no.csv: no such file"),
    ({"workdir": "run", "users": "no.txt"}, "--users=no.txt: cannot be read"),
    ({"workdir": "run", "options": Options(where=("colour=red",))}, "no such column; wanted one of: title, brand"),
    ({"workdir": "run", "seed": 9}, "has no seed 9; wanted one of: 1, 2"),
]


@pytest.mark.parametrize(("given", "said"), MISTAKES, ids=str)
def test_mistakes_leave_nothing(workplace, data, given, said, monkeypatch):
    monkeypatch.chdir(workplace)
    before = {path.name for path in workplace.iterdir()}
    with pytest.raises(InputError) as caught:
        bulk.recommend(bulk.Request(**{"out": "x.csv", **given}))
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert {path.name for path in workplace.iterdir()} == before


def test_histories_that_cannot_be_read_leave_nothing(call, workplace):
    (workplace / "bad.jsonl").write_text('{"user": "u", "items": ["1"]}\n{"user": "v", "items": 3}\n')
    result = call("recommend", "--workdir=run", "--histories=bad.jsonl", "--out=bad.csv")
    assert result.status == 2 and "bad.jsonl, line 2: 'items' is 3; wanted a list" in result.err
    assert not list(workplace.glob("bad.csv*"))


@pytest.mark.parametrize("args", [["--out=b"], ["--workdir=run", "--out=run"]])
def test_what_export_refuses(call, args):
    result = call("export", *args)
    assert result.status == 2 and result.err.startswith("error: ") and result.err.count("\n") == 1
