"""The forks of docs/forking.md, taken out of the page and run."""

import json
import re
import shutil

import commands
import jax.numpy as jnp
import numpy as np
import pytest

from llmesr_jax.models import losses

pytestmark = pytest.mark.slow

PAGE = (commands.PROJECT / "docs" / "forking.md").read_text()
METHOD, BACKBONE = "llmesr_jax/models/methods/llmesr_uniform.py", "llmesr_jax/models/backbones/mean.py"


def code(heading):
    """The Python of a section."""
    section = re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]
    (found,) = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return found


@pytest.fixture(scope="module")
def fork(tmp_path_factory):
    """A copy of the project with the page's two files in it."""
    folder = tmp_path_factory.mktemp("fork")
    for name in ("llmesr_jax", "launch", "configs"):
        shutil.copytree(commands.PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / METHOD).write_text(code("A new loss term"))
    (folder / BACKBONE).write_text(code("A new backbone"))
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return commands.environment(tmp_path_factory.mktemp("cache"))


def test_a_new_term_and_a_new_backbone_train_together(fork, environment, tmp_path):
    """At weight 0 the wrapped method trains to LLM-ESR's numbers, and has its own term beside."""
    assert f"`{METHOD}`:" in PAGE and f"`{BACKBONE}`:" in PAGE
    data = commands.write_data(tmp_path / "tiny")
    args = [arg for arg in commands.SMALL if "backbone=" not in arg]
    args += ["--backbone=mean", "--config.mean.blocks=1", "--method=llmesr,llmesr_uniform", "--epochs=1", "--workdir=w"]
    args += ["--config.llmesr_uniform.width=4", "--config.llmesr_uniform.similar=3"]
    args += ["--config.llmesr_uniform.uniformity=0.0", f"--data_dir={data}"]
    environment = {**environment, "PYTHONPATH": str(fork)}
    result = commands.finish(commands.start("-m", "launch.train", *args, cwd=tmp_path, env=environment))
    assert (result.status, result.err) == (0, "")
    lines = {}
    for method in ("llmesr", "llmesr_uniform"):
        (line,) = (tmp_path / "w" / method / "metrics.jsonl").read_text().splitlines()
        lines[method] = {name: value for name, value in json.loads(line).items() if name != "seconds"}
    assert lines["llmesr_uniform"].pop("loss/uniformity") < 0
    assert lines["llmesr_uniform"] == pytest.approx(lines["llmesr"], rel=1e-5)


def test_uniformity_by_hand():
    """Two opposite vectors and one at a right angle: |x - y|^2 is 4 once and 2 twice; the last row does not count."""
    source, space = code("A new loss term"), {"jnp": jnp, "Array": jnp.ndarray, "masked_mean": losses.masked_mean}
    exec(compile(source[source.index("def uniformity") : source.index("class Method")], METHOD, "exec"), space)
    x = jnp.array([[3.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [5.0, 5.0]])
    found = float(space["uniformity"](x, where=jnp.array([True, True, True, False])))
    assert found == pytest.approx(np.log((np.exp(-8) + 2 * np.exp(-4)) / 3), rel=1e-5)


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


def test_an_epoch_of_surgery(environment, tmp_path):
    """The whole block as a program: the ranking loss on the last batch falls."""
    ask = (
        "\nfrom llmesr_jax.models.recommender import loss_fn\n"
        "batch = jax.jit(batches.make_batch, static_argnums=0)(plan, data, e.tables, samples_B, jax.random.key(0))\n"
        "loss = jax.jit(lambda p: loss_fn(model, p, e.tables, batch, None)[1]['ranking'])\n"
        "first = jax.jit(model.init)(jax.random.key(1), e.tables, batch)\n"
        "print(e.epochs.steps - int(now.step), float(loss(first)), float(loss(now.params)))\n"
    )
    (tmp_path / "surgery.py").write_text(code("Gradient surgery") + ask)
    result = commands.finish(commands.start("-W", "error", "surgery.py", cwd=tmp_path, env=environment))
    assert result.status == 0, result.err
    left, before, after = map(float, result.out.split())
    assert left == 0 and after < before - 0.01
