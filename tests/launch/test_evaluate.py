"""`python -m launch.evaluate`: the numbers of results.json once more, from the checkpoint and the data."""

import json
import shutil

import pytest

from llmesr_jax.ranking import evaluate as evaluate_lib

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def both(trained, evaluate, tmp_path_factory):
    """Both runs, evaluated from another folder."""
    return evaluate(f"--workdir={trained[0] / 'w'}", cwd=tmp_path_factory.mktemp("elsewhere"))


def section(out, split, corner):
    """The lines of the table of a split that starts with `corner`."""
    lines = out[out.index(f"\n{split}\n{corner.split()[0]}") :].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(corner))
    return lines[start : lines.index("", start) if "" in lines[start:] else None]


def read(trained, method):
    return json.loads((trained[0] / "w" / method / "results.json").read_text())


def test_every_number_is_that_of_results_json(trained, both):
    assert (both.status, both.err) == (0, "")
    folder = trained[0] / "w"
    for method in ("llmesr", "none"):
        best = read(trained, method)["best_epoch"]
        about = f"{method} on gru4rec, tiny; 2 epochs, best {best[0]} (seed 1), {best[1]} (seed 2)"
        assert f"{folder / method}: {about}\n" in both.out
        # 23 groups of 8 numbers, two seeds, two splits, two protocols, and 6 of coverage under one of them
        count = 23 * 8 * 2 * 2 * 2 + 6 * 2 * 2
        assert f"equal to {folder / method / 'results.json'} in all {count} numbers\n" in both.out


def test_nothing_is_written(trained, evaluate, tmp_path):
    folder = trained[0] / "w" / "none"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert evaluate(f"--workdir={folder}", cwd=tmp_path).status == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert not list(tmp_path.iterdir())


def test_tables_are_those_of_training_with_the_finer_groups(trained, both):
    for corner in ("full H@10", "sampled N@10"):
        wanted = trained[1].out[trained[1].out.index(f"\n{corner}") :].splitlines()[1:4]
        assert sorted(section(both.out, "test", corner)) == sorted(wanted)
    results = {method: read(trained, method)["test"]["full"] for method in ("llmesr", "none")}
    lines = both.out[both.out.index("\ntest\nfull") :].splitlines()
    users = results["none"]["user_length"]["5-9"]["count"][0]
    found = [line for line in lines[: lines.index("test", 3)] if line.split()[:2] == ["5-9", str(users)]]
    for line, name in zip(found, ("H@10", "N@10"), strict=False):  # a table for each, as both together are too wide
        values = [results[m]["user_length"]["5-9"][name] for m in results]
        assert line.split()[2:] == list(map(evaluate_lib.cell, values))
    start = next(i for i, line in enumerate(lines) if line.split() == ["Coverage@10", "TailCoverage@10"])
    for line, (method, of) in zip(lines[start + 1 :], results.items(), strict=False):
        values = [of["coverage"][name] for name in ("Coverage@10", "TailCoverage@10")]
        assert line.split() == [method, *map(evaluate_lib.cell, values)]


def test_one_run_one_split_one_protocol(trained, evaluate, tmp_path):
    folder = trained[0] / "w" / "none"
    result = evaluate(f"--workdir={folder}", "--split=valid", "--protocol=sampled", cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert f"equal to {folder / 'results.json'} in all {23 * 8 * 2} numbers\n" in result.out
    assert "\nvalid\nsampled" in result.out and "\ntest\n" not in result.out and "\nfull" not in result.out


@pytest.mark.slow
def test_data_that_moved(trained, evaluate, data, tmp_path):
    """The run names a folder that is gone; --data_dir says where the data are."""
    shutil.copytree(trained[0] / "w" / "none", tmp_path / "run")
    shutil.copytree(data, tmp_path / "moved")
    config = tmp_path / "run" / "config.json"
    config.write_text(config.read_text().replace(str(data), str(tmp_path / "gone")))
    lost = evaluate("--workdir=run", cwd=tmp_path)
    assert lost.status == 2 and lost.err.startswith(f"error: {tmp_path / 'gone'}: no such folder; ")
    found = evaluate("--workdir=run", "--data_dir=moved", "--split=test", cwd=tmp_path)
    assert (found.status, found.err) == (0, "")
    assert "equal to run/results.json in all" in found.out


@pytest.mark.slow
def test_data_that_changed(trained, evaluate, data, tmp_path):
    shutil.copytree(data, tmp_path / "changed")
    lines = (tmp_path / "changed" / "inter.txt").read_text().splitlines()
    (tmp_path / "changed" / "inter.txt").write_text("\n".join(lines[::-1]))
    result = evaluate(f"--workdir={trained[0] / 'w' / 'none'}", f"--data_dir={tmp_path / 'changed'}", cwd=tmp_path)
    assert (result.status, result.out) == (2, "")
    assert "none: the data are not those of the training (interactions: " in result.err
    assert result.err.startswith("error: ") and result.err.count("\n") == 1


@pytest.mark.slow
def test_tables_that_another_processor_rounded_are_told_in_one_line(trained, evaluate, tmp_path):
    shutil.copytree(trained[0] / "w" / "llmesr", tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["data"]["tables"] = "0123456789"
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    result = evaluate("--workdir=run", "--split=test", "--protocol=sampled", cwd=tmp_path)
    assert result.status == 0
    assert result.err.startswith("warning: run: the tables were computed on another processor")
    assert result.err.count("\n") == 1


@pytest.mark.slow
def test_results_of_other_parameters_are_told_apart(trained, evaluate, tmp_path):
    shutil.copytree(trained[0] / "w" / "none", tmp_path / "run")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    results["test"]["full"]["overall"]["MRR"][0] += 0.25
    (tmp_path / "run" / "results.json").write_text(json.dumps(results))
    result = evaluate("--workdir=run", "--split=test", "--protocol=full", cwd=tmp_path)
    assert "differs from run/results.json in 1 of 380 numbers, by at most 0.25;" in result.out


@pytest.mark.slow
def test_runs_on_different_data_are_not_compared(trained, evaluate, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "w" / name).mkdir(parents=True)
        shutil.copy(trained[0] / "w" / "none" / "config.json", tmp_path / "w" / name)
    config = json.loads((tmp_path / "w" / "b" / "config.json").read_text())
    config["data"]["interactions"] = "0" * 64
    (tmp_path / "w" / "b" / "config.json").write_text(json.dumps(config))
    result = evaluate("--workdir=w", cwd=tmp_path)
    wanted = "error: w: a and b are runs on different data; choose a folder of runs on the same data\n"
    assert (result.status, result.err) == (2, wanted)


def test_a_run_without_a_checkpoint(trained, evaluate, tmp_path):
    (tmp_path / "run").mkdir()
    shutil.copy(trained[0] / "w" / "none" / "config.json", tmp_path / "run")
    result = evaluate("--workdir=run", cwd=tmp_path)
    assert (result.status, result.err) == (
        2,
        "error: run: has no checkpoint yet; continue the training with the command that made the run\n",
    )
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["config.json"]


@pytest.mark.slow
@pytest.mark.parametrize("tail", [("--tail=total",), ("--tail=release", "--tail_user=6", "--tail_item=3")])
def test_another_head_and_tail_is_that_of_the_report(trained, evaluate, report, tail, tmp_path):
    """Ranked anew or from the stored ranks: the same tables, and other ones than by training counts."""
    evaluated = evaluate(f"--workdir={trained[0] / 'w'}", "--split=test", *tail, cwd=tmp_path)
    assert evaluated.status == 0, evaluated.err
    args = (str(trained[0] / "w"), "--out=r", "--resamples=100", "--users=0", "--items=0")
    reported = report(*args, *tail, cwd=tmp_path)
    assert reported.status == 0, reported.err
    told = "total" if "total" in tail[0] else "release, users below 6, items below 3"
    assert f"head and tail: {told}" in evaluated.out and f"head and tail: {told}" in reported.out
    table = section(evaluated.out, "test", "full H@10")
    assert sorted(table) == sorted(
        section("\ntest\n" + reported.out[reported.out.index("full H@10") :], "test", "full H@10")
    )
    assert sorted(table) != sorted(
        section(trained[1].out.replace("\nfull H@10", "\ntest\nfull H@10"), "test", "full H@10")
    )


@pytest.mark.slow
@pytest.mark.parametrize("thresholds", [("--tail_user=9", "--tail_item=1"), ("--tail_user=1", "--tail_item=3")])
def test_thresholds_by_which_nothing_is_tail(trained, report, thresholds, tmp_path):
    """No item, or no user: the report has no such column, and says nothing of it."""
    args = (
        str(trained[0] / "w"),
        "--out=r",
        "--resamples=100",
        "--users=2",
        "--items=0",
        "--tail=release",
        *thresholds,
    )
    result = report(*args, cwd=tmp_path)
    assert result.status == 0, result.err
    assert "-" in section("\ntest\n" + result.out[result.out.index("full H@10") :], "test", "full H@10")[1].split()


def test_thresholds_that_nobody_knows(trained, evaluate, tmp_path):
    result = evaluate(f"--workdir={trained[0] / 'w'}", "--tail=release", cwd=tmp_path)
    assert result.status == 2 and "set --tail_user and --tail_item" in result.err and result.err.count("\n") == 1
