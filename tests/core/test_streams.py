"""Every use of a seed on the host draws from a stream of its own."""

import itertools

import numpy as np
import pytest
import tiny

from llmesr_jax.core.streams import stream
from llmesr_jax.data import splits
from llmesr_jax.ranking import layout
from llmesr_jax.ranking.candidates import sample_candidates
from llmesr_jax.semantic import stand_ins

CORPUS = tiny.ragged(3)
default_rng = np.random.default_rng


def start(rng):
    return str(rng.bit_generator.state["state"])


@pytest.fixture
def states(monkeypatch):
    """The starting states of all generators made during a test."""
    found = []

    def noted(entropy):
        rng = default_rng(entropy)
        found.append(start(rng))
        return rng

    monkeypatch.setattr(np.random, "default_rng", noted)
    return found


def test_uses_of_one_seed_share_no_stream(states):
    """Candidates of both splits, orders of three epochs, ties and noise: all from seed 1, all different.

    `default_rng([s, 1])` equals `default_rng([s, 1, 0])`: epoch 1's order was the test candidates' stream.
    """
    free = np.zeros((50, 0), np.int32), np.zeros(0, np.int64)
    sample_candidates(CORPUS, "valid", 1)
    sample_candidates(CORPUS, "test", 1)
    for epoch in (0, 1, 2):
        layout.draw_order(1, epoch, 8, *free)
    assert len(states) == 5 and len(set(states)) == 5
    splits.shuffle_ties(np.array([0, 3]), np.array([5, 5, 6]), None, 1)
    for kind in ("items", "users"):
        stand_ins.random(3, 4, 1, kind)
    assert len(states) == 8 and len(set(states)) == 8


def test_the_candidates_stream_is_that_of_finished_runs(states):
    sample_candidates(CORPUS, "test", 7)
    assert states == [start(default_rng([7, 1]))]


def test_a_stream_is_told_by_its_name_its_numbers_their_order_and_their_count():
    uses = [("a", ()), ("a", (0,)), ("a", (0, 0)), ("a", (1, 0)), ("a", (0, 1)), ("a", (1,)), ("a", (2**32 + 1,))]
    uses += [("a", (10,)), ("a1", (0,)), ("b", (0,)), ("a", (2**70,))]
    first = {use: stream(use[0], *use[1]).integers(2**63) for use in uses}
    assert len(set(first.values())) == len(uses)
    assert stream("a", np.int32(1)).integers(2**63) == first["a", (1,)]


def test_a_stream_stays_the_same_from_version_to_version():
    """Orders of epochs follow from it; a run that is continued wants the rest of them."""
    assert stream("order", 42, 1, 0).integers(1000, size=4).tolist() == [299, 794, 20, 396]


def test_epochs_of_one_seed_have_different_orders():
    free = np.zeros((50, 0), np.int32), np.zeros(0, np.int64)
    orders = [layout.draw_order(s, e, 8, *free).tobytes() for s, e in itertools.product((0, 1, 2), (1, 2, 3))]
    assert len(set(orders)) == 9
