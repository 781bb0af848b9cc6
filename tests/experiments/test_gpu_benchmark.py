"""The prepared measurement of a GPU, run on what there is."""

import jax
import pytest

from llmesr_jax.experiments import gpu_benchmark
from llmesr_jax.training import config as config_lib

SMALL = {
    "data.batch_size": 8,
    "data.max_len": 5,
    "none.width": 4,
    "sasrec.blocks": 1,
    "method": "none",
    "train.window": 2,
}


@pytest.mark.slow
def test_each_case_is_told_as_it_is_done_and_a_failed_one_by_its_error(monkeypatch, capsys):
    monkeypatch.setattr(
        gpu_benchmark, "ceilings", lambda: dict.fromkeys(("bytes", "default", "float32", "bfloat16"), 1e12)
    )
    cases = (
        gpu_benchmark.Case("small", "demo", SMALL, (1, 2)),
        gpu_benchmark.Case("wrong", "demo", SMALL | {"backbone": "gru4rec", "data.layout": "packed"}),
    )
    with jax.numpy_dtype_promotion("standard"):  # optax's own
        found = gpu_benchmark.run(count=2, repeats=1, cases=cases)
    out = capsys.readouterr().out
    assert list(found["cases"]) == ["small"] and set(found["cases"]["small"]["steps"]) == {"1", "2"}
    assert "small: " in out and "2 seeds" in out and "wrong: config: data.layout=packed, but gru4rec" in out
    monkeypatch.setattr(gpu_benchmark, "SECONDS", -1)
    assert gpu_benchmark.run(cases=cases)["cases"] == {}
    assert capsys.readouterr().out.count("not measured, the time is up") == 2


def test_every_case_has_settings_that_there_are():
    for case in gpu_benchmark.CASES:
        assert case.groups[0] == 1
        config = config_lib.build({"dataset": "demo", **case.settings})
        assert config.method in ("llmesr", "faerec")
