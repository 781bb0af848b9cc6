"""The forks of docs/forking.md, taken out of the page: a package of its own, installed and run."""

import csv
import json
import re
import sys
import tomllib
import types

import commands
import jax.numpy as jnp
import numpy as np
import pytest

from llmesr_jax.extend import Drawn, Lists, Terms, masked_mean

PAGE = (commands.PROJECT / "docs" / "forking.md").read_text()
FILES = dict(re.findall(r"^`([\w./]+)`:\n\n```(?:python|toml)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
OWN = ["--backbone=mean", "--config.mean.blocks=1", "--config.loss.ranking=hinge", "--loggers=lines"]
OWN += ["--config.train.surgery=ranking_first"]


def code(heading):
    """The Python of a section."""
    section = re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]
    (found,) = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return found


@pytest.fixture
def module_of(monkeypatch):
    """module_of(name) -> a file of the page as a module."""

    def module_of(name):
        module = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(FILES[f"my_recsys/{name}.py"], name, "exec"), vars(module))
        return module

    return module_of


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The page's package as pip leaves it in a folder on the path: its modules, and what pyproject.toml says of it."""
    folder, project = tmp_path_factory.mktemp("site"), tomllib.loads(FILES["pyproject.toml"])["project"]
    made = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    for name in (made.name, "my_recsys"):
        (folder / name).mkdir()
    (folder / "my_recsys" / "__init__.py").touch()
    for name, text in FILES.items():
        if name != "pyproject.toml":
            (folder / name).write_text(text)
    about = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (made / "METADATA").write_text(about)
    groups = project["entry-points"].items()
    lines = [line for group, points in groups for line in (f"[{group}]", *(f"{k} = {v}" for k, v in points.items()))]
    (made / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def environment(package, tmp_path_factory):
    env = commands.session_environment(tmp_path_factory)
    return {**env, "PYTHONPATH": f"{commands.PROJECT}:{package}"}


@pytest.fixture
def run(environment, tmp_path):
    return lambda *args: commands.run(*args, cwd=tmp_path, env=environment)


def test_the_page_has_a_file_for_every_entry_point():
    modules = re.findall(r'^\w+ = "my_recsys\.(\w+)"$', FILES["pyproject.toml"], re.MULTILINE)
    assert {f"my_recsys/{name}.py" for name in modules} | {"pyproject.toml"} == FILES.keys()


@pytest.mark.slow
def test_the_plug_ins_of_a_package_are_in_help_listings_and_settings(run):
    help_text = " ".join(run("-m", "launch.train", "--help").out.split())
    assert "one of: bert4rec, bsarec, fmlprec, gmlp, gru4rec, lightsans, lrurec, mean, narm, sasrec" in help_text
    assert "llmesr, llmesr_uniform, llminit" in help_text
    full = run("-m", "launch.train", "--helpfull").out
    assert all(f"--config.{key}" in full for key in ("mean.blocks", "llmesr_uniform.uniformity", "hinge.margin"))
    assert "--metric" in (shown := run("-m", "launch.report", "--help").out) and "H@1," in shown
    grid = ["--config.loss.ranking=hinge", "--grid=hinge.margin=0.5,1", "--grid=backbone=mean,sasrec", "--dry_run"]
    cells = run("-m", "launch.sweep", "--dataset=demo", "--method=llmesr_uniform", *grid).out
    assert [line.split()[0] for line in cells.splitlines()[1:]] == [
        f"margin={margin},{backbone}" for margin in (0.5, 1.0) for backbone in ("mean", "sasrec")
    ]
    refused = run("-m", "launch.train", "--dataset=demo", "--config.loss.ranking=hing")
    assert (refused.status, refused.err.count("\n")) == (2, 1) and "did you mean hinge?" in refused.err


@pytest.mark.slow
def test_all_of_a_package_trains_is_continued_and_is_reported(run, tmp_path):
    """At weight 0 the wrapped method trains to LLM-ESR's numbers, and has its own term beside."""
    data = commands.write_data(tmp_path / "tiny")
    args = [arg for arg in commands.SMALL if "backbone=" not in arg]
    args += [*OWN, "--method=llmesr,llmesr_uniform", "--workdir=w", f"--data_dir={data}"]
    args += ["--config.llmesr_uniform.width=4", "--config.llmesr_uniform.similar=3"]
    args += ["--config.llmesr_uniform.uniformity=0.0"]
    for epochs in (1, 2):  # the second continues
        result = run("-m", "launch.train", *args, f"--epochs={epochs}")
        assert (result.status, result.err) == (0, "")
    found = {}
    for method in ("llmesr", "llmesr_uniform"):
        folder = tmp_path / "w" / method
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert [line["epoch"] for line in lines] == [1, 2]
        written = list(csv.reader((folder / "numbers.csv").read_text().splitlines()))
        assert [name for _, name, _ in written].count("loss/total/seed_42") == 2
        assert ["2", "test/full/overall/H@1/seed_42"] in [row[:2] for row in written]
        found[method] = [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
        test = json.loads((folder / "results.json").read_text())["test"]
        assert 0 <= test["full"]["tail_share"]["TailShare@10"][0] <= 1 and "tail_share" not in test["sampled"]
        assert 0 <= test["sampled"]["overall"]["H@1"][0] <= test["sampled"]["overall"]["H@5"][0]
    assert all(line.pop("loss/uniformity") < 0 for line in found["llmesr_uniform"])
    for ours, wanted in zip(found["llmesr_uniform"], found["llmesr"]):
        assert ours == pytest.approx(wanted, rel=1e-5)
    shown = run("-m", "launch.evaluate", "--workdir=w")
    assert shown.status == 0 and "TailShare@10" in shown.out and "equal to" in shown.out
    report = run("-m", "launch.report", "w", "--metric=H@1", "--resamples=100", "--users=0", "--items=0")
    assert report.status == 0, report.err
    rows = list(csv.DictReader((tmp_path / "w" / "report" / "tiny-groups.csv").read_text().splitlines()))
    assert {row["metric"] for row in rows} >= {"H@1", "TailShare@10", "Coverage@10"}
    assert "How much of the lists are tail items" in (tmp_path / "w" / "report" / "report.html").read_text()


@pytest.mark.slow
def test_a_package_passes_the_contract_tests(run):
    tests = [f"tests/{name}.py" for name in ("models/test_contract", "models/test_losses", "ranking/test_metrics")]
    paths = [str(commands.PROJECT / path) for path in tests]
    chosen = "mean-none or sasrec-llmesr_uniform or [mean] or hinge or first_place or tail_share"
    options = ["-q", "-n0", "-p", "no:cacheprovider", f"--rootdir={commands.PROJECT}", "-m", "slow or not slow"]
    result = run("-m", "pytest", *options, "-c", str(commands.PROJECT / "setup.cfg"), "-k", chosen, *paths)
    assert result.status == 0, result.out[-2000:]
    assert int(re.search(r"(\d+) passed", result.out)[1]) >= 15


def test_uniformity_by_hand():
    """Two opposite vectors and one at a right angle: |x - y|^2 is 4 once and 2 twice; the last row does not count."""
    source, space = code("A new loss term"), {"jnp": jnp, "Array": jnp.ndarray, "masked_mean": masked_mean}
    exec(compile(source[source.index("def uniformity") : source.index("class Method")], "uniform", "exec"), space)
    x = jnp.array([[3.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [5.0, 5.0]])
    found = float(space["uniformity"](x, where=jnp.array([True, True, True, False])))
    assert found == pytest.approx(np.log((np.exp(-8) + 2 * np.exp(-4)) / 3), rel=1e-5)


def test_hinge_by_hand(module_of):
    """Leads of 2 and -1 over the negatives of the one position that counts: (0 + 2) / 2."""
    where = jnp.array([True, False])
    scored = Drawn(jnp.array([2.0, 0.0]), jnp.array([[0.0, 3.0], [9.0, 9.0]]), where, None, None, jnp.array(2), 10)
    hinge = module_of("hinge")
    assert float(hinge.value(hinge.Config(), scored)) == 1.0


def test_metrics_by_hand(module_of):
    values = module_of("first_place").values(np.array([0, 0, 1]), np.array([0, 1, 0]))
    assert values["H@1"].tolist() == [1, 0.5, 0]
    top = np.zeros((2, 20), int)
    top[:, :2], top[0, 15] = [[1, 2], [3, 9]], 2  # 9 is the mask token; the 16th place is not among ten
    lists = Lists(np.zeros(3, np.uint8), np.array([False, True, True]), np.ones(3, int), top)
    tail_share = module_of("tail_share").values
    assert tail_share(lists) == {"TailShare@10": 2 / 3} and tail_share(lists._replace(top_ExK=None)) == {}


def test_surgery_by_hand():
    """(1, 0) and (-1, 1) conflict: they become (1, 1) / 2 and (0, 1). Gradients that agree stay as they are."""
    source = code("Gradient surgery")
    assert len([line for line in source.splitlines() if line.strip()]) < 40
    space = {}
    exec(compile(source[: source.index("@functools")], "surgery", "exec"), space)
    as_tree = lambda x, y: {"table": {"items": jnp.array([[x]])}, "adapter": {"kernel_0": jnp.array([y])}}  # noqa: E731
    flat = lambda tree: [float(tree["table"]["items"][0, 0]), float(tree["adapter"]["kernel_0"][0])]  # noqa: E731
    assert flat(space["surgery"]({"a": as_tree(1.0, 0.0), "b": as_tree(-1.0, 1.0)})) == [0.5, 1.5]
    assert flat(space["surgery"]({"a": as_tree(1.0, 0.0), "b": as_tree(1.0, 1.0)})) == [2.0, 1.0]


def test_the_ranking_first_by_hand(module_of):
    """(2, 0) is kept; (-1, 1) points against it and keeps (0, 1); (1, 3) does not and stays."""
    gradients = {
        name: {"w": jnp.array(g)} for name, g in {"a": [-1.0, 1.0], "ranking": [2.0, 0.0], "b": [1.0, 3.0]}.items()
    }
    surgery = module_of("ranking_first")
    total, state = surgery.combine(surgery.Config(), Terms(gradients, {}, None), surgery.init(surgery.Config(), 3))
    assert total["w"].tolist() == [3.0, 4.0] and state == ()


@pytest.mark.slow
def test_an_epoch_of_surgery(run, tmp_path):
    """The whole block as a program: it is measured as a run is, and the ranking loss on the last batch falls."""
    ask = (
        "\nbatch = jax.jit(llmesr_jax.make_batch, static_argnums=0)(p.plan, p.data, p.tables, samples_B, jax.random.key(0))\n"
        "loss = jax.jit(lambda q: llmesr_jax.loss_fn(p.model, q, p.tables, batch, None)[1]['ranking'])\n"
        "print(p.epochs.steps - int(now.step), float(loss(p.state.params)), float(loss(now.params)))\n"
    )
    (tmp_path / "surgery.py").write_text(code("Gradient surgery") + ask)
    result = run("-W", "error", "surgery.py")
    assert result.status == 0, result.err
    measured, numbers = result.out.splitlines()
    (ndcg,), (left, before, after) = json.loads(measured), map(float, numbers.split())
    assert 0 < ndcg < 1 and left == 0 and after < before - 0.01
