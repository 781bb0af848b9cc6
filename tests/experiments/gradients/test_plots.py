"""Without matplotlib there are numbers, and one line that says why there is no picture."""

import importlib.util

from llmesr_jax.experiments.gradients import plots


def test_without_matplotlib(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert plots.draw(tmp_path) == []
    assert capsys.readouterr().out == "no pictures: matplotlib is not installed; run pip install matplotlib\n"
