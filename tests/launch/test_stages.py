"""A run that starts from another: on the command line, across kills, on a catalogue that has grown, in a sweep.

LLMESR_KILLS says how often the runs of the first test are killed (default 3).
"""

import json
import os
import shutil
import time

import commands
import numpy as np
import pytest

pytestmark = pytest.mark.slow

EPOCHS = 4
# 15 steps an epoch; views of llmesr are as wide as the item table of none.
ARGS = ("--seeds=1,2", f"--epochs={EPOCHS}", "--batch_size=4", "--config.none.width=4")
BOTH = (*ARGS, "--method=none,llmesr", "--start=@none", "--workdir=w")


@pytest.fixture(scope="module")
def undisturbed(train, tmp_path_factory):
    cwd = tmp_path_factory.mktemp("undisturbed")
    result = train(*BOTH, cwd=cwd)
    assert (result.status, result.err) == (0, "")
    best = json.loads((cwd / "w" / "none" / "results.json").read_text())["best_epoch"]
    told = f"w/llmesr: starts from w/none (seed 1: epoch {best[0]}, seed 2: epoch {best[1]})\n  takes backbone, table\n"
    assert told in result.out
    return cwd


@pytest.fixture
def again(undisturbed, tmp_path):
    shutil.copytree(undisturbed, tmp_path / "copy")
    return tmp_path / "copy"


def numbers(cwd):
    found = {method: commands.numbers(cwd / "w" / method) for method in ("none", "llmesr")}
    for one in found.values():
        one["results"]["config"].pop("start")  # from elsewhere it is another path
    return found


def test_killed_at_random_moments_across_the_border(undisturbed, start_train, train, tmp_path):
    rng, kills = np.random.default_rng(), int(os.environ.get("LLMESR_KILLS", 3))
    for line_number in np.sort(rng.integers(0, 2 * EPOCHS + 1, kills)):
        process = start_train(*BOTH, cwd=tmp_path)
        for line in process.stdout:
            line_number -= line.startswith("epoch ")
            if line_number < 0:
                break
        wait = rng.uniform(0, 1.0)
        time.sleep(wait)
        process.kill()
        process.communicate()
    assert train(*BOTH, cwd=tmp_path).status == 0
    assert numbers(tmp_path) == numbers(undisturbed)


def test_in_two_commands_it_is_the_same_run(undisturbed, train, tmp_path):
    shutil.copytree(undisturbed / "w" / "none", tmp_path / "elsewhere")
    result = train(*ARGS, "--method=llmesr", "--start=elsewhere", "--workdir=w/llmesr", cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    shutil.copytree(tmp_path / "elsewhere", tmp_path / "w" / "none")
    assert numbers(tmp_path) == numbers(undisturbed)


def test_a_start_that_has_changed_is_another_run(again, train, evaluate):
    assert train(*ARGS, f"--epochs={EPOCHS + 1}", "--method=none", "--workdir=w/none", cwd=again).status == 0
    result = train(*BOTH[:-3], "--method=llmesr", "--start=w/none", "--workdir=w/llmesr", cwd=again)
    assert result.status == 2
    assert "w/llmesr: belongs to another run (start: " in result.err
    told = "w/none, from which it started, was trained further or anew since then; the run can still be evaluated"
    assert told in result.err and result.err.count("\n") == 1
    assert evaluate("--workdir=w/llmesr", cwd=again).status == 0


def test_without_the_start_a_run_still_goes_on_and_is_evaluated(again, train, evaluate):
    shutil.rmtree(again / "w" / "none")
    stored = json.loads((again / "w" / "llmesr" / "config.json").read_text())["data"]
    more = (*ARGS, f"--epochs={EPOCHS + 1}", "--method=llmesr", "--start=w/none", "--workdir=w/llmesr")
    assert train(*more, cwd=again).status == 0
    assert stored["start"] and json.loads((again / "w" / "llmesr" / "config.json").read_text())["data"] == stored
    result = evaluate("--workdir=w/llmesr", cwd=again)
    assert result.status == 0 and "equal to w/llmesr/results.json" in result.out


def test_more_epochs_of_the_start_are_refused_while_a_run_depends_on_it(again, train):
    before = numbers(again)
    result = train(*BOTH, f"--epochs={EPOCHS + 1}", cwd=again)
    assert (result.status, result.err.count("\n")) == (2, 1)
    told = f"w/llmesr: started from w/none, which this command would train up to epoch {EPOCHS + 1}, so that this run"
    assert told in result.err and numbers(again) == before


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ("--start=w/none", "--seeds=3"),
            "--start=w/none: has no seed 3; expected some of 1, 2; set these with --seeds",
        ),
        (("--start=w/none", "--config.llmesr.width=6"), "--start=w/none: neither its item table nor its encoder fits"),
        (("--start=nowhere",), "nowhere/config.json: cannot be read"),
        (("--start=@none",), "--start=@none: this command has no run of method none;"),
    ],
)
def test_mistakes_are_told_in_one_line(again, train, args, message):
    result = train(*ARGS[1:], "--seeds=1,2", "--method=llmesr", "--workdir=new", *args, cwd=again)
    assert result.status == 2 and message in result.err and result.err.count("\n") == 1
    assert not (again / "new").exists()


def test_a_grown_catalogue(train, environment, data, tmp_path):
    """10 % more items and new users, numbered anew: rows land by raw id, as the run says."""
    old, new = tmp_path / "old", tmp_path / "new"
    shutil.copytree(data, old, ignore=shutil.ignore_patterns("cache", "*emb*"))
    lines = [line.split() for line in (old / "inter.txt").read_text().splitlines()]
    records = [json.loads(line) for line in (old / "items.jsonl").read_text().splitlines()]
    users, items = ({name for name in column} for column in zip(*lines))
    more = [(str(1000 + n // 5), f"new{n}") for n in range(15)]
    new.mkdir()
    numbers = {}
    for folder, pairs, shift in ((old, lines, 0), (new, [*more, *map(tuple, lines)], 1)):
        number = [{}, {}]
        text = ""
        for pair in pairs:
            for ids, raw in zip(number, pair):
                ids.setdefault(raw, len(ids) + 1)
            text += f"{number[0][pair[0]]} {number[1][pair[1]]}\n"
        (folder / "inter.txt").write_text(text)
        (folder / "user_ids.txt").write_text("".join(f"{raw}\n" for raw in number[0]))
        (folder / "item_ids.txt").write_text("".join(f"{raw}\n" for raw in number[1]))
        titles = {str(record["item_id"]): record["title"] for record in records}
        with (folder / "items.jsonl").open("w") as file:
            for raw, item in number[1].items():
                file.write(json.dumps({"item_id": item, "title": titles.get(raw, f"new lamp {raw}")}) + "\n")
        numbers[folder] = number
    assert len(numbers[new][1]) == len(items) + 15
    args = (*ARGS, "--method=none")
    assert train(*args, f"--data_dir={old}", "--workdir=a", cwd=tmp_path).status == 0
    result = train(*args, f"--data_dir={new}", "--start=a", "--workdir=b", "--epochs=1", cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert (
        f"rows by raw id: {len(items)} of {len(items) + 15} items, {len(users)} of {len(users) + 3} users\n"
        in result.out
    )

    from llmesr_jax.data import raw_ids, reading

    rows = raw_ids.rows_in(reading.read_folder("n", new), reading.read_folder("o", old), "item")
    back = {item: raw for raw, item in numbers[new][1].items()}
    wanted = [numbers[old][1].get(back[item], 0) - 1 for item in range(1, len(back) + 1)]
    np.testing.assert_array_equal(rows, wanted)


def test_a_sweep_trains_the_start_first(environment, data, undisturbed, tmp_path):
    args = ("--grid=method=llmesr,none", "--grid=start=@none", *ARGS, "--workdir=w")
    sweep = ("-m", "launch.sweep", *commands.SMALL, f"--data_dir={data}", *args)
    result = commands.run(*sweep, cwd=tmp_path, env=environment)
    assert (result.status, result.err) == (0, "")
    assert result.out.index("\nnone: ") < result.out.index("\nllmesr,from-none: ")
    (tmp_path / "w" / "llmesr,from-none").rename(tmp_path / "w" / "llmesr")
    assert numbers(tmp_path) == numbers(undisturbed)
