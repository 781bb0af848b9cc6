"""Where the golden files are, and how close they have to be met."""

import os
import pathlib

import numpy as np
import pytest

FOLDER = pathlib.Path(os.environ.get("LLMESR_GOLDEN", pathlib.Path(__file__).parents[1] / "../shared/golden"))
FILES = sorted(FOLDER.glob("llmesr_*.npz"))


def cases(files):
    """Parameters of a test over these files; of two of a system, the second is among the slow tests."""
    return [pytest.param(p, id=p.stem, marks=pytest.mark.slow if p.stem.endswith("_2") else ()) for p in files]


def assert_met(ours, golden, what):
    """max|ours - golden| <= 1e-6 max|golden| + 1e-12: how close is met, per array."""
    ours, golden = np.asarray(ours), np.asarray(golden)
    assert ours.shape == golden.shape, what
    assert np.abs(ours - golden).max() <= 1e-6 * np.abs(golden).max() + 1e-12, what
