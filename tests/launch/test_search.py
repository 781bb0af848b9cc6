"""`python -m launch.sweep --search`: trials are runs, chosen by validation, and a killed search goes on."""

import json

import commands
import pytest

from llmesr_jax.core.errors import InputError
from llmesr_jax.experiments import search
from llmesr_jax.experiments.search import Axis

pytestmark = pytest.mark.slow

SPACE = ("--search=train.learning_rate=1e-4..1e-1:log", "--search=loss.temperature=1,2")
ARGS = (*SPACE, "--method=none", "--seeds=1,2", "--epochs=3", "--workdir=w")


@pytest.fixture(scope="module")
def start_search(environment, data):
    pytest.importorskip("optuna", reason="optuna is not installed (extra `search`)")

    def start(*args, cwd):
        program = ("-m", "launch.sweep", *commands.SMALL, f"--data_dir={data}")
        return commands.start(*program, *args, cwd=cwd, env=environment)

    return start


@pytest.fixture(scope="module")
def searched(start_search, tmp_path_factory):
    """(folder, Result) of a search of three trials."""
    cwd = tmp_path_factory.mktemp("searched")
    return cwd, commands.finish(start_search(*ARGS, "--trials=3", cwd=cwd))


def results(trial):
    return json.loads((trial / "results.json").read_text())


def test_the_best_is_chosen_by_validation(searched):
    cwd, result = searched
    assert (result.status, result.err) == (0, "")
    trials = sorted((cwd / "w").glob("trial-*"))
    assert [trial.name for trial in trials] == ["trial-0000", "trial-0001", "trial-0002"]
    values = {t.name: sum(results(t)["valid"]["sampled"]["overall"]["N@10"]) / 2 for t in trials}
    rows = [
        line.split() for line in result.out[result.out.index("\ntrial ") :].splitlines() if line.startswith("trial-")
    ]
    assert sorted(values.values(), reverse=True) == [values[row[0]] for row in rows[:3]]
    assert [f"{values[row[0]]:.4f}" for row in rows[:3]] == [row[1] for row in rows[:3]]
    assert {row[0] for row in rows[3:]} == {rows[0][0]}  # the test is shown of this one alone
    configs = [results(trial)["config"] for trial in trials]
    assert all(1e-4 <= config["train"]["learning_rate"] <= 1e-1 for config in configs)
    assert len({config["train"]["learning_rate"] for config in configs}) == 3
    assert {config["loss"]["temperature"] for config in configs} <= {1, 2}
    assert result.out.count("compiled in 0.") >= 2  # trials that differ in such numbers share a program


def test_a_killed_search_goes_on_as_it_would_have(searched, start_search, tmp_path):
    process = start_search(*ARGS, "--trials=3", cwd=tmp_path)
    assert any("trial-0001" in line for line in process.stdout)
    assert any("epoch   1" in line for line in process.stdout)
    process.kill()
    process.communicate()
    assert (tmp_path / "w" / "trial-0000" / "results.json").exists()
    again = commands.finish(start_search(*ARGS, "--trials=3", cwd=tmp_path))
    assert (again.status, again.err) == (0, "")
    assert "w/trial-0000" not in again.out and "w/trial-0001: train.learning_rate=" in again.out
    for trial in ("trial-0000", "trial-0001", "trial-0002"):
        assert commands.numbers(tmp_path / "w" / trial) == commands.numbers(searched[0] / "w" / trial)


def test_axes_of_a_search():
    assert search.space(["train.learning_rate=1e-4..1e-2:log", "llmesr.similar=2..18", "backbone=sasrec,gru4rec"]) == {
        "train.learning_rate": Axis(1e-4, 1e-2, True),
        "llmesr.similar": Axis(2, 18),
        "backbone": Axis(values=("sasrec", "gru4rec")),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("llmesr.alpha=1..0", "expected low..high, two numbers, low < high; above 0 for :log"),
        ("llmesr.alpha=0..1:log", "above 0 for :log"),
        ("llmesr.alpha=-1..1", "expected at least 0"),
        ("backbone=a..b", "expected low..high, two numbers"),
        ("llmesr.alpha", "expected setting=low..high, "),
        ("llmesr.alpa=0..1", "--search=llmesr.alpa is not a setting"),
        ("llmesr.similar=1..2.5", "llmesr.similar is '2.5', expected int"),
    ],
)
def test_axes_that_are_refused(text, message):
    with pytest.raises(InputError) as error:
        search.space([text])
    assert message in str(error.value)
