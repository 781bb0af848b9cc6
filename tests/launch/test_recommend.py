"""launch.recommend and launch.export as processes: a run, a bundle, files of histories, and a user's mistakes."""

import csv
import json
import time

import commands
import numpy as np
import polars as pl
import pytest

from llmesr_jax.core.errors import InputError
from llmesr_jax.serving import answers as answers_lib
from llmesr_jax.serving import bulk, run
from llmesr_jax.serving.options import Options

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def workplace(trained, tmp_path_factory):
    """A folder with a trained run."""
    folder = tmp_path_factory.mktemp("serving")
    (folder / "run").symlink_to(trained[0] / "w" / "llmesr")
    return folder


@pytest.fixture(scope="module")
def call(environment, workplace):
    """call("recommend", *args) -> Result of the command in the workplace."""
    return lambda command, *args: commands.finish(
        commands.start("-m", f"launch.{command}", *args, cwd=workplace, env=environment)
    )


@pytest.fixture(scope="module")
def loaded(workplace):
    """The run, read once."""
    return run.load(workplace / "run")


@pytest.fixture
def recommend(loaded, workplace, monkeypatch):
    """recommend(out, **request) -> the lines of `bulk.recommend`, called in the workplace."""
    monkeypatch.chdir(workplace)
    monkeypatch.setattr(run, "load", lambda *_: loaded)
    return lambda out, **request: bulk.recommend(bulk.Request(out, **{"workdir": "run", **request})).splitlines()


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
    assert "all.csv: already exists; choose" in again.err


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
        assert "\n1 user without a known item in the history got popular items\n" in result.out
        assert "\n1 item of the histories is not in the catalogue, and was left out\n" in result.out
    run, bundle = (answers(workplace / f"by_{name}.jsonl") for name in ("wor", "bun"))
    assert [items_of(run[user]) for user in run] == [items_of(bundle[user]) for user in bundle]
    assert run["empty"]["source"] == "popular" and run["new"]["source"] == "model" and run["new"]["unknown"] == 1
    brands = {str(r["item_id"]): r["brand"] for r in map(json.loads, (data / "items.jsonl").read_text().splitlines())}
    assert {brands[item] for item in items_of(run["new"]) + items_of(run["empty"])} == {"red"}


def test_new_items(call, workplace):
    items = [{"item": "new-1", "title": "red tea", "brand": "red"}, {"item": "new-2", "title": "", "brand": "blue"}]
    (workplace / "new.jsonl").write_text("".join(json.dumps(one) + "\n" for one in items))
    np.save(workplace / "new.npy", np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32))
    (workplace / "new-h.jsonl").write_text('{"user": "u", "items": ["new-1", "3"]}\n')
    flags = ("--new_items=new.jsonl", "--new_embeddings=new.npy", "--histories=new-h.jsonl", "--where=brand=blue")
    result = call("recommend", "--workdir=run", *flags, "--out=new.jsonl.jsonl", "--k=40")
    assert result.status == 0, result.err
    answer = answers(workplace / "new.jsonl.jsonl")["u"]
    assert "unknown" not in answer and "new-2" in items_of(answer) and "new-1" not in items_of(answer)


def test_some_users_and_lists(call, recommend, workplace):
    (workplace / "users.txt").write_text("7\nstranger\n3\n")
    (workplace / "allow.txt").write_text("\n".join(map(str, [*range(1, 31), "nope"])))
    (workplace / "deny.txt").write_text("5\n6\n")
    args = ("--users=users.txt", "--allow=allow.txt", "--deny=deny.txt", "--seen=shown", "--seed=2", "--tail_share=.5")
    result = call("recommend", "--workdir=run", "--out=some.jsonl", *args)
    assert result.status == 0, result.err
    said = result.out.splitlines()
    assert said[0].startswith("some.jsonl: top 10 for 3 users; ") and said[1:] == [
        "--allow=allow.txt: 1 of its 31 ids not in the catalogue",
        "1 user is not in the data set: 'stranger'",
        "1 user without a known item in the history got popular items",
    ]
    found = answers(workplace / "some.jsonl")
    assert list(found) == ["7", "stranger", "3"] and found["stranger"]["source"] == "popular"
    assert set(items_of(found["7"])) <= {str(n) for n in range(1, 31)} - {"5", "6"} and len(items_of(found["7"])) == 10
    (workplace / "allow.txt").write_text("1\n2\n3\n")
    said = recommend("short.jsonl", allow="allow.txt", users="users.txt")
    assert said[-1] == "3 lists have fewer than 10 items: conditions and histories leave no more"
    assert len(items_of(answers(workplace / "short.jsonl")["stranger"])) == 3
    assert max(map(len, said)) <= 80


MISTAKES = [
    ({}, "--workdir and --bundle: both are missing"),
    ({"workdir": "run", "out": ""}, "--out is missing"),
    ({"workdir": "run", "out": "x.xls"}, "expected a file that ends in .parquet, .csv, .jsonl"),
    ({"workdir": "nowhere"}, "nowhere: does not exist; expected the folder of a run"),
    ({"workdir": ".."}, "..: is not the folder of a run (it has no config.json); "),
    ({"bundle": "nowhere"}, "expected a bundle, a folder made by launch.export"),
    (
        {"bundle": "run", "histories": "h.csv"},
        "run: is the folder of a run; expected a bundle, a folder made by launch.exp",
    ),
    ({"bundle": "b"}, "a bundle has no users; expected --histories"),
    ({"workdir": "run", "histories": "no.csv"}, "no.csv: no such file"),
    ({"workdir": "run", "users": "no.txt"}, "--users=no.txt: cannot be read"),
    ({"workdir": "run", "options": Options(where=("colour=red",))}, "no such column; expected one of: title, brand"),
    ({"workdir": "run", "seed": 9}, "has no seed 9; expected one of: 1, 2"),
    (
        {"workdir": "run", "allow": "bad.txt"},
        "--allow=bad.txt: 1 id found, but none is in the catalogue (such as 'nope'; ids",
    ),
    (
        {"workdir": "run", "users": "bad.txt"},
        "--users=bad.txt: 1 user found, but none is in the data set (such as 'nope'; ",
    ),
    ({"workdir": "run", "histories": "bad.jsonl"}, "bad.jsonl, line 2: 'items' is 3; expected a list"),
]


def test_mistakes_leave_nothing(recommend, workplace):
    (workplace / "b").mkdir()
    (workplace / "b" / "manifest.json").write_text("{}")
    (workplace / "bad.txt").write_text("nope\n")
    (workplace / "bad.jsonl").write_text('{"user": "u", "items": ["1"]}\n{"user": "v", "items": 3}\n')
    before = {path.name for path in workplace.iterdir()}
    for given, said in MISTAKES:
        with pytest.raises(InputError) as caught:
            recommend(**{"out": "x.csv", "workdir": "", **given})
        assert said in str(caught.value) and "\n" not in str(caught.value)
        assert {path.name for path in workplace.iterdir()} == before


def test_two_of_one_command_do_not_mix(recommend, workplace, monkeypatch):
    """The second is refused while the first writes, which then completes."""
    write, said = answers_lib.write, []

    def meanwhile(*args, **more):
        with pytest.raises(InputError, match="another process is writing it; wait for it") as caught:
            recommend(out="twice.csv", workdir="run")
        said.append(caught.value)
        return write(*args, **more)

    monkeypatch.setattr(answers_lib, "write", meanwhile)
    recommend(out="twice.csv", workdir="run")
    assert len(said) == 1 and [path.name for path in workplace.glob("twice*")] == ["twice.csv"]


@pytest.mark.parametrize("args", [["--out=b"], ["--workdir=run", "--out=run"]])
def test_what_export_refuses(call, args):
    result = call("export", *args)
    assert result.status == 2 and result.err.startswith("error: ") and result.err.count("\n") == 1


# launch.recommend in parts of 3 users, each of which takes a while.
_SLOWLY = """
import time
from launch import recommend
from llmesr_jax.serving import answers, model

answers.PART, rank = 3, model.ServedModel.rank
model.ServedModel.rank = lambda *args: (time.sleep(0.02), rank(*args))[1]
recommend.run()
"""


def test_killed_at_random_moments_it_ends_in_the_same_file(environment, workplace):
    """SIGKILL comes a random while after a random part, and once after the start; rows of Parquet are compared."""

    def start(out):
        return commands.start("-c", _SLOWLY, "--workdir=run", f"--out={out}", cwd=workplace, env=environment)

    whole = commands.finish(start("whole.csv"))
    assert whole.status == 0, whole.err
    rng = np.random.default_rng()
    for out in ("killed.csv", "killed.parquet"):
        process, part = start(out), int(rng.integers(0, 20))
        while process.poll() is None and not (workplace / f"{out}.partial" / f"{part:06d}.json").exists():
            time.sleep(0.001)
        time.sleep(wait := rng.uniform(0, 0.05))
        process.kill()
        process.communicate()
        print(
            f"{out}: killed {wait:.3f} s after part {part}, which left {len(list(workplace.glob(f'{out}*/*')))} files"
        )
        if [path.name for path in workplace.glob(f"{out}*")] != [out]:  # else it was done, but for its last words
            result = commands.finish(start(out))
            assert result.status == 0, result.err
        assert [path.name for path in workplace.glob(f"{out}*")] == [out]
    assert (workplace / "killed.csv").read_bytes() == (workplace / "whole.csv").read_bytes()
    assert pl.read_parquet(workplace / "killed.parquet").write_csv() == (workplace / "whole.csv").read_text()


def test_shards_of_users_make_the_rows_of_all_of_them_and_continue(recommend, workplace, monkeypatch):
    monkeypatch.setattr(bulk.answers, "PART", 8)
    recommend("whole.parquet", options=Options(3))
    for number in (2, 0, 1):
        if number == 1:
            write_text = bulk.answers.files.write_text

            def killed(path, text):
                """Ends the process, as it seems, when the second part is done."""
                if path.name == "000001.json":
                    raise SystemExit
                write_text(path, text)

            with monkeypatch.context() as patch, pytest.raises(SystemExit):
                patch.setattr(bulk.answers.files, "write_text", killed)
                recommend("shards", options=Options(3), shards=3, shard=number)
            assert len(list((workplace / "shards").glob("*.parquet"))) == 2
        recommend("shards", options=Options(3), shards=3, shard=number)
    parts = sorted((workplace / "shards").iterdir())
    assert [path.name for path in parts] == [f"part-0000{number}-of-00003.parquet" for number in range(3)]
    sizes = [pl.read_parquet(path)["user"].n_unique() for path in parts]
    assert sum(sizes) == 60 and max(sizes) <= 24
    assert pl.read_parquet(parts).equals(pl.read_parquet(workplace / "whole.parquet"))


# Requests of one process with four devices, in parts of two batches.
_ON_FOUR = """
from llmesr_jax.serving import answers, bulk

answers.PART = 512
request = dict(workdir="run", histories="many.jsonl")
bulk.recommend(bulk.Request("one.parquet", **request))
bulk.recommend(bulk.Request("two.parquet", **request, mesh="data:2"))
for shard in (0, 1):
    bulk.recommend(bulk.Request("four", **request, mesh="auto", shards=2, shard=shard))
"""


def test_devices_that_share_the_users_write_the_rows_of_one(environment, workplace):
    rng = np.random.default_rng(1)
    histories = [map(str, rng.choice(150, rng.integers(0, 9), replace=False) + 1) for _ in range(1100)]
    lines = [json.dumps({"user": f"u{n}", "items": list(items)}) + "\n" for n, items in enumerate(histories)]
    (workplace / "many.jsonl").write_text("".join(lines))
    on_four = environment | {"XLA_FLAGS": f"{environment['XLA_FLAGS']} --xla_force_host_platform_device_count=4"}
    result = commands.finish(commands.start("-c", _ON_FOUR, cwd=workplace, env=on_four))
    assert result.status == 0, result.err
    one, two, four = (pl.read_parquet(workplace / name) for name in ("one.parquet", "two.parquet", "four"))
    assert one["user"].n_unique() == 1100 and one.equals(two) and one.equals(four)


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"shards": 3}, "--shards=3 and --shard=None: expected --shard=0 to --shard=2"),
        ({"shards": 3, "shard": 3}, "--shards=3 and --shard=3: expected --shard=0 to --shard=2"),
        ({"shards": 3, "shard": 0}, "there are 60 users, ranked 4,096 at a time; expected at most 1 shard"),
        (
            {"shards": 2, "shard": 0, "out": "held"},
            "has parts of another number of shards (part-00000-of-00003.parquet)",
        ),
        ({"shards": 2, "shard": 0, "out": "text"}, "--out=text: is a file; with --shards, expected a folder"),
        ({"mesh": "lane:2"}, "--mesh=lane:2: one seed recommends, so there are no lanes; expected data:N"),
        (
            {"mesh": "data:17"},
            "--mesh=data:17: only 16 batches of users are ranked at a time; expected at most data:16",
        ),
        ({"mesh": "data:9"}, "--mesh=data:9: needs 9 devices, but there "),
    ],
)
def test_shards_and_devices_that_do_not_fit(recommend, workplace, request_, told):
    (workplace / "held").mkdir(exist_ok=True)
    (workplace / "held" / "part-00000-of-00003.parquet").touch()
    (workplace / "text").touch()
    with pytest.raises(InputError) as caught:
        recommend(request_.pop("out", "empty.csv" if "mesh" in request_ else "empty"), **request_)
    assert told in str(caught.value)


def test_lists_without_seen_items_by_a_run_that_ranks_them(recommend, loaded, monkeypatch):
    said = "items of a user's own history are left out; this run was trained to rank them too: --seen=shown lists them"
    assert said not in recommend("seen-1.csv")
    monkeypatch.setitem(loaded.experiment.config["train"], "seen_items", "shown")
    assert said in recommend("seen-2.csv")
    assert said not in recommend("seen-3.csv", options=Options(2, hide_seen=False))
