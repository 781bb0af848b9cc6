"""`python -m launch.train` from end to end: what it writes and prints, and what a group of seeds owes to each."""

import json
import math

import commands
import numpy as np
import pytest

from llmesr_jax.ranking import metrics

GROUPS = ["overall", "tail_item", "head_item", "tail_user", "head_user"]
USER_LENGTH = ["0", "1-4", "5-9", "10-14", "15-19", "20+"]
ITEM_POPULARITY = ["0", "1-4", "0-9", "10-29", "30-59", "60-99", "100+", "0-4", "5-9", "10-19", "20-49", "50+"]


def read(folder):
    return json.loads((folder / "results.json").read_text())


def tables(out):
    return out[out.index("\nfull H@10") :]


def test_results_have_the_promised_form(trained):
    cwd, _ = trained
    for method in ("none", "llmesr"):
        results = read(cwd / "w" / method)
        assert {"config", "seeds", "best_epoch", "test", "valid"} <= results.keys()
        assert results["config"]["method"] == method
        assert results["config"]["train"]["epochs"] == 2
        assert results["seeds"] == [1, 2]
        assert all(epoch in (1, 2) for epoch in results["best_epoch"]) and len(results["best_epoch"]) == 2
        for split in ("test", "valid"):
            assert list(results[split]) == ["full", "sampled"]
            for protocol, summary in results[split].items():
                more = ["coverage"] if protocol == "full" else []
                assert list(summary) == [*GROUPS, "user_length", "item_popularity", *more]
                assert list(summary["user_length"]) == USER_LENGTH
                assert list(summary["item_popularity"]) == ITEM_POPULARITY
                groups = [summary[name] for name in GROUPS]
                groups += [*summary["user_length"].values(), *summary["item_popularity"].values()]
                for group in groups:
                    assert list(group) == ["count", *metrics.names()]
                    assert all(len(values) == 2 for values in group.values())
                    for name in metrics.names():
                        for value, count in zip(group[name], group["count"]):
                            assert (value is None) if count == 0 else (0 <= value <= 1)
            shares = results[split]["full"]["coverage"]
            assert shares.keys() == {f"{name}@{k}" for name in ("Coverage", "TailCoverage") for k in (5, 10, 20)}


def test_ranks_are_those_of_the_metrics(trained):
    cwd, _ = trained
    results = read(cwd / "w" / "llmesr")
    with np.load(cwd / "w" / "llmesr" / "ranks.npz") as ranks:
        for protocol in ("full", "sampled"):
            for i, seed in enumerate((1, 2)):
                per_user = metrics.from_ranks(*ranks[f"test/{protocol}/{seed}"])
                for name, values in per_user.items():
                    assert results["test"][protocol]["overall"][name][i] == pytest.approx(values.mean(), abs=1e-12)
        assert len(ranks["test/users"]) == results["test"]["full"]["overall"]["count"][0]


def test_a_line_for_each_epoch_and_seed(trained):
    cwd, _ = trained
    lines = [json.loads(line) for line in (cwd / "w" / "llmesr" / "metrics.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["seed"]) for line in lines] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    for line in lines:
        assert line["seconds"] > 0
        total = line["loss/ranking"] + 0.1 * line["loss/distillation"]
        assert line["loss/total"] == pytest.approx(total, rel=1e-5)
        assert 0 <= line["valid/overall/N@10"] <= line["valid/overall/H@10"] <= 1


def test_best_epoch_is_that_of_the_best_validation(trained):
    cwd, _ = trained
    results = read(cwd / "w" / "none")
    lines = [json.loads(line) for line in (cwd / "w" / "none" / "metrics.jsonl").read_text().splitlines()]
    for i, seed in enumerate((1, 2)):
        values = {line["epoch"]: line["valid/overall/N@10"] for line in lines if line["seed"] == seed}
        assert values[results["best_epoch"][i]] == max(values.values())
        assert results["valid"]["sampled"]["overall"]["N@10"][i] == max(values.values())


def test_tables_compare_the_methods(trained):
    cwd, result = trained
    assert result.err == ""
    for protocol in ("full", "sampled"):
        for name in ("H@10", "N@10"):
            table = result.out[result.out.index(f"\n{protocol} {name}") :].splitlines()[1:4]
            assert table[0].split("  ")[1:] and all(group.replace("_", " ") in table[0] for group in GROUPS)
            for line, method in zip(table[1:], ("none", "llmesr")):
                values = read(cwd / "w" / method)["test"][protocol]["overall"][name]
                spread = f"{np.std(values, ddof=1):.4f}".removeprefix("0")
                assert line.split()[:2] == [method, f"{np.mean(values):.4f}±{spread}"]


def test_the_same_command_again_only_shows_the_table(trained, train):
    cwd, result = trained
    before = {path: path.read_bytes() for path in (cwd / "w").rglob("*") if path.is_file()}
    again = train("--method=none,llmesr", "--seeds=1,2", "--epochs=2", "--workdir=w", cwd=cwd)
    assert (again.status, again.err, tables(again.out)) == (0, "", tables(result.out))
    assert again.out.count("already finished,") == 2
    fewer = train("--method=none", "--seeds=1,2", "--epochs=1", "--workdir=w/none", cwd=cwd)
    assert "w/none: already finished after 2 epochs, not the 1 of --epochs, nothing trained" in fewer.out
    assert {path: path.read_bytes() for path in (cwd / "w").rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_seed_that_stops_early_leaves_the_others_as_they_are(train, tmp_path):
    """Patience 1: the group shrinks as seeds stop; each ends as it does alone."""
    args = ("--method=none", "--epochs=6", "--config.train.patience=1", "--config.train.learning_rate=0.05")
    assert train(*args, "--seeds=3,4,5", "--workdir=group", cwd=tmp_path).status == 0
    group = commands.numbers(tmp_path / "group")
    last = {line["seed"]: line["epoch"] for line in group["metrics"]}
    assert len(set(last.values())) > 1, "expected seeds that stop at different epochs"
    stopped = min(last, key=last.get)
    assert train(*args, f"--seeds={stopped}", "--workdir=alone", cwd=tmp_path).status == 0
    alone = commands.numbers(tmp_path / "alone")
    place = [3, 4, 5].index(stopped)
    assert alone["results"]["best_epoch"] == [group["results"]["best_epoch"][place]]
    assert last[stopped] == alone["results"]["epochs"]
    in_group = [line for line in group["metrics"] if line["seed"] == stopped]
    for one, other in zip(in_group, alone["metrics"], strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    for protocol in ("full", "sampled"):
        for name, (value,) in alone["results"]["test"][protocol]["overall"].items():
            assert math.isclose(group["results"]["test"][protocol]["overall"][name][place], value, abs_tol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "args",
    [
        ("--backbone=bert4rec", "--max_len=1", "--batch_size=1000"),
        ("--backbone=sasrec", "--max_len=1", "--preset=release", "--config.train.window=1"),
    ],
    ids=" ".join,
)
def test_extreme_sizes_and_other_backbones(train, tmp_path, args):
    result = train("--method=none", "--epochs=1", "--workdir=w", *args, cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert [line["epoch"] for line in commands.numbers(tmp_path / "w")["metrics"]] == [1]
