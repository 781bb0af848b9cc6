"""The times of answers: each part is there, and the table has them all."""

import pytest
import served

from llmesr_jax.experiments import serving_benchmark


@pytest.mark.slow
def test_every_part_is_timed():
    made, *_ = served.trained("none", "gru4rec", semantic__encoder="random")
    found = serving_benchmark.run(made, large=3000, repeats=1)
    assert 0 < found["one"]["p50"] <= found["one"]["p95"]
    assert min(found["thousand"], found["all"], found["large"]["alone"], found["large"]["batch"]) > 0
    assert found["setting"]["items"] == served.ITEMS and found["setting"]["width"] == 8
    lines = serving_benchmark.table(found).splitlines()
    assert [line.partition("  ")[0] for line in lines[1:4]] == ["one history", "1000 histories", "all users"]
    assert lines[-1].startswith("3000 items of width 128: ")
