"""`python -m launch.benchmark --programs` and `--whole`: a small run, watched from its command to its table."""

import json

import commands
import pytest

from llmesr_jax.experiments import benchmark_plot, drawing

pytestmark = pytest.mark.slow

PROGRAM = ("-m", "launch.benchmark")
# Those that hold a model; the others move trees of arrays about, and their number must stay small as well.
OF_THE_MODEL = {"_create", "run_window", "_encode", "item_vectors", "_sampled", "_full"}
MOST = 16


def test_a_run_compiles_few_programs(train, tmp_path):
    """One encoder serves validation and test. What is compiled leaf by leaf or outside a program would show here."""
    result = train("--method=none", "--programs", "--epochs=3", "--out=p.json", cwd=tmp_path, program=PROGRAM)
    assert (result.status, result.err) == (0, "")
    found = json.loads((tmp_path / "p.json").read_text())
    names = [one["name"] for one in found["programs"]]
    assert len(names) <= MOST, names
    assert OF_THE_MODEL <= set(names)
    assert [names.count(name) for name in ("_create", "run_window", "_encode", "item_vectors")] == [1, 1, 1, 1]
    assert not any(one["kept"] for one in found["programs"])
    step = next(one for one in found["programs"] if one["name"] == "run_window")
    assert step["operations"] == max(one["operations"] for one in found["programs"]) > 500
    assert step["trace"] > 0 < step["compile"]
    assert f"{len(names)} programs" in result.out and "full N@10" in result.out
    assert [path.name for path in tmp_path.iterdir()] == ["p.json"]


def test_a_later_run_traces_nothing_and_the_second_method_is_traced_once(environment, data, tmp_path):
    """The second method's programs are traced while the first one trains; the call finds them under the same names."""
    env = environment | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "xla")}
    runs, kept = [], []
    for name in ("a", "b"):
        flags = (f"--data_dir={data}", "--method=none,llmesr", "--epochs=2", f"--workdir={name}")
        result = commands.run("-m", "launch.train", *commands.SMALL, *flags, cwd=tmp_path, env=env)
        assert (result.status, result.err) == (0, "")
        runs.append([(tmp_path / name / m / "metrics.jsonl").read_text() for m in ("none", "llmesr")])
        kept.append(sorted(path.name for path in (tmp_path / "xla" / "llmesr_jax-traced").iterdir()))
    assert kept[0] == kept[1]
    assert without_seconds(runs[0]) == without_seconds(runs[1])
    names = [name.partition("-")[0] for name in kept[0]]
    assert [names.count(name) for name in ("_create", "run_window", "_encode", "item_vectors")] == [2, 2, 2, 2]


def without_seconds(files):
    return [[{**json.loads(line), "seconds": 0} for line in text.splitlines()] for text in files]


def test_the_parts_of_a_whole_run_add_up(train, tmp_path):
    result = train("--method=none", "--whole", "--epochs=2", "--out=w.json", cwd=tmp_path, program=PROGRAM)
    assert (result.status, result.err) == (0, "")
    found = json.loads((tmp_path / "w.json").read_text())
    parts = found["parts"]
    assert all(parts[name] > 0 for name in ("import", "data", "trace", "compile", "steps", "validation", "test"))
    assert parts["checkpoints"] > 0 and min(parts.values()) >= 0
    whole = sum(parts.values())
    assert parts["import"] < found["first_steps"] < found["reached"]["none"]["seconds"] < whole
    assert f"{whole:.1f} s, from command to table" in result.out
    assert [path.name for path in tmp_path.iterdir()] == ["w.json"]
    if drawing.installed():
        benchmark_plot.plot([str(tmp_path / "w.json")], str(tmp_path / "w.svg"))
        svg = (tmp_path / "w.svg").read_text()
        shown = {name for name, seconds in parts.items() if seconds >= 0.01 * whole}
        assert {"import", "compile"} <= shown
        for name, seconds in parts.items():
            assert (f"<title>{name}: {seconds:.1f} s</title>" in svg) == (name in shown)
            assert (f">{name}</text>" in svg) == (name in shown)  # of the legend
