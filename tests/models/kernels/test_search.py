"""How many of an ascending run are at most x: both searches against counting."""

import jax
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from llmesr_jax.models.kernels import search

RUNS, PLACES = 4, 700


@pytest.mark.parametrize("most, whole", [(3, True), (16, True), (300, True), (300, False)])
def test_both_searches_count(most, whole):
    found = jax.jit(search.at_most, static_argnums=(4, 5))

    @settings(max_examples=20)
    @given(st.integers(0, 2**32 - 1))
    def check(seed):
        rng = np.random.default_rng(seed)
        values = rng.integers(0, 40, PLACES)
        start = rng.integers(0, PLACES - most, (RUNS, 3))
        count = rng.integers(0, most + 1, (RUNS, 3))
        count.flat[:2] = 0, most
        for a, n in zip(start.flat, count.flat):  # runs may overlap, so each is put in order as it is looked at
            run, x = np.sort(values[a : a + n]), rng.integers(-2, 42)
            laid = np.concatenate([values[:a], run, values[a + n :]])
            ours = found(*map(tiny.ints, (laid, [a], [n], [x])), most, whole)
            assert ours.tolist() == [np.count_nonzero(run <= x)]

    check()
