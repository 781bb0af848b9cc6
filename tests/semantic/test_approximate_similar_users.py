"""Similar users by a graph: against exact search, with a stand-in for the graph and with the real ones."""

import numpy as np
import pytest

from llmesr_jax.core import graphs
from llmesr_jax.semantic import approximate_similar_users
from llmesr_jax.semantic.similar_users import similar_users

USERS = np.random.default_rng(0).normal(size=(300, 12)).astype(np.float32)
USERS[[5, 17]] = 0
AMONG = np.arange(300) % 7 != 0


def perfect(kind, vectors):
    """A graph that finds the best."""
    return lambda queries, count: np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :count]


@pytest.mark.parametrize("among", [None, AMONG])
def test_a_graph_that_finds_all_gives_exact_search(monkeypatch, among):
    monkeypatch.setattr(graphs, "build", perfect)
    found, recall = approximate_similar_users.similar_users(USERS, 10, "faiss", among)
    np.testing.assert_array_equal(found, similar_users(USERS, 10, among_U=among))
    assert recall == 1 and found.dtype == np.int32


def test_those_for_whom_the_graph_finds_too_few_get_exact_search_and_recall_counts_what_is_missed(monkeypatch):
    def lame(kind, vectors):
        def find(queries, count):
            found = perfect(kind, vectors)(queries, count)
            found[::2, 3:] = -1  # too few
            found[1::2, -3:] = np.arange(3)  # all but two or three of them wrong
            return found

        return find

    monkeypatch.setattr(graphs, "build", lame)
    found, recall = approximate_similar_users.similar_users(USERS, 10, "faiss")
    exact = similar_users(USERS, 10)
    same = (found == exact).all(axis=1)
    assert same[np.setdiff1d(np.arange(300), [5, 17])[::2]].all()
    hits = [len(set(f) & set(e)) / 10 for f, e in zip(found, exact) if e[0] >= 0]
    assert recall == pytest.approx(np.mean(hits), abs=0.02) and 0.8 < recall < 0.95


@pytest.mark.parametrize("kind", graphs.KINDS[1:])
def test_real_graphs_find_most(kind):
    pytest.importorskip(kind)
    found, recall = approximate_similar_users.similar_users(USERS, 10, kind, AMONG)
    assert recall > 0.95 and (found[[5, 17]] == -1).all() and AMONG[found[found >= 0]].all()
    assert not (found == np.arange(300)[:, None]).any()
