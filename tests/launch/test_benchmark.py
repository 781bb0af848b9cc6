"""`python -m launch.benchmark`: its counts against counting, its rates against each other."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from llmesr_jax.data import reading
from llmesr_jax.experiments import benchmark, benchmark_plot

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def measured(train, tmp_path_factory):
    cwd = tmp_path_factory.mktemp("benchmark")
    args = ("--method=none", "--groups=1,2", "--count=2", "--repeats=1", "--out=b.json")
    result = train(*args, cwd=cwd, program=("-m", "launch.benchmark"))
    assert (result.status, result.err) == (0, "")
    return cwd, result.out, json.loads((cwd / "b.json").read_text())["none"]


def test_real_items_of_a_step_are_counted_right(measured, data):
    setting = measured[2]["setting"]
    train_U = reading.read_folder("tiny", data).train_lengths_U
    inputs = sum(min(int(n) - 1, 8) for n in train_U if n >= 2)
    steps = -(-int((train_U >= 2).sum()) // 16)
    assert setting["steps_an_epoch"] == steps
    assert setting["real_items_a_step"] == pytest.approx(inputs / steps)
    assert setting["slots_over_real"] == pytest.approx(setting["slots_a_step"] * steps / inputs)
    assert 1 <= setting["slots_over_real"] < 3


def test_rates_are_sizes_over_times(measured):
    for size, train in measured[2]["train"].items():
        assert train["users_per_second"] == pytest.approx(int(size) * 16 / train["step"])
        real = measured[2]["setting"]["real_items_a_step"]
        assert train["positions_per_second"] == pytest.approx(int(size) * real / train["step"])
        assert train["compile"] > 0 and np.isfinite(train["spread"])
    one = measured[2]["train"]["1"]["step"]
    share = measured[2]["flops"] / one / measured[2]["matmul_flops"]
    assert measured[2]["share_of_matmul"] == pytest.approx(share)


def test_nothing_is_trained_or_written_but_the_numbers(measured):
    cwd, out, _ = measured
    assert [path.name for path in cwd.iterdir()] == ["b.json"]
    assert "slots over real items" in out and "full ranking" in out


def test_a_wrong_group_is_refused(train, tmp_path):
    result = train("--method=none", "--groups=1,x", cwd=tmp_path, program=("-m", "launch.benchmark"))
    assert result.status == 2
    assert result.err == "error: --groups=1,x: is not valid; expected whole numbers, as in --groups=1,3\n"


@pytest.fixture(scope="module")
def synthetic(train, tmp_path_factory):
    cwd = tmp_path_factory.mktemp("synthetic")
    args = ("--method=llmesr", "--max_len=8", "--batch_size=16", "--groups=1", "--count=1", "--repeats=1")
    args += ("--config.train.table_updates=touched", "--eval_users=7", "--synthetic=60,40,8", "--out=a.json")
    result = train(*args, cwd=cwd, program=("-m", "launch.benchmark"))
    assert (result.status, result.err) == (0, "")
    return cwd, json.loads((cwd / "a.json").read_text())["llmesr"]


def test_noise_of_any_size_is_timed_without_files(synthetic):
    setting = synthetic[1]["setting"]
    assert (setting["dataset"], setting["users"], setting["items"], setting["llm_width"]) == ("zipf", 60, 40, 8)
    assert setting["table_updates"] == "touched" and synthetic[1]["evaluation"]["users"] == 7
    assert synthetic[1]["flops"] > 0


def test_products_in_loops_of_unknown_length_are_not_counted(synthetic):
    """Known trips count, a loop without products costs nothing; else there is no number, and no line with one."""

    def loops(x, n):
        x = jax.lax.fori_loop(0, n, lambda i, y: y + 1.0, x @ x)
        return jax.lax.fori_loop(0, n, lambda i, y: y @ y, x)

    jaxpr = jax.make_jaxpr(loops)(jnp.zeros((3, 3)), 4).jaxpr
    assert benchmark._product_flops(jaxpr, iter([7])) == 2 * 27 + 7 * 2 * 27
    assert np.isnan(benchmark._product_flops(jaxpr, iter([])))
    counted = synthetic[1]
    assert "matrix products" in benchmark.table(counted)
    assert "matrix products" not in benchmark.table({**counted, "flops": None, "share_of_matmul": None})


def test_a_malformed_size_is_refused(train, tmp_path):
    result = train("--synthetic=60,40", cwd=tmp_path, program=("-m", "launch.benchmark"))
    wanted = "expected users,items,width, as in --synthetic=100000,50000,384"
    assert (result.status, result.err) == (2, f"error: --synthetic=60,40: is not a size; {wanted}\n")


def with_setting(result, step, **changes):
    return {"setting": {**result["setting"], **changes}, "train": {"1": {"step": step}}, "step": step}


def test_lines_join_what_differs_in_one_axis_alone(synthetic):
    results = [
        with_setting(synthetic[1], 2.0, items=400, users=400, steps_an_epoch=9),
        with_setting(synthetic[1], 1.0),
        with_setting(synthetic[1], 5.0, table_updates="dense"),
        with_setting(synthetic[1], 3.0, max_len=16, slots_a_step=77),
    ]
    assert benchmark_plot.lines(results, "items") == {"": [(40, 1.0), (400, 2.0)]}
    assert list(benchmark_plot.lines(results, "max_len").values())[0][-1] == (16, 3.0)
    more = [with_setting(synthetic[1], 7.0, table_updates="dense", items=400, users=400)]
    assert benchmark_plot.lines([*results, *more], "items") == {
        "touched updates": [(40, 1.0), (400, 2.0)],
        "dense updates": [(40, 5.0), (400, 7.0)],
    }
    assert benchmark_plot.lines(results, "similar") == {}


def test_a_picture_of_several_files(synthetic, train):
    pytest.importorskip("matplotlib", reason="an extra: pip install -e '.[plots]'")
    cwd, result = synthetic
    (cwd / "b.json").write_text(json.dumps({"llmesr": with_setting(result, 2.0, items=400)}))
    program = ("-m", "launch.benchmark")
    drawn = train("--plot=p.svg", "--files=a.json,b.json", cwd=cwd, program=program)
    assert (drawn.status, drawn.err) == (0, "")
    assert all(
        word in (cwd / "p.svg").read_text() for word in ("<svg", "size of the catalogue", "milliseconds per step")
    )
    (cwd / "c.json").write_text("[]")
    refused = train("--plot=q.svg", "--files=c.json", cwd=cwd, program=program)
    assert refused.status == 2 and refused.err.startswith("error: c.json: is not a benchmark of one seed")
    assert not (cwd / "q.svg").exists()
