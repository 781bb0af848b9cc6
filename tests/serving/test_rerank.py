"""Lists with enough tail items, and lists of items that are unlike each other."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmesr_jax.serving import rerank
from llmesr_jax.serving.index import Top

NEG = -np.inf


def pool(rows, scores):
    return Top(np.array([rows], np.int64), np.array([scores], np.float32))


def choose(found, k, tail, share=0.0, diversity=0.0, vectors=None):
    tail_V = np.zeros(20, bool)
    tail_V[tail] = True
    chosen = rerank.choose(found, k, tail_V=tail_V, tail_share=share, diversity=diversity, vectors_VxF=vectors)
    return chosen.rows_BxK[0].tolist(), chosen.scores_BxK[0].tolist()


def test_the_worst_head_items_make_room_for_tail_items():
    found = pool([3, 1, 4, 7, 9], [5.0, 4.0, 3.0, 2.0, 1.0])
    assert choose(found, 3, [7, 9]) == ([3, 1, 4], [5.0, 4.0, 3.0])
    assert choose(found, 3, [7, 9], share=0.34) == ([3, 7, 9], [5.0, 2.0, 1.0])
    assert choose(found, 3, [7, 9], share=0.3) == ([3, 1, 7], [5.0, 4.0, 2.0])
    assert choose(found, 4, [3], share=1.0) == ([3, 1, 4, 7], [5.0, 4.0, 3.0, 2.0])  # there is one only


@given(st.integers(0, 10**6), st.integers(1, 5), st.sampled_from([0.0, 0.2, 0.5, 1.0]))
def test_no_list_with_enough_tail_items_has_a_higher_sum(seed, k, share):
    rng = np.random.default_rng(seed)
    scores = np.sort(rng.integers(0, 9, 7).astype(np.float32))[::-1]
    tail = np.flatnonzero(rng.random(7) < 0.4)
    rows, found = choose(pool(list(range(7)), scores), k, tail, share)
    enough = min(rerank.least_tail(share, k), len(tail))
    best = max(
        sum(scores[list(some)])
        for some in itertools.combinations(range(7), k)
        if len(set(some) & set(tail.tolist())) >= enough
    )
    assert sum(found) == best and len(set(rows)) == k and found == sorted(found, reverse=True)


def test_maximal_marginal_relevance_by_hand():
    # Relevance by range: 1, .75, 0. Item 1 is a twin of item 0; item 2 is at a right angle to both.
    vectors = np.zeros((20, 2))
    vectors[[0, 1, 2]] = [[2, 0], [5, 0], [0, 1]]
    found = pool([0, 1, 2], [9.0, 8.0, 5.0])
    # d = .5: item 1 has .5 * .75 - .5 * 1 = -.125, item 2 has 0; d = .4: .6 * .75 - .4 = .05 against 0.
    assert choose(found, 3, [], diversity=0.5, vectors=vectors)[0] == [0, 2, 1]
    assert choose(found, 3, [], diversity=0.4, vectors=vectors)[0] == [0, 1, 2]
    assert choose(found, 2, [1], share=0.5, diversity=0.5, vectors=vectors)[0] == [0, 1]


def test_a_pool_that_runs_out():
    assert choose(pool([5, -1, -1], [1.0, NEG, NEG]), 3, []) == ([5, -1, -1], [1.0, NEG, NEG])
    assert choose(pool([5, -1], [1.0, NEG]), 2, [], diversity=0.3, vectors=np.ones((20, 2)))[0] == [5, -1]


@pytest.mark.filterwarnings("error")
def test_a_pool_that_runs_out_with_full_diversity():
    assert choose(pool([5, -1], [1.0, NEG]), 2, [], diversity=1.0, vectors=np.ones((20, 2)))[0] == [5, -1]


def test_two_pools_have_each_item_once():
    both = rerank.merged(pool([1, 2], [5.0, 4.0]), pool([2, 3], [4.0, 1.0]))
    assert both.rows_BxK.tolist() == [[1, 2, -1, 3]]
    assert both.scores_BxK.tolist() == [[5.0, 4.0, NEG, 1.0]]


def test_shares_that_floats_make_a_little_too_large():
    assert [rerank.least_tail(share, 10) for share in (0.3, 0.31, 0.7, 0, 1)] == [3, 4, 7, 0, 10]
