"""Where the golden files are, and how close they have to be met."""

import os
import pathlib

import numpy as np

FOLDER = pathlib.Path(os.environ.get("LLMESR_GOLDEN", pathlib.Path(__file__).parents[1] / "../shared/golden"))
FILES = sorted(FOLDER.glob("llmesr_*.npz"))


def assert_met(ours, golden, what):
    """max|ours - golden| <= 1e-6 max|golden| + 1e-12: how close is met, per array."""
    ours, golden = np.asarray(ours), np.asarray(golden)
    assert ours.shape == golden.shape, what
    assert np.abs(ours - golden).max() <= 1e-6 * np.abs(golden).max() + 1e-12, what
