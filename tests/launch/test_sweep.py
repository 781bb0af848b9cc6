"""`python -m launch.sweep` from end to end: its cells are runs as launch.train makes them, however they are trained."""

import json
import re
import signal
import time
from types import SimpleNamespace

import commands
import jax
import pytest

from llmesr_jax.experiments import sweep as sweep_lib
from llmesr_jax.training import config as config_lib
from llmesr_jax.training import experiment

pytestmark = pytest.mark.slow

# 15 steps an epoch, looked at one by one.
RUN = ("--seeds=1,2", "--epochs=4", "--batch_size=4", "--config.train.window=1")
GRID = ("--grid=method=none,llmesr", "--grid=llmesr.alpha=0.1,0.5", *RUN, "--workdir=w")
CELLS = ["none", "llmesr,alpha=0.1", "llmesr,alpha=0.5"]
TOGETHER = "--config.train.lanes=4"


@pytest.fixture(scope="module")
def start_sweep(environment, data):
    """start_sweep(*args, cwd=...) -> Popen of launch.sweep on the small data."""

    def start(*args, cwd):
        program = ("-m", "launch.sweep", *commands.SMALL, f"--data_dir={data}")
        return commands.start(*program, *args, cwd=cwd, env=environment)

    return start


@pytest.fixture(scope="module")
def sweep(environment, data):
    """sweep(*args, cwd=...) -> Result of launch.sweep."""
    program = ("-m", "launch.sweep", *commands.SMALL, f"--data_dir={data}")
    return lambda *args, cwd: commands.run(*program, *args, cwd=cwd, env=environment)


@pytest.fixture(scope="module")
def swept(sweep, tmp_path_factory):
    """(folder, Result) of a grid, cell after cell as a CPU does it; read only."""
    cwd = tmp_path_factory.mktemp("swept")
    result = sweep(*GRID, cwd=cwd)
    assert (result.status, result.err) == (0, ""), result.err
    return cwd, result


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_close(ours, wanted):
    """Numbers of two runs agree: losses to 1e-4, metrics to one user in rank."""
    assert ours["progress"]["epoch"] == wanted["progress"]["epoch"]
    for one, other in zip(ours["metrics"], wanted["metrics"], strict=True):
        assert {k: v for k, v in one.items() if "loss" in k} == pytest.approx(
            {k: v for k, v in other.items() if "loss" in k}, rel=1e-4
        )
    for name, values in wanted["results"]["test"]["full"]["overall"].items():
        assert ours["results"]["test"]["full"]["overall"][name] == pytest.approx(values, abs=2e-3)


def test_each_cell_is_the_run_that_launch_train_makes(swept, train, tmp_path):
    """Bit for bit, every file; the cell that no method has is there once."""
    cwd, _ = swept
    assert sorted(path.name for path in (cwd / "w").iterdir()) == sorted(CELLS)
    args = ("--method=llmesr", "--config.llmesr.alpha=0.5", "--workdir=alone")
    assert train(*RUN, *args, cwd=tmp_path).status == 0
    assert commands.numbers(cwd / "w" / "llmesr,alpha=0.5") == commands.numbers(tmp_path / "alone")
    names = lambda folder: {path.name for path in folder.iterdir()}  # noqa: E731
    assert names(cwd / "w" / "llmesr,alpha=0.5") == names(tmp_path / "alone")


def test_a_program_is_compiled_once(swept):
    _, result = swept
    seconds = [float(text) for text in re.findall(r"compiled in ([\d.]+) s", result.out)]
    assert len(seconds) == 3
    assert seconds[2] < 0.5 * seconds[1]  # the two alphas


def test_the_table_has_a_row_for_each_cell(swept):
    cwd, result = swept
    lines = result.out[result.out.index("\nfull H@10") :].splitlines()[2:5]
    assert [line.split()[0] for line in lines] == CELLS
    for name, line in zip(CELLS, lines):
        values = json.loads((cwd / "w" / name / "results.json").read_text())["test"]["full"]["overall"]["H@10"]
        assert line.split()[1].startswith(f"{sum(values) / 2:.4f}±")


def test_again_only_shows_the_table(swept, sweep):
    cwd, result = swept
    before = contents(cwd / "w")
    again = sweep(*GRID, cwd=cwd)
    assert (again.status, again.err) == (0, "")
    assert again.out.count("already finished,") == 3
    table = lambda out: out[out.index("\nfull H@10") :]  # noqa: E731
    assert table(again.out) == table(result.out)
    assert contents(cwd / "w") == before


def test_killed_in_the_middle(swept, start_sweep, sweep, tmp_path):
    """Finished cells are not touched again; the others end in the numbers of a sweep that nothing disturbed."""
    process = start_sweep(*GRID, cwd=tmp_path)
    assert any("llmesr on gru4rec" in line for line in process.stdout)
    assert any("epoch   2" in line for line in process.stdout)
    while not any(path.name.isdigit() for path in (tmp_path / "w" / "llmesr,alpha=0.1" / "checkpoints").glob("*")):
        time.sleep(0.05)  # written in the background; until it is whole, its name goes on after the number
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = contents(tmp_path / "w" / "none")
    assert any(path.name == "results.json" for path in before)
    assert not (tmp_path / "w" / "llmesr,alpha=0.1" / "results.json").exists()
    result = sweep(*GRID, cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    assert "w/llmesr,alpha=0.1: continuing after epoch" in result.out
    assert contents(tmp_path / "w" / "none") == before
    for name in CELLS:
        assert commands.numbers(tmp_path / "w" / name) == commands.numbers(swept[0] / "w" / name)


def test_cells_under_one_vmap_are_the_same_runs_also_when_interrupted(swept, start_sweep, sweep, tmp_path):
    process = start_sweep(*GRID, TOGETHER, cwd=tmp_path)
    assert any("llmesr,alpha=0.1; llmesr,alpha=0.5: llmesr on gru4rec" in line for line in process.stdout)
    assert any("epoch   2" in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    stopped = commands.finish(process)
    assert (stopped.status, stopped.err) == (130, "interrupted\n")
    saved = [line for line in stopped.out.splitlines() if line.endswith("run the same command again to continue")]
    assert [line.split(": ")[0] for line in saved] == ["w/llmesr,alpha=0.1", "w/llmesr,alpha=0.5"]
    result = sweep(*GRID, TOGETHER, cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    for name in CELLS:
        ours, wanted = (commands.numbers(cwd / "w" / name) for cwd in (tmp_path, swept[0]))
        assert_close(ours, wanted)
        assert ours["results"]["config"]["llmesr"] == wanted["results"]["config"]["llmesr"]


def test_a_cell_that_is_behind_catches_up(train, sweep, tmp_path):
    """Under one vmap: the one that was begun waits for the other at the end of its epoch."""
    grid = ("--grid=llmesr.alpha=0.1,0.5", "--method=llmesr", "--epochs=3", "--workdir=w")
    assert (
        train("--method=llmesr", "--config.llmesr.alpha=0.5", "--epochs=1", "--workdir=w/alpha=0.5", cwd=tmp_path)[0]
        == 0
    )
    result = sweep(*grid, TOGETHER, cwd=tmp_path)
    assert (result.status, result.err) == (0, "")
    order = re.findall(r"alpha=(0\.\d): epoch +(\d)", result.out)
    assert order == [("0.1", "1"), ("0.1", "2"), ("0.5", "2"), ("0.1", "3"), ("0.5", "3")]
    for name in ("alpha=0.1", "alpha=0.5"):
        lines = [
            json.loads(line)["epoch"] for line in (tmp_path / "w" / name / "metrics.jsonl").read_text().splitlines()
        ]
        assert lines == [1, 2, 3]


def test_a_cell_that_fails_says_so_and_the_rest_goes_on(sweep, tmp_path):
    """One before its first compile, one amid the steps of its group."""
    grid = ("--grid=semantic.num_similar=2,9", "--grid=train.learning_rate=1e30,0.001", "--method=llmesr", "--epochs=2")
    result = sweep(*grid, "--config.train.lanes=2", "--workdir=w", cwd=tmp_path)
    assert result.status == 2
    *failed, last = result.err.splitlines()
    names = [
        "num_similar=2,learning_rate=1e+30",
        "num_similar=2,learning_rate=0.001",
        "num_similar=9,learning_rate=1e+30",
    ]
    assert [line.split(": ")[1] for line in failed] == names
    assert "the method needs 3 similar users per user, but" in failed[0] and "is not finite in steps" in failed[2]
    assert last == f"error: 3 of 4 cells failed: {'; '.join(names)}; see their messages above"
    sound = "num_similar=9,learning_rate=0.001"
    rows = [line.split()[0] for line in result.out[result.out.index("\nfull ") :].splitlines() if "=" in line]
    assert set(rows) == {sound}
    assert [path.parent.name for path in (tmp_path / "w").glob("*/results.json")] == [sound]


def test_a_dry_run_lists_the_cells_and_makes_nothing(swept, sweep, tmp_path):
    cwd, _ = swept
    before = contents(cwd / "w")
    result = sweep(*GRID, "--grid=data.num_negatives=1,2", "--dry_run", cwd=tmp_path)
    assert (result.status, result.err, list(tmp_path.iterdir())) == (0, "", [])
    assert [line.split()[1:3] for line in result.out.splitlines()[1:]] == [["to", "do"]] * 6
    cells = {name: experiment.read_config(cwd / "w" / name)[0] for name in CELLS}
    for config in cells.values():
        config.workdir = str(cwd / config.workdir)
    states = lambda: [re.split("  +", line)[1:] for line in sweep_lib.states(cells).splitlines()[1:]]  # noqa: E731
    assert states() == [["finished", "1"], ["finished", "2"], ["finished", "2"]]
    for config in cells.values():
        config.train.epochs += 1
    assert states() == [
        ["started, 4 epochs done", "1"],
        ["started, 4 epochs done", "2"],
        ["started, 4 epochs done", "2"],
    ]
    cells["none"].data.max_len = 7
    assert states()[0][0] == "in the way: another run (data.max_len: 8 -> 7)"
    assert contents(cwd / "w") == before


def test_too_many_lanes_for_the_device_are_told(monkeypatch):
    """The same command with fewer goes on."""

    def full(_, stop):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    made = lambda config: SimpleNamespace(config=config, seeds=(1, 2), describe=str)  # noqa: E731
    monkeypatch.setattr(sweep_lib.loop, "train_together", full)
    monkeypatch.setattr(sweep_lib.experiment, "prepare", made)
    monkeypatch.setattr(sweep_lib.experiment, "vary", lambda _, config: made(config))
    cells = {str(a): config_lib.build(flags={"llmesr.alpha": a, "train.lanes": 8, "workdir": "no"}) for a in (0.1, 0.2)}
    (error, _) = sweep_lib.run(cells).values()
    assert str(error) == (
        "the device has no memory for 4 lanes together; run the same command with --config.train.lanes=2 to continue"
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            (),
            "no runs are named; expected one of --sweep, --grid and --search; known sweeps: ablations, alpha_and_n, ",
        ),
        (("--grid=seeds=1,2", "--seeds=3"), "--seeds: is set on the command line and varied by the sweep"),
        (
            ("--grid=llmesr.alpha=1", "--loggers=tensorbord"),
            "logger 'tensorbord' is not known; expected one of: mlflow, ",
        ),
    ],
)
def test_mistakes_are_told_in_one_line(sweep, tmp_path, args, message):
    result = sweep("--workdir=w", *args, cwd=tmp_path)
    assert result.status == 2
    assert result.err.startswith(f"error: {message}") and result.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
