"""Splits by time and by files, and shuffled ties: from raw files through training and evaluation to the report."""

import json

import commands
import numpy as np
import pytest

from llmesr_jax.data import reading
from llmesr_jax.data.splits import SplitConfig
from llmesr_jax.ranking import evaluate as evaluate_lib

pytestmark = pytest.mark.slow

DAY = 86_400
FIRST = 1_262_304_000  # 2010-01-01
WORDS = "lamp soap rope milk salt brush kettle red green blue gold grey".split()


def interactions(users=60, items=40):
    """(user, item, seconds): 6 different items each, some on the same day; the latest users come late."""
    rng = np.random.default_rng(3)
    rows = []
    for user in range(users):
        days = np.sort(rng.integers(user, user + 40, 6))
        rows += [
            (f"u{user}", f"i{item}", FIRST + day * DAY) for item, day in zip(rng.permutation(items), days.tolist())
        ]
    return rows


@pytest.fixture(scope="module")
def prepared(environment, tmp_path_factory):
    """A folder with `shop` prepared from one raw file, and `parts` from three of its own."""
    folder = tmp_path_factory.mktemp("shop")
    rows = interactions()
    bounds = (FIRST + 60 * DAY, FIRST + 75 * DAY)
    for name in ("whole", "train", "valid", "test"):
        (folder / name).mkdir(exist_ok=True)
    parts = {"inter": rows, "train": [], "valid": [], "test": []}
    for row in rows:
        parts[("train", "valid", "test")[sum(row[2] >= bound for bound in bounds)]].append(row)
    for name, lines in parts.items():
        text = "user_id,item_id,timestamp\n" + "".join(f"{u},{i},{t}\n" for u, i, t in lines)
        (folder / ("whole" if name == "inter" else "train") / f"{name}.csv").write_text(text)
    titles = "item_id,title\n" + "".join(f"i{n},{WORDS[n % 7]} {WORDS[7 + n % 5]}\n" for n in range(40))
    for name in ("whole", "train"):
        (folder / name / "items.csv").write_text(titles)
    common = ["--importer=table", "--time_column=timestamp", "--core=none", "--items_file=items.csv"]
    for dataset, args in (
        ("shop", ["--raw_dir=whole", "--file=inter.csv"]),
        ("parts", ["--raw_dir=train", "--train=train.csv", "--valid=valid.csv", "--test=test.csv"]),
    ):
        command = ["-m", "launch.prepare", f"--dataset={dataset}", *common, *args]
        result = commands.run(*command, cwd=folder, env=environment)
        assert (result.status, result.err) == (0, ""), result.err
    return folder, result


TIME = ("--config.data.split=time", "--config.data.valid_from=2010-03-02", "--config.data.test_from=2010-03-17")


@pytest.fixture(scope="module")
def run(environment, prepared):
    """run(command, *args) -> Result, in the folder of the data."""
    return lambda name, *args: commands.finish(
        commands.start("-m", f"launch.{name}", *args, cwd=prepared[0], env=environment)
    )


def train(run, dataset, workdir, *args):
    small = [arg for arg in commands.SMALL if not arg.startswith("--dataset")]
    return run("train", *small, f"--dataset={dataset}", "--epochs=2", f"--workdir={workdir}", *args)


@pytest.fixture(scope="module")
def trained(run):
    """Both methods on the split by time, with all targets."""
    result = train(run, "shop", "runs/time", "--method=none,llmesr", "--seeds=1,2", *TIME, "--config.data.targets=all")
    assert result.status == 0, result.err
    return result


def test_prepare_keeps_times_and_the_split_of_the_user(prepared):
    folder, of_parts = prepared
    shop = reading.load("shop", folder / "data" / "shop")
    assert len(shop.times) == 360 and shop.split.name == "leave_one_out"
    rows = interactions()
    ids = [line.split() for line in (folder / "data" / "shop" / "inter.txt").read_text().splitlines()]
    users, items = ((folder / "data/shop" / f"{kind}_ids.txt").read_text().split() for kind in ("user", "item"))
    kept = [(users[int(u) - 1], items[int(i) - 1], t) for (u, i), t in zip(ids, shop.times.tolist())]
    assert sorted(kept) == sorted(rows)
    manifest = json.loads((folder / "data/shop/manifest.json").read_text())
    assert {"inter.txt", "times.npy"} <= manifest["files"].keys() and "split.npy" not in manifest["files"]
    parts = reading.load("parts", folder / "data" / "parts")
    by_time = SplitConfig(split="time", valid_from="2010-03-02", test_from="2010-03-17", targets="all")
    shop = reading.load("shop", folder / "data" / "shop", by_time)
    assert parts.split.name == "files, all targets"
    assert [len(parts.targets[p].rows_E) for p in ("valid", "test")] == [
        len(shop.targets[p].rows_E) for p in ("valid", "test")
    ]
    assert parts.train_lengths_U.sum() == shop.train_lengths_U.sum()
    said = " ".join(of_parts.out.split())
    assert "your own split: " in said and "launch.train uses it (data.split=files)" in said
    # The same command again finds all up to date.
    assert "split.npy" in json.loads((folder / "data/parts/manifest.json").read_text())["files"]


def test_train_says_how_it_splits_and_tests_each_target(prepared, trained):
    folder = prepared[0] / "runs" / "time" / "none"
    config = SplitConfig(split="time", valid_from="2010-03-02", test_from="2010-03-17", targets="all")
    shop = reading.load("shop", prepared[0] / "data" / "shop", config)
    inputs = evaluate_lib.inputs(shop, "test")
    told = "split: time, validation from 2010-03-02 00:00:00, test from 2010-03-17 00:00:00, all targets: "
    assert told + f"{shop.train_lengths_U.sum()} to train, {len(inputs.rows_E)} tested" in trained.out
    results = json.loads((folder / "results.json").read_text())
    assert results["split"] == shop.split.name
    assert results["left_out"]["test"] == {"repeated": 0, "without_input": shop.split.without_input["test"]}
    assert results["test"]["full"]["overall"]["count"] == [len(inputs.rows_E)] * 2
    with np.load(folder / "ranks.npz") as ranks:
        assert ranks["test/users"].tolist() == (inputs.rows_E + 1).tolist()
        assert ranks["test/stops"].tolist() == inputs.stops_E.tolist()
        assert len(np.unique(inputs.rows_E)) < len(inputs.rows_E) == ranks["test/full/1"].shape[1]


def test_evaluate_and_report_know_the_split(run, prepared, trained):
    result = run("evaluate", "--workdir=runs/time")
    assert result.status == 0, result.err
    assert result.out.count("in all ") == 2 and "differs" not in result.out
    result = run("report", "runs/time", "--out=page", "--resamples=100", "--baseline=none")
    assert result.status == 0, result.err
    page = (prepared[0] / "page" / "report.html").read_text()
    assert "split: time, validation from 2010-03-02 00:00:00, test from 2010-03-17 00:00:00, all targets" in page


def test_the_users_own_files_are_used_unasked(run, prepared):
    result = train(run, "parts", "runs/files", "--method=none")
    assert result.status == 0, result.err
    assert "split: files, all targets: " in result.out
    shown = json.loads((prepared[0] / "runs/files/results.json").read_text())
    assert shown["split"] == "files, all targets"


def test_shuffled_ties_are_another_run(run, prepared):
    result = train(run, "shop", "runs/ties", "--method=none", "--config.data.ties=shuffled")
    assert result.status == 0, result.err
    assert "split: leave one out, ties shuffled by seed 0" in result.out
    result = train(run, "shop", "runs/ties", "--method=none")
    assert result.status == 2 and "belongs to another run" in result.err


def test_embeddings_of_users_belong_to_a_split(run, prepared):
    """Texts of users tell of training items: under another split those may be test items."""
    result = run("embed", "--dataset=shop", "--encoder=tfidf", "--width=8")
    assert result.status == 0, result.err
    result = train(run, "shop", "runs/embedded", "--method=llmesr", *TIME)
    assert result.status == 2
    assert (
        "user_emb.npy: was made from the users' training items under another split (leave_one_out; expected time, "
        in (result.err)
    )
    result = run("embed", "--dataset=shop", "--encoder=tfidf", "--width=8", *TIME)
    assert result.status == 0, result.err
    result = train(run, "shop", "runs/embedded", "--method=llmesr", *TIME)
    assert result.status == 0, result.err
    result = train(run, "shop", "runs/plain", "--method=llmesr")
    assert result.status == 2 and "expected leave_one_out" in result.err


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--train=train.csv"], "--train is set without --valid"),
        (["--train=train.csv", "--valid=valid.csv", "--test=no.csv"], "no.csv"),
    ],
)
def test_what_makes_no_split_of_the_users_own(run, args, told):
    result = run("prepare", "--dataset=x", "--importer=table", "--raw_dir=train", *args)
    assert result.status == 2 and told in result.err and "Traceback" not in result.err


def test_users_who_return_to_items_are_ranked_with_all_items_shown(run, prepared):
    """30 users who buy their four items again and again: to hide them is refused, to show them is named and works."""
    folder, rng = prepared[0] / "returns", np.random.default_rng(0)
    folder.mkdir()
    lines = [
        f"u{user},i{item},{FIRST + n * DAY}\n"
        for user in range(30)
        for n, item in enumerate(rng.choice(rng.permutation(20)[:4], 12))
    ]
    (folder / "inter.csv").write_text("user_id,item_id,timestamp\n" + "".join(lines))
    args = ("--importer=table", "--time_column=timestamp", "--core=none", "--raw_dir=returns")
    result = run("prepare", "--dataset=returns", *args)
    assert result.status == 0, result.err
    result = train(run, "returns", "runs/returns", "--method=none")
    assert result.status == 2 and not (prepared[0] / "runs" / "returns").exists()
    assert result.err.startswith("error: data/returns: ") and result.err.count("\n") == 1
    assert "test targets" in result.err and "--config.train.seen_items=shown" in result.err
    result = train(run, "returns", "runs/returns", "--method=none", "--config.train.seen_items=shown")
    assert result.status == 0, result.err
    results = json.loads((prepared[0] / "runs/returns/results.json").read_text())
    assert results["test"]["full"]["overall"]["count"] == [30] and results["left_out"]["test"]["repeated"] == 0
