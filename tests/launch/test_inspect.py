"""`python -m launch.inspect`: every kind of folder, as text and as JSON, and mistakes in one line."""

import json
import shutil

import commands
import numpy as np
import order_data
import pytest

from llmesr_jax.data import handled


@pytest.fixture(scope="module")
def inspect(environment):
    """inspect(*args, cwd=...) -> Result of launch.inspect."""
    return lambda *args, cwd: commands.run("-m", "launch.inspect", *args, cwd=cwd, env=environment)


def fact(result, name):
    """The value of a line."""
    return next(line for line in result.out.splitlines() if line.startswith(f"{name}  "))[len(name) :].strip()


def test_the_demo(inspect, tmp_path):
    result = inspect("--dataset=demo", cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert fact(result, "users, items") == "2,000, 940" and result.out.endswith("\nno warnings\n")
    assert not list(tmp_path.iterdir())


def test_a_folder_of_ones_own_as_json(inspect, data, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    result = inspect("--dataset=tiny", f"--data_dir={data}", "--json", cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    found = json.loads(result.out)
    assert found["version"] == 1 and found["dataset"] == "tiny" and found["folder"] == str(data)
    assert (found["counts"]["users"], found["counts"]["items"], found["times"]) == (60, 150, None)
    assert sum(bar["count"] for bar in found["user_length"]) == 60
    assert "few" in [one["code"] for one in found["warnings"]]
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before


def test_days_in_order_of_ids(inspect, tmp_path):
    """Ties and targets of one day are those counted by hand; text and JSON say the same."""
    items, users, days = order_data.by_days(500, 60, 4)
    (tmp_path / "data" / "shop").mkdir(parents=True)
    np.savetxt(tmp_path / "data" / "shop" / "inter.txt", np.stack([users + 1, items + 1], axis=1), fmt="%d")
    np.save(tmp_path / "data" / "shop" / "times.npy", days * 86_400 + 1_400_000_000)
    same = int(((users[1:] == users[:-1]) & (days[1:] == days[:-1])).sum())
    targets = int((days.reshape(500, 8)[:, -1] == days.reshape(500, 8)[:, -2]).sum())
    result = inspect("--dataset=shop", "--json", cwd=tmp_path)
    ties = json.loads(result.out)["ties"]
    assert (ties["pairs"], ties["same_time"], ties["target_same_day"]) == (3_500, same, targets)
    text = inspect("--dataset=shop", cwd=tmp_path)
    assert fact(text, "equal times").startswith(f"{100 * same / 3500:.1f}".removesuffix(".0") + " % of neighbours; ")
    assert fact(text, "  within equal times").startswith(f"100 % of {same:,} neighbours (chance: 50 %; z = ")
    assert "\nwarning (sorted_ties): Items with the same time are sorted by id: " in text.out


def test_a_sorted_copy(inspect, tmp_path):
    items, users = order_data.drift(800, 100, 0.5, 0.3)
    ids = np.unique(items, return_inverse=True)[1].reshape(-1) + 1
    for name, key in (("good", np.arange(len(ids))), ("bad", ids)):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        np.savetxt(folder / "inter.txt", np.stack([users + 1, ids[np.lexsort((key, users))]], axis=1), fmt="%d")
    assert "(sorted)" not in inspect("--dataset=good", cwd=tmp_path).out
    assert "warning (sorted): Sequences seem to be sorted by item id" in inspect("--dataset=bad", cwd=tmp_path).out


def test_the_authors_folder(inspect, data, tmp_path):
    shutil.copytree(data, tmp_path / "data" / "tiny" / "handled")
    (tmp_path / "data" / "tiny" / "handled" / handled.FILES["item_llm"]).write_bytes(np.ones((150, 4)).dumps())
    result = inspect("--dataset=tiny", cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert fact(result, "item vectors") == "itm_emb_np.pkl: 0 of zeros, 150 equal to another"
    assert "warning (alike): 150 of 150 items share their vector" in result.out


def test_a_prepared_folder(inspect, environment, tmp_path):
    """Raw ids are those of the source, through launch.prepare."""
    items, users = order_data.drift(500, 80, 0.5, 0.3)
    names = np.array([f"P{i:03d}" for i in np.random.default_rng(3).permutation(80)])[items]
    place = np.lexsort((names, users))
    (tmp_path / "raw").mkdir()
    lines = [f"u{u} {' '.join(names[place][users == u])}" for u in range(500)]
    (tmp_path / "raw" / "sequences.txt").write_text("\n".join(lines) + "\n")
    args = ("--dataset=mine", "--importer=sequences", "--raw_dir=raw")
    made = commands.run("-m", "launch.prepare", *args, cwd=tmp_path, env=environment)
    assert made.status == 0, made.err
    result = inspect("--dataset=mine", cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert "warning (sorted): Sequences seem to be sorted by item id, not by time. Item ids (item_ids.txt)" in " ".join(
        result.out.split()
    )


def test_raw_files_with_days(inspect, environment, tmp_path):
    """The raw file lists all interactions by day and, within a day, by item."""
    items, users, days = order_data.by_days(500, 60, 4)
    place = np.lexsort((items, days))
    rows = [f"u{users[k]},P{items[k]:03d},2014-07-{10 + days[k]}" for k in place]
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "log.csv").write_text("\n".join(["user,item,day", *rows]) + "\n")
    args = ("--dataset=mine", "--importer=table", "--raw_dir=raw", "--user_column=user", "--item_column=item")
    args += ("--time_column=day", "--core=none")
    made = commands.run("-m", "launch.prepare", *args, cwd=tmp_path, env=environment)
    assert made.status == 0, made.err
    result = inspect("--dataset=mine", "--json", cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    found = json.loads(result.out)
    assert (found["times"]["first"], found["times"]["last"]) == ("2014-07-10", "2014-07-13")
    assert found["times"]["whole_days"] and found["repeats"]["exact_duplicates"] == 0
    same = int(((users[1:] == users[:-1]) & (days[1:] == days[:-1])).sum())
    targets = int((days.reshape(500, 8)[:, -1] == days.reshape(500, 8)[:, -2]).sum())
    assert (found["ties"]["same_time"], found["ties"]["target_same_time"]) == (same, targets)
    assert found["order"]["ids"] == "item_ids.txt" and found["order"]["ties"]["share"] == 1.0
    assert [one["code"] for one in found["warnings"]][:2] == ["sorted_ties", "coarse"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "--dataset is missing; expected the name of a data set, such as fashion"),
        (("--dataset=nobody",), "--dataset=nobody: is not known; expected one of demo, "),
        (("--dataset=x", "--data_dir=gone"), "gone: no such folder; "),
        (("--dataset=demo", "more"), "argument 'more' is not understood; "),
        (("--dataset=demo", "--epochs=3"), "--epochs: there is no such flag"),
    ],
)
def test_a_mistake_is_one_line(inspect, tmp_path, args, message):
    result = inspect(*args, cwd=tmp_path)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith(f"error: {message}") and result.err.count("\n") == 1


def test_vectors_that_do_not_fit_are_one_line(inspect, data, tmp_path):
    shutil.copytree(data, tmp_path / "copy")
    np.save(tmp_path / "copy" / "item_emb.npy", np.ones((149, 4), np.float32))
    result = inspect("--dataset=tiny", "--data_dir=copy", cwd=tmp_path)
    assert result.status == 2 and result.err.count("\n") == 1
    assert result.err.startswith("error: copy/item_emb.npy: has 149 rows; expected 150, one for each of the items")
