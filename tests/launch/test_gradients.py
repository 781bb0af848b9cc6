"""`python -m launch.gradients`: a study of a run, at its best and over training; interrupted; refused."""

import csv
import json
import shutil

import commands
import numpy as np
import pytest
from forked import Forker

pytestmark = pytest.mark.slow

SMALL = ("--steps=2", "--users=30", "--eigenvalues=0")


@pytest.fixture(scope="module")
def gradients(environment):
    """gradients(*args, cwd=...) -> Result."""
    return lambda *args, cwd: commands.run("-m", "launch.gradients", *args, cwd=cwd, env=environment)


@pytest.fixture(scope="module")
def forker(environment, tmp_path_factory):
    with Forker(environment, tmp_path_factory.mktemp("forker")) as forker:
        yield forker


@pytest.fixture(scope="module")
def study(trained, gradients, tmp_path_factory):
    """(folder, Result): the best parameters of LLM-ESR's second seed, with curvature and surface."""
    cwd = tmp_path_factory.mktemp("study")
    run = trained[0] / "w" / "llmesr"
    more = (
        "--seed=2",
        "--steps=2",
        "--users=30",
        "--surface=eigenvectors",
        "--grid=3",
        "--hessian_batches=1",
        "--influence=gauss_newton",
        "--spectrum=1",
        "--order=3",
        f"--between={run}",
    )
    return cwd / "out", gradients(f"--workdir={run}", "--out=out", *more, cwd=cwd)


def test_the_numbers_hang_together(study, trained):
    folder, result = study
    assert (result.status, result.err) == (0, "")
    found = json.loads((folder / "gradients.json").read_text())
    stored = json.loads((trained[0] / "w" / "llmesr" / "results.json").read_text())
    (one,) = found["epochs"]
    assert one["epoch"] == stored["best_epoch"][1] and found["run"]["seed"] == 2
    everything, parts = one["terms"]["all"], [x for name, x in one["terms"].items() if name != "all"]
    assert everything["steps"] == 2
    assert set(one["terms"]) == {"all", "collaborative table", "adapter", "cross-attention", "encoder"}
    for name in ("ranking", "distillation"):  # of the mean gradient: squares of the parts add up
        whole = everything["norm_of_mean"][name] ** 2
        assert whole > 0 and sum(part["norm_of_mean"][name] ** 2 for part in parts) == pytest.approx(whole, rel=1e-4)
    pair = everything["pairs"]["ranking/distillation"]
    assert -1 <= pair["low"] <= pair["cosine"] <= pair["high"] <= 1 and pair["conflicts"] in (0, 0.5, 1)
    assert sum(one["targets"]["all"]["positions"].values()) == pytest.approx(1)
    tail, head = (one["users"]["all"][name] for name in ("tail", "head"))
    assert tail["users"] + head["users"] == 32  # whole batches of 16
    assert tail["share_of_squares"] + head["share_of_squares"] == pytest.approx(1)
    (roles,) = (of["roles"] for of in one["items"].values())
    assert all(sum(by_role.values()) == pytest.approx(1) for by_role in roles.values())
    values = one["eigenvalues"]
    assert len(values["loss"]) == 2 and values["loss"][0] >= values["loss"][1]
    surface = np.array(one["surface"]["losses"])
    assert surface.shape == (3, 3) and surface[1, 1] > 0
    vector, second = one["eigenvectors"]
    assert second["value"] == values["loss"][1]
    assert vector["value"] == values["loss"][0] and sum(vector["groups"].values()) == pytest.approx(1)
    assert set(vector["groups"]) == set(one["terms"]) - {"all"} and set(vector["tail"]) == set(one["items"])
    assert all(0 <= share <= 1 for share in [*vector["tail"].values(), *vector["terms"].values()])
    assert np.shape(one["spectrum"]["values"]) == (1, 3) and np.sum(one["spectrum"]["weights"]) == pytest.approx(1)
    assert max(one["spectrum"]["values"][0]) <= values["loss"][0] * 1.02
    line = one["line"]
    assert line["losses"][0] == pytest.approx(surface[1, 1], rel=1e-5)  # both are the loss at this model
    assert line["losses"][-1] != line["losses"][0] and line["barrier"] >= 0


def test_users_are_listed_and_agree_with_the_summary(study):
    folder, _ = study
    with (folder / "users.csv").open() as file:
        users = list(csv.DictReader(file))
    one = json.loads((folder / "gradients.json").read_text())["epochs"][0]["users"]["all"]
    for label, head in (("tail", "0"), ("head", "1")):
        of = [user for user in users if user["head"] == head]
        assert len(of) == one[label]["users"]
        mean = np.mean([float(user["norm ranking"]) for user in of])
        assert mean == pytest.approx(one[label]["norm"]["ranking"], rel=1e-5)
        positions = np.mean([float(user["positions"]) for user in of])
        assert positions == pytest.approx(one[label]["positions"])


def test_the_tables_and_the_files_are_told(study):
    folder, result = study
    for line in (
        "gradients ",
        "collaborative table ",
        "ranking by target ",
        "users ",
        "noise scale: ",
        "largest eigen",
        "eigenvector ",
        "spectrum: ",
        "line: loss ",
    ):
        assert f"\n{line}" in result.out
    assert "\nGauss-Newton: residuals of 4 solutions at most " in result.out
    assert "\ninfluence of a user (mean, helpful) " in result.out and "\ndistillation on tail items " in result.out
    made = ["gradients.json", "users.csv", "influence.csv"]
    pytest.importorskip("matplotlib", reason="pictures need matplotlib, an extra")
    made += ["terms.svg", "users.svg", "eigenvectors.svg", "spectrum.svg", "line.svg", "surface.svg"]
    assert result.out.endswith(f"\nout: {', '.join(made)}\n")
    assert all((folder / name).read_text().rstrip().endswith("</svg>") for name in made[3:])


def test_over_training_and_killed(trained, gradients, environment, tmp_path):
    """The training made for the study is the run's; killed between two epochs, it ends in the same numbers."""
    run = trained[0] / "w" / "none"
    args = (f"--workdir={run}", "--epochs=0,1,2", "--influence=tracin", *SMALL)
    whole = gradients(*args, "--out=whole", cwd=tmp_path)
    assert (whole.status, whole.err) == (0, "")
    assert f"the parameters are those of {run}, bit for bit\n" in whole.out
    process = commands.start("-m", "launch.gradients", *args, "--out=killed", cwd=tmp_path, env=environment)
    for line in process.stdout:
        if line == "epoch 1\n":
            process.kill()
            break
    process.communicate()
    assert not (tmp_path / "killed" / "gradients.json").exists()
    again = gradients(*args, "--out=killed", cwd=tmp_path)
    assert (again.status, again.err) == (0, "")
    assert not (tmp_path / "killed" / "run").exists()  # a training of the study's own, no run for others to find
    for name in ("gradients.json", "users.csv", "influence.csv"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    with (tmp_path / "whole" / "influence.csv").open() as file:
        taught = list(csv.DictReader(file))
    parts = [
        json.loads(path.read_text())["influence_per_epoch"] for path in (tmp_path / "whole" / "epochs").glob("*.json")
    ]
    name = "ranking on tail items"
    place = parts[0][0].index(name)
    assert len(taught) == 32 and len(parts) == 3  # whole batches of 16
    for i, line in enumerate(taught):
        assert float(line[name]) == pytest.approx(sum(rows[i][place] for _, rows in parts), rel=1e-6)
        assert {rows[i][0] for _, rows in parts} == {int(line["user"])}
    epochs = json.loads((tmp_path / "whole" / "gradients.json").read_text())["epochs"]
    assert [one["epoch"] for one in epochs] == [0, 1, 2]
    assert len({one["terms"]["all"]["norm"]["ranking"] for one in epochs}) == 3
    other = gradients(*args, "--out=whole", "--users=60", cwd=tmp_path)
    wanted = "error: whole: has another study (users: 30 -> 60); choose another --out, or delete the folder\n"
    assert (other.status, other.err) == (2, wanted)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "--workdir is missing; expected the folder of a run"),
        (["--workdir=nowhere"], "nowhere/config.json: cannot be read"),
        (
            ["--workdir=run", "--epochs=1,two"],
            "--epochs=1,two: is not valid; expected whole numbers, as in --epochs=0,1,2",
        ),
        (["--workdir=run", "--seed=7"], "run: has no seed 7; expected one of: 1, 2"),
        (["--workdir=run", "--out=full"], "full: already exists and is not the folder of a study (no study.json)"),
        (["--workdir=run", "--users=1"], "--users=1"),
        (["--workdir=run", "--surface=flat"], "--surface=flat"),
        (["--workdir=run", "--between={llmesr}"], "has other parameters than run (first ["),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(trained, forker, tmp_path, args, message):
    shutil.copytree(trained[0] / "w" / "none", tmp_path / "run")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    before = sorted(tmp_path.rglob("*"))
    args = [arg.format(llmesr=trained[0] / "w" / "llmesr") for arg in args]
    result = forker.run("launch.gradients", *args, cwd=tmp_path)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith(f"error: {message}") or message in result.err
    assert result.err.count("\n") == 1 and sorted(tmp_path.rglob("*")) == before
