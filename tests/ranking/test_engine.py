"""Ranks against a plain loop over users and items, on integer vectors so that ties are exact."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmesr_jax.data.corpus import from_pairs
from llmesr_jax.ranking import engine
from llmesr_jax.ranking.candidates import sample_candidates


def corpus_of(histories, num_items):
    """A corpus from lists of item ids; one more user has met every item, so that no id is missing."""
    histories = [*histories, list(range(1, num_items + 1))]
    users = np.repeat(np.arange(1, len(histories) + 1), [len(h) for h in histories])
    return from_pairs("test", users, np.concatenate(histories))


def sets_of(sets) -> engine.ItemSets:
    flat = np.array([item for s in sets for item in sorted(s)], np.int32)
    return engine.ItemSets(flat, np.cumsum([0, *map(len, sets)]))


def slow_ranks(scores, target, candidates):
    own, others = scores[target - 1], [scores[i - 1] for i in candidates if i != target]
    return sum(s > own for s in others), sum(s == own for s in others)


@st.composite
def problems(draw):
    num_users, num_items = draw(st.sampled_from([1, 5])), draw(st.sampled_from([2, 9]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    users, items = rng.integers(-1, 2, (num_users, 3)), rng.integers(-1, 2, (num_items, 3))
    targets = rng.integers(1, num_items + 1, num_users)
    chosen = rng.random((num_users, num_items)) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    hidden = [set(np.flatnonzero(row) + 1) - {target} for row, target in zip(chosen, targets)]
    return users.astype(np.float32), items.astype(np.float32), targets, hidden


@pytest.fixture(params=[2, 1 << 20], ids=["two users a block", "one block"])
def block_rows(request, monkeypatch):
    monkeypatch.setattr(engine, "_block_rows", lambda count, row_bytes: min(count, request.param))


@pytest.mark.parametrize("zero_hidden", [False, True])
def test_items_in_blocks_of_devices_rank_as_they_do_together(zero_hidden):
    """Rows behind the items, which fill the last block, are no candidates, whatever they hold."""

    @settings(max_examples=10, deadline=None)
    @given(problems(), st.sampled_from([0.0, 9.0, np.nan]))
    def check(problem, behind):
        users, items, targets, hidden = problem
        filled = np.pad(items, ((0, -len(items) % 4), (0, 0)), constant_values=behind)
        options = {"top": 4, "zero_hidden": zero_hidden}
        whole = engine.full_ranks(users, jnp.asarray(items), targets, sets_of(hidden), **options)
        split = engine.SplitItems(len(items), 4)
        blocks = engine.full_ranks(users, jnp.asarray(filled), targets, sets_of(hidden), split=split, **options)
        np.testing.assert_array_equal(blocks[0].higher_U, whole[0].higher_U)
        np.testing.assert_array_equal(blocks[0].tied_U, whole[0].tied_U)
        np.testing.assert_array_equal(blocks[1], whole[1])

    check()


@pytest.mark.parametrize("behind", [9.0, np.nan])
def test_candidates_in_blocks_of_devices_rank_as_they_do_together(behind):
    """11 items in 4 blocks, many scores equal; one vector has a NaN."""
    rng = np.random.default_rng(3)
    users, items = rng.integers(-2, 3, (12, 2)).astype(np.float32), rng.integers(-2, 3, (11, 2)).astype(np.float32)
    items[5, 0] = np.nan
    targets = rng.integers(1, 12, 12)
    candidates = (targets[:, None] + np.arange(1, 7)) % 11 + 1
    candidates[:4, 3:] = 0  # fewer candidates
    filled = np.pad(items, ((0, 1), (0, 0)), constant_values=behind)
    alone = engine.sampled_ranks(users, jnp.asarray(items), targets, candidates)
    split = engine.SplitItems(len(items), 4)
    blocks = engine.sampled_ranks(users, jnp.asarray(filled), targets, candidates, split=split)
    np.testing.assert_array_equal(blocks, alone)


@pytest.mark.usefixtures("block_rows")
def test_full_ranks_and_top_against_a_loop():
    @settings(max_examples=20, deadline=None)
    @given(problems())
    def check(problem):
        users, items, targets, hidden = problem
        ranks, top = engine.full_ranks(users, jnp.asarray(items), targets, sets_of(hidden), top=4)
        for u, scores in enumerate(users @ items.T):
            shown = [i for i in range(1, len(items) + 1) if i not in hidden[u]]
            assert (int(ranks.higher_U[u]), int(ranks.tied_U[u])) == slow_ranks(scores, targets[u], shown)
            best = sorted(shown, key=lambda i: (-scores[i - 1], i))[:4]
            assert top[u].tolist() == best + [0] * (4 - len(best))
        assert (engine.top_k(users, jnp.asarray(items), 4, sets_of(hidden)) == top).all()

    check()


@pytest.mark.usefixtures("block_rows")
def test_hidden_items_with_the_score_0_against_a_loop():
    """As FAERec's release ranks: a seen item stands above every unseen one with a negative score."""

    @settings(max_examples=20, deadline=None)
    @given(problems())
    def check(problem):
        users, items, targets, hidden = problem
        ranks, top = engine.full_ranks(users, jnp.asarray(items), targets, sets_of(hidden), top=4, zero_hidden=True)
        every = range(1, len(items) + 1)
        for u, scores in enumerate(users @ items.T):
            scores[[i - 1 for i in hidden[u]]] = 0
            assert (int(ranks.higher_U[u]), int(ranks.tied_U[u])) == slow_ranks(scores, targets[u], every)
            best = sorted(every, key=lambda i: (-scores[i - 1], i))[:4]
            assert top[u].tolist() == best + [0] * (4 - len(best))

    check()


@pytest.mark.usefixtures("block_rows")
def test_sampled_ranks_against_a_loop():
    @settings(max_examples=20, deadline=None)
    @given(problems())
    def check(problem):
        users, items, targets, hidden = problem
        candidates = np.zeros((len(users), len(items)), np.int32)
        for row, chosen in zip(candidates, hidden):
            row[: len(chosen)] = list(chosen)
        ranks = engine.sampled_ranks(users, jnp.asarray(items), targets, candidates)
        for u, scores in enumerate(users @ items.T):
            assert (int(ranks.higher_U[u]), int(ranks.tied_U[u])) == slow_ranks(scores, targets[u], hidden[u])

    check()


def test_equal_item_vectors_tie_exactly_whatever_their_values():
    rng = np.random.default_rng([0])
    users = rng.normal(size=(37, 24)).astype(np.float32)
    items = jnp.asarray(np.tile(rng.normal(size=24), (203, 1)), jnp.float32)
    targets = rng.integers(1, 204, 37)
    nothing = sets_of([set()] * 37)
    others = np.stack([rng.permutation(np.setdiff1d(np.arange(1, 204), target))[:100] for target in targets])
    full, _ = engine.full_ranks(users, items, targets, nothing)
    sampled = engine.sampled_ranks(users, items, targets, others)
    assert not full.higher_U.any() and (full.tied_U == 202).all()
    assert not sampled.higher_U.any() and (sampled.tied_U == 100).all()


def test_nan_never_ranks_well():
    users, hidden = np.ones((3, 1), np.float32), sets_of([{2}, set(), set()])
    items = jnp.array([[jnp.nan], [1.0], [2.0], [3.0]], jnp.float32)
    # Targets: NaN itself with one item hidden; the best, and the worst, below a NaN.
    ranks, top = engine.full_ranks(users, items, np.array([1, 4, 2]), hidden, top=4)
    assert ranks.higher_U.tolist() == [2, 1, 3]
    assert ranks.tied_U.tolist() == [0, 0, 0]
    assert top.tolist() == [[4, 3, 0, 0], [4, 3, 2, 0], [4, 3, 2, 0]]
    candidates = np.array([[2, 4, 0], [1, 0, 0], [1, 3, 4]])
    ranks = engine.sampled_ranks(users, items, np.array([1, 4, 2]), candidates)
    assert ranks.higher_U.tolist() == [2, 1, 3]
    assert ranks.tied_U.tolist() == [0, 0, 0]


def test_more_asked_for_than_there_are_items():
    ids = engine.top_k(np.ones((1, 1), np.float32), jnp.array([[1.0], [2.0]], jnp.float32), 5, sets_of([set()]))
    assert ids.tolist() == [[2, 1, 0, 0, 0]]


def test_a_wrong_number_of_rows_is_an_error():
    with pytest.raises(ValueError, match="2 user vectors, but targets has 3 rows"):
        engine.full_ranks(np.ones((2, 1)), jnp.ones((4, 1)), np.ones(3, int), sets_of([set()] * 2))
    with pytest.raises(ValueError, match="2 user vectors, but hidden has 1 rows"):
        engine.full_ranks(np.ones((2, 1)), jnp.ones((4, 1)), np.ones(2, int), sets_of([set()]))
    with pytest.raises(ValueError, match="2 user vectors, but candidates has 1 rows"):
        engine.sampled_ranks(np.ones((2, 1)), jnp.ones((4, 1)), np.ones(2, int), np.ones((1, 3), int))


histories = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=12), min_size=1, max_size=6)


@given(histories, st.randoms(use_true_random=False))
def test_prefix_sets_are_the_distinct_items_of_the_prefix(histories, random):
    corpus = corpus_of(histories, 9)
    rows = sorted(random.sample(range(len(histories)), random.randint(1, len(histories))))
    stops = [random.randint(0, len(histories[row])) for row in rows]
    found = engine.prefix_sets(corpus, np.array(rows), np.array(stops))
    expected = [set(histories[row][:stop]) for row, stop in zip(rows, stops)]
    assert found.items_P.tolist() == [item for s in expected for item in sorted(s)]
    assert found.sizes_U.tolist() == [len(s) for s in expected]


@given(histories, st.integers(1, 12), st.sampled_from(["valid", "test"]))
def test_candidates_are_distinct_and_outside_the_whole_history(histories, count, split):
    corpus = corpus_of(histories, 9)
    candidates = sample_candidates(corpus, split, 42, count)
    evaluated = [h for h in [*histories, list(range(1, 10))] if len(h) >= 3]
    assert candidates.shape == (len(evaluated), count) and candidates.dtype == np.int32
    for row, history in zip(candidates, evaluated):
        unseen = set(range(1, 10)) - set(history)
        real = row[row > 0].tolist()
        assert len(set(real)) == len(real) == min(count, len(unseen))
        assert set(real) <= unseen
        assert not row[len(real) :].any()


def test_candidates_are_uniform():
    num_users, num_items, count = 4_000, 30, 10
    corpus = corpus_of([[3, 17, 30, 17]] * num_users, num_items)
    candidates = sample_candidates(corpus, "test", 0, count)[:num_users]
    unseen = np.setdiff1d(np.arange(1, 31), [3, 17, 30])
    counts = np.bincount(candidates.ravel(), minlength=31)[unseen]
    chance = count / len(unseen)
    deviation = np.sqrt(num_users * chance * (1 - chance))
    assert counts.sum() == num_users * count
    assert (np.abs(counts - num_users * chance) < 4.5 * deviation).all()
    # Pairs too: items 1 and 2 together as often as in a draw without replacement.
    together = ((candidates == 1).any(1) & (candidates == 2).any(1)).mean()
    expected = chance * (count - 1) / (len(unseen) - 1)
    assert abs(together - expected) < 4.5 * np.sqrt(expected * (1 - expected) / num_users)


def test_candidates_are_fixed_by_the_seed():
    corpus = corpus_of([[1, 2, 3]] * 20, 300)
    first = sample_candidates(corpus, "test", 42)
    np.random.default_rng([42]).random(10)
    assert (first == sample_candidates(corpus, "test", 42)).all()
    assert (first != sample_candidates(corpus, "test", 43)).any()
    assert (first != sample_candidates(corpus, "valid", 42)).any()
