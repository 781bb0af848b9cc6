"""Without matplotlib there are numbers, and one line that says why there is no picture."""

import sys

from llmesr_jax.experiments.gradients import plots


def test_without_matplotlib(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # its import fails
    assert plots.draw(tmp_path) == []
    assert capsys.readouterr().out == "no pictures: matplotlib is not installed; run pip install matplotlib\n"
