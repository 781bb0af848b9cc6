"""A seed whose loss is not finite is left out and named; the others end in the numbers they have without it."""

import json
import shutil

import commands
import pytest

pytestmark = pytest.mark.slow

# launch.train in which one seed's parameters become NaN at a step of its own.
POISONED = """
import jax, jax.numpy as jnp, numpy as np
from launch import cli, {command}
from llmesr_jax.training import steps

run_window, at = steps.run_window, {at}
keys = {{seed: np.asarray(jax.random.key_data(jax.random.fold_in(jax.random.key(seed), 1))) for seed in at}}

def poisoned(model, adam, plan, states, *args, **options):
    for seed, step in at.items():
        hit = np.all(np.asarray(states.key) == keys[seed], axis=1) & (np.asarray(states.step) >= step)
        if hit.any():
            bad = lambda x: jnp.where(hit.reshape(-1, *[1] * (x.ndim - 1)), jnp.nan, x)
            states = states.replace(params=jax.tree.map(bad, states.params))
    return run_window(model, adam, plan, states, *args, **options)

steps.run_window = poisoned
{command}.define_flags() if hasattr({command}, "define_flags") else cli.define_flags()
cli.run({command}.main)
"""
# 15 steps an epoch, in windows of 5.
ARGS = ("--method=none", "--epochs=3", "--batch_size=4", "--config.train.window=5")
WHAT = "the loss's term 'ranking' is not finite in steps 6 to 10 of epoch 2"
AT = {2: 15 + 5}  # seed 2, in the second window of the second epoch


def poisoned(at, command="train"):
    return ("-c", POISONED.format(command=command, at=at))


@pytest.fixture(scope="module")
def failed(train, tmp_path_factory):
    """Seeds 1, 2 and 3, of which the second fails."""
    cwd = tmp_path_factory.mktemp("failed")
    return cwd, train(*ARGS, "--seeds=1,2,3", "--workdir=w", cwd=cwd, program=poisoned(AT))


@pytest.fixture(scope="module")
def without(train, tmp_path_factory):
    """Seeds 1 and 3 alone."""
    cwd = tmp_path_factory.mktemp("without")
    assert train(*ARGS, "--seeds=1,3", "--workdir=w", cwd=cwd).status == 0
    return cwd


def results(cwd):
    return json.loads((cwd / "w" / "results.json").read_text())


def test_the_others_end_in_the_numbers_they_have_alone(failed, without):
    ours, wanted = results(failed[0]), results(without)
    assert ours["seeds"] == [1, 3] and ours["config"]["seeds"] == "1,2,3"
    for key in ("seeds", "test", "valid", "best_epoch", "epochs", "early_stopped", "parameters"):
        assert ours[key] == wanted[key]
    assert ours["failed"] == {"2": WHAT} and "failed" not in wanted
    a, b = (commands.numbers(cwd / "w") for cwd in (failed[0], without))
    assert a["ranks"] == b["ranks"]
    assert [line for line in a["metrics"] if line["seed"] != 2] == b["metrics"]
    assert [line["epoch"] for line in a["metrics"] if line["seed"] == 2] == [1]


def test_lines_on_stderr_name_it_and_the_status_is_2(failed):
    _, result = failed
    assert result.status == 2
    at_once, at_the_end = result.err.splitlines()
    assert at_once == f"w: seed 2: {WHAT}; it is left out, the other seeds continue"
    note = f"w: seed 2 failed ({WHAT}), so the numbers are only those of seeds 1, 3"
    assert (
        at_the_end == f"error: {note}; to train all seeds, lower --config.train.learning_rate and use a new --workdir"
    )
    assert result.out.endswith(f"\n{note}\n") and "sampled" in result.out


def test_the_same_command_trains_nothing_and_says_so_again(failed, train):
    cwd, first = failed
    before = results(cwd)
    again = train(*ARGS, "--seeds=1,2,3", "--workdir=w", cwd=cwd)
    assert again.status == 2 and again.err == first.err.splitlines()[1] + "\n"
    assert "w: already finished, nothing trained" in again.out and results(cwd) == before


def test_a_continued_run_keeps_it_failed(failed, without, train, tmp_path):
    """With more epochs, and without what made it fail."""
    for cwd, name in ((failed[0], "failed"), (without, "without")):
        shutil.copytree(cwd, tmp_path / name)
    more = (*ARGS[:1], "--epochs=5", *ARGS[2:], "--workdir=w")
    assert train(*more, "--seeds=1,2,3", cwd=tmp_path / "failed").status == 2
    assert train(*more, "--seeds=1,3", cwd=tmp_path / "without").status == 0
    ours, wanted = results(tmp_path / "failed"), results(tmp_path / "without")
    assert ours["failed"] == {"2": WHAT} and ours["epochs"] == 5 and ours["test"] == wanted["test"]


def test_the_last_that_learns_fails_after_another_stopped_early(train, tmp_path):
    args = ("--method=none", "--epochs=9", "--batch_size=4", "--config.train.window=5", "--config.train.patience=1")
    assert train(*args, "--seeds=1,2,3,4", "--workdir=w", cwd=tmp_path).status == 0
    lines = [json.loads(line) for line in (tmp_path / "w" / "metrics.jsonl").read_text().splitlines()]
    last = {line["seed"]: line["epoch"] for line in lines}  # lines ascend
    early, late = min(last, key=last.get), max(last, key=last.get)
    assert last[early] < last[late]
    whole = results(tmp_path)
    (tmp_path / "two").mkdir()
    seeds = f"--seeds={early},{late}"
    program = poisoned({late: 15 * last[early] + 5})
    result = train(*args, seeds, "--workdir=w", cwd=tmp_path / "two", program=program)
    found = results(tmp_path / "two")
    assert result.status == 2 and found["seeds"] == [early] and found["early_stopped"]
    assert found["test"]["full"]["overall"]["N@10"] == [whole["test"]["full"]["overall"]["N@10"][early - 1]]
    again = train(*args, seeds, "--workdir=w", cwd=tmp_path / "two")
    assert again.status == 2 and results(tmp_path / "two") == found


def test_where_all_seeds_fail_there_are_no_results(train, tmp_path):
    result = train(*ARGS, "--seeds=1,2", "--workdir=w", cwd=tmp_path, program=poisoned({1: 0, 2: 20}))
    first = WHAT.replace("6 to 10 of epoch 2", "1 to 5 of epoch 1")
    error = result.err.splitlines()[-1]
    assert result.status == 2 and error.startswith(
        f"error: all seeds failed: seed 1: {first}; seed 2: {WHAT}; the last"
    )
    assert not (tmp_path / "w" / "results.json").exists()


def test_a_run_of_one_seed_stops_with_the_line(train, tmp_path):
    result = train(*ARGS, "--seeds=2", "--workdir=w", cwd=tmp_path, program=poisoned(AT))
    wanted = (
        f"error: seed 2: {WHAT}; the last checkpoint is kept; lower --config.train.learning_rate in a new --workdir\n"
    )
    assert (result.status, result.err) == (2, wanted)
    assert not (tmp_path / "w" / "results.json").exists()


def test_evaluate_measures_the_others(failed, evaluate):
    cwd, _ = failed
    result = evaluate("--workdir=w", cwd=cwd)
    assert (result.status, result.err) == (0, "")
    assert "; seed 2 failed" in result.out and "equal to w/results.json in all" in result.out


def test_the_report_names_it(failed, environment):
    cwd, _ = failed
    args = ("-m", "launch.report", "w", "--resamples=100", "--users=1", "--items=0", "--out=r")
    result = commands.run(*args, cwd=cwd, env=environment)
    assert result.status == 0, result.err
    line = f"w: seed 2 failed ({WHAT}) and is left out"
    assert line in result.out
    page = (cwd / "r" / "report.html").read_text()
    assert "w: seed 2 failed (the loss&#39;s term" in page and "seeds 1, 3" in page
    assert line in (cwd / "r" / "tiny-full.md").read_text()


def test_a_study_of_it_is_refused(failed, environment):
    cwd, _ = failed
    args = ("-m", "launch.gradients", "--workdir=w", "--seed=2", "--out=g")
    result = commands.run(*args, cwd=cwd, env=environment)
    assert result.status == 2 and not (cwd / "g").exists()
    assert result.err == f"error: w: seed 2 failed ({WHAT}); expected one of: 1, 3\n"


def test_a_sweep_goes_on_and_names_the_cell(train, tmp_path):
    args = ("--epochs=2", "--batch_size=4", "--config.train.window=5", "--seeds=1,2", "--workdir=w")
    result = train(*args, "--grid=method=none,llminit", cwd=tmp_path, program=poisoned({2: 15}, "sweep"))
    assert result.status == 2
    for name in ("none", "llminit"):
        found = json.loads((tmp_path / "w" / name / "results.json").read_text())
        assert found["seeds"] == [1] and list(found["failed"]) == ["2"]
        assert f"{name}: seed 2 failed (the loss's term" in result.out
    assert result.err.endswith("error: in 2 of 2 cells seeds failed: none; llminit; see their messages above\n")
