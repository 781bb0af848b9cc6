"""`python -m launch.benchmark`: its counts against counting, its rates against each other."""

import json

import numpy as np
import pytest

from llmesr_jax.data import corpus


@pytest.fixture(scope="module")
def measured(train, tmp_path_factory):
    cwd = tmp_path_factory.mktemp("benchmark")
    args = ("--method=none", "--groups=1,2", "--count=2", "--repeats=1", "--out=b.json")
    result = train(*args, cwd=cwd, program=("-m", "launch.benchmark"))
    assert (result.status, result.err) == (0, "")
    return cwd, result.out, json.loads((cwd / "b.json").read_text())["none"]


def test_real_items_of_a_step_are_counted_right(measured, data):
    setting = measured[2]["setting"]
    train_U = corpus.read_folder("tiny", data).train_lengths_U
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
    assert result.err == "error: --groups=1,x: wanted numbers of seeds, as in --groups=1,3\n"
