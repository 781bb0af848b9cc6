"""Search by a graph: what is hidden or not allowed is left out, and recall is counted; with a stand-in, and for real."""

import numpy as np
import pytest

from llmesr_jax.core import graphs
from llmesr_jax.core.errors import InputError
from llmesr_jax.serving import approximate, index
from llmesr_jax.serving.index import Hidden


def case(users=40, items=500, width=16):
    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=(n, width)).astype(np.float32) for n in (users, items)]
    return *vectors, Hidden(np.repeat(np.arange(users), 8), rng.integers(0, items, users * 8))


def searched(find, users, items, k, hidden, allowed=None):
    def exact(of, hidden):
        return index.search(of, items, k, hidden, allowed)

    return approximate.search(find, exact, users, items, k, hidden, allowed), exact(users, hidden)


def perfect(items):
    """A graph that finds the best items."""
    return lambda users, count: np.argsort(-(users @ items.T), axis=1)[:, :count]


def test_a_perfect_graph_is_exact_search():
    users, items, hidden = case()
    for allowed in (None, np.arange(500) % 3 == 0, np.arange(500) < 3):
        found, wanted = searched(perfect(items), users, items, 5, hidden, allowed)
        np.testing.assert_array_equal(found.rows_BxK, wanted.rows_BxK)
        assert approximate.recall(found.rows_BxK, wanted.rows_BxK) == 1


def test_recall_by_hand():
    found, wanted = np.array([[1, 2, 3], [4, -1, -1]]), np.array([[1, 9, 2], [4, 5, -1]])
    assert approximate.recall(found, wanted) == 3 / 5


@pytest.mark.parametrize("kind", ["faiss", "usearch"])
def test_graphs_find_most(kind):
    pytest.importorskip(kind)
    users, items, hidden = case()
    found, wanted = searched(approximate.build(kind, items), users, items, 5, hidden)
    assert approximate.recall(found.rows_BxK, wanted.rows_BxK) > 0.9
    pairs = set(zip(hidden.rows_P.tolist(), hidden.columns_P.tolist()))
    assert not {(u, row) for u, rows in enumerate(found.rows_BxK.tolist()) for row in rows} & pairs


def test_kinds_that_are_not_there(monkeypatch):
    with pytest.raises(InputError, match="index='annoy': is not known; expected one of: exact, faiss, usearch"):
        approximate.build("annoy", np.ones((2, 2)))

    def absent(_):
        raise ImportError("no such package")

    monkeypatch.setattr(graphs, "_faiss", absent)
    with pytest.raises(InputError, match=r"needs the package faiss; run pip install 'llmesr-jax\[faiss\]'"):
        approximate.build("faiss", np.ones((2, 2)))
