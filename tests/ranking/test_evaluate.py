"""A whole evaluation against a plain loop, chance, perfection, and groups by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.corpus import from_pairs
from llmesr_jax.ranking import evaluate, metrics
from llmesr_jax.ranking.candidates import sample_candidates


def corpus_of(*histories):
    users = np.repeat(np.arange(1, len(histories) + 1), [len(h) for h in histories])
    return from_pairs("test", users, np.concatenate(histories))


def random_corpus(rng, num_users=40, num_items=150, repeats=False):
    histories = [rng.choice(num_items, rng.integers(1, 12), repeats) + 1 for _ in range(num_users)]
    return corpus_of(*histories, list(range(1, num_items + 1)))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["valid", "test"]), st.sampled_from(["hidden", "zero", "shown"]))
def test_both_protocols_against_a_loop(seed, split, seen):
    rng = np.random.default_rng([seed])
    corpus = random_corpus(rng, num_users=6, num_items=12, repeats=seen != "hidden")
    inputs = evaluate.inputs(corpus, split, seen=seen)
    users = rng.integers(-1, 2, (len(inputs.rows_E), 2)).astype(np.float32)
    items = rng.integers(-1, 2, (12, 2)).astype(np.float32)
    summary, per_user, _ = evaluate.evaluate(users, jnp.asarray(items), inputs, seed=7, lists=True)
    candidates = sample_candidates(corpus, split, 7)

    expected = {"full": [], "sampled": []}
    recommended = set()
    for e, row in enumerate(inputs.rows_E):
        history = corpus.items[corpus.offsets[row] : corpus.offsets[row + 1]].tolist()
        before = history[: -1 if split == "test" else -2]
        target = history[len(before)]
        scores = dict(enumerate((items @ users[e]).tolist(), start=1))
        full = {i: 0.0 if seen == "zero" and i in before else score for i, score in scores.items()}
        if seen == "hidden":
            full = {i: score for i, score in scores.items() if i not in before}
        pools = {"full": full, "sampled": {i: scores[i] for i in {*candidates[e].tolist(), target} - {0}}}
        for protocol, pool in pools.items():
            others = [score for i, score in pool.items() if i != target]
            higher, tied = (sum(c(o, pool[target]) for o in others) for c in (float.__gt__, float.__eq__))
            expected[protocol].append((higher, tied))
        recommended |= set(sorted(full, key=lambda i: (-full[i], i))[:5])
    for protocol, ranks in expected.items():
        assert np.stack(per_user[protocol], axis=1).tolist() == [list(pair) for pair in ranks]
        means = {name: v.mean() for name, v in metrics.from_ranks(*np.array(ranks).T).items()}
        assert summary[protocol]["overall"] == pytest.approx({"count": len(ranks), **means})
    assert summary["full"]["coverage"]["Coverage@5"] == pytest.approx(len(recommended) / 12)


def test_input_of_each_split_is_what_came_before_the_target():
    corpus = corpus_of([2, 1, 2, 3, 5], [3, 4], [4, 4, 1, 2])
    test, valid = evaluate.inputs(corpus, "test"), evaluate.inputs(corpus, "valid")
    assert test.rows_E.tolist() == valid.rows_E.tolist() == [0, 2]
    assert (test.stops_E.tolist(), valid.stops_E.tolist()) == ([4, 3], [3, 2])
    assert (test.targets_E.tolist(), valid.targets_E.tolist()) == ([5, 2], [3, 1])
    assert np.split(test.hidden.items_P, test.hidden.offsets[1:-1])[0].tolist() == [1, 2, 3]
    assert np.split(test.hidden.items_P, test.hidden.offsets[1:-1])[1].tolist() == [1, 4]
    assert np.split(valid.hidden.items_P, valid.hidden.offsets[1:-1])[0].tolist() == [1, 2]
    assert np.split(valid.hidden.items_P, valid.hidden.offsets[1:-1])[1].tolist() == [4]


# User 1 returns to item 1; users 2 to 21 do not return. Items 1 to 7, of which user 1's last input holds 1, 2, 3.
RETURNS = [[1, 2, 3, 1], *([2, 3, 4, 5], [5, 6, 7, 4]) * 10]


def test_what_hiding_seen_items_does_where_the_target_is_one_of_them():
    corpus = corpus_of(*RETURNS)
    items = jnp.arange(7, 0, -1, dtype=jnp.float32)[:, None]  # scores 7 6 5 4 3 2 1
    users = lambda inputs: np.ones((len(inputs.rows_E), 1), np.float32)  # noqa: E731

    def ranks(seen, items=items):
        inputs = evaluate.inputs(corpus, "test", seen=seen)
        found = evaluate.evaluate(users(inputs), items, inputs, seed=0, protocols=("full",))[1]["full"]
        return inputs.repeated, np.stack(found, axis=1).tolist()[:3]

    # Hidden: user 1, one of 21 targets (4.8 %), is left out. 5 of user 2 has 1 above it; 4 of user 3 has 1 2 3.
    assert ranks("hidden") == (1, [[1, 0], [3, 0], [1, 0]])
    # Shown: item 1 of user 1 is the best of all; all others count as they are.
    assert ranks("shown") == (0, [[0, 0], [4, 0], [3, 0]])
    # Zero: item 1 of user 1 has the score 0 like 2 and 3, below 4 5 6 7; user 2's 5 has 1 above, user 3's 4 has 1 2 3.
    assert ranks("zero") == (0, [[4, 2], [1, 0], [3, 0]])
    # With negative scores, what was seen comes first.
    assert ranks("zero", items - 10) == (0, [[0, 2], [4, 0], [6, 0]])


def test_hiding_is_refused_where_many_targets_are_seen_items():
    corpus = corpus_of(*RETURNS[:19])  # 1 of 19: 5.3 %
    with pytest.raises(InputError, match=r"1 of 19 test targets \(5.3%\) .* --config.train.seen_items=shown"):
        evaluate.inputs(corpus, "test")
    assert len(evaluate.inputs(corpus, "test", seen="shown").rows_E) == 19
    assert evaluate.inputs(corpus, "valid").repeated == 0


@pytest.mark.parametrize("split", ["valid", "test"])
@pytest.mark.parametrize("vector", [np.zeros(5), np.array([0.1, -0.7, 0.3, 1.3, 0.01])], ids=["zero", "constant"])
def test_a_constant_model_gets_chance(split, vector):
    rng = np.random.default_rng([1])
    corpus = random_corpus(rng)
    inputs = evaluate.inputs(corpus, split)
    users = rng.normal(size=(len(inputs.rows_E), 5)).astype(np.float32)
    items = jnp.asarray(np.tile(vector, (corpus.num_items, 1)), jnp.float32)
    summary, _, _ = evaluate.evaluate(users, items, inputs, seed=42)
    left = {
        "full": corpus.num_items - inputs.hidden.sizes_U,
        "sampled": 1 + (sample_candidates(corpus, split, 42) > 0).sum(axis=1),
    }
    for protocol, candidates_E in left.items():
        for k in metrics.CUTOFFS:
            chance = np.minimum(k / candidates_E, 1).mean()
            assert summary[protocol]["overall"][f"H@{k}"] == pytest.approx(chance)


def test_a_perfect_model_gets_one():
    corpus = random_corpus(np.random.default_rng([2]))
    inputs = evaluate.inputs(corpus, "test")
    identity = np.eye(corpus.num_items, dtype=np.float32)
    summary, _, _ = evaluate.evaluate(identity[inputs.targets_E - 1], jnp.asarray(identity), inputs, seed=0)
    for protocol in metrics.PROTOCOLS:
        for name in metrics.names():
            assert summary[protocol]["overall"][name] == 1


def test_groups_by_hand():
    # Training counts: item 1 three times, 2 twice, 3 and 5 once; so the head is item 1 of 5 and user 1 of 5.
    corpus = corpus_of([1, 2, 3, 4, 1], [1, 4, 5], [1, 5, 4], [2, 4, 1], [5, 3, 2])
    inputs = evaluate.inputs(corpus, "test", seen="shown")  # user 1 returns to item 1
    assert inputs.targets_E.tolist() == [1, 5, 4, 1, 2]
    # Scores fall with the id, so as many items are above a target as have a lower id.
    items = jnp.array([[5.0], [4.0], [3.0], [2.0], [1.0]], jnp.float32)
    summary, per_user, _ = evaluate.evaluate(np.ones((5, 1), np.float32), items, inputs, seed=0, protocols=("full",))
    assert set(summary) == set(per_user) == {"full"}
    assert per_user["full"].higher_U.tolist() == [0, 4, 3, 0, 1]
    mrr = {group: (found["count"], found["MRR"]) for group, found in summary["full"].items() if "MRR" in found}
    assert mrr == {
        "overall": (5, pytest.approx((1 + 1 / 5 + 1 / 4 + 1 + 1 / 2) / 5)),
        "head_item": (2, 1.0),
        "tail_item": (3, pytest.approx((1 / 5 + 1 / 4 + 1 / 2) / 3)),
        "head_user": (1, 1.0),
        "tail_user": (4, pytest.approx((1 / 5 + 1 / 4 + 1 + 1 / 2) / 4)),
    }
    assert summary["full"]["user_length"]["1-4"]["count"] == 5
    assert summary["full"]["user_length"]["20+"] == {"count": 0, **dict.fromkeys(metrics.names())}


def test_given_candidates_are_used():
    corpus = corpus_of([1, 2, 3], [3, 4, 5], [5, 1, 2])
    inputs = evaluate.inputs(corpus, "test")
    items = jnp.array([[1.0], [2.0], [3.0], [4.0], [5.0]], jnp.float32)
    candidates = np.array([[4, 5], [1, 2], [1, 3]])
    _, per_user, _ = evaluate.evaluate(
        np.ones((3, 1), np.float32), items, inputs, seed=0, protocols=("sampled",), candidates=candidates
    )
    assert per_user["sampled"].higher_U.tolist() == [2, 0, 1]


def test_coverage_by_hand():
    top = np.zeros((2, 20), np.int32)
    top[0, :7] = [1, 2, 3, 4, 5, 6, 7]
    top[1, :6] = [1, 2, 3, 4, 8, 9]
    tail = np.array([False, False] + [True] * 8)  # ids 3..10
    best = evaluate.best_places(top, 10)
    given = metrics.Lists(best, tail, np.ones(10, int), top)
    assert best.tolist() == [1, 2, 3, 4, 5, 6, 7, 5, 6, 0]
    assert metrics.from_lists(given)["coverage"] == {
        "Coverage@5": 6 / 10,  # 1..5 and 8
        "TailCoverage@5": 4 / 8,  # 3, 4, 5 and 8
        "Coverage@10": 9 / 10,
        "TailCoverage@10": 7 / 8,
        "Coverage@20": 9 / 10,
        "TailCoverage@20": 7 / 8,
    }


def test_stack_keeps_the_nesting():
    first = {"overall": {"MRR": 0.1}, "user_length": {"1-4": {"MRR": None}}}
    second = {"overall": {"MRR": 0.3}, "user_length": {"1-4": {"MRR": None}}}
    assert evaluate.stack([first, second]) == {
        "overall": {"MRR": [0.1, 0.3]},
        "user_length": {"1-4": {"MRR": [None, None]}},
    }


def stacked(*hits):
    groups = ("overall", "tail_item", "head_item", "tail_user", "head_user")
    return {"full": {group: {"H@10": list(hits), "N@10": [h / 2 if h else h for h in hits]} for group in groups}}


def test_table_of_one_seed_is_one_block():
    lines = evaluate.results_table({"none": stacked(0.125), "llmesr": stacked(None)}, width=110).splitlines()
    assert lines[0].split("  ")[0] == "full" and lines[1].split() == ["H@10", "N@10"] * 5
    assert lines[2].split() == ["none", *["0.1250", "0.0625"] * 5]
    assert lines[3].split() == ["llmesr", *["-"] * 10]
    assert max(map(len, lines)) <= 110


def test_table_of_several_seeds_has_deviations_and_fits():
    table = evaluate.results_table({"llmesr": stacked(0.1, 0.2, 0.3)})
    first, second = table.split("\n\n")
    assert first.splitlines()[0].startswith("full H@10") and second.splitlines()[0].startswith("full N@10")
    # Deviation of a sample: sqrt((0.01 + 0 + 0.01) / 2) = 0.1.
    assert first.splitlines()[1].split() == ["llmesr", *["0.2000±.1000"] * 5]
    assert max(map(len, table.splitlines())) <= 80


def test_a_table_fits_a_terminal():
    """Of one seed too: 80 columns are too few for both metrics side by side."""
    table = evaluate.results_table({"none": stacked(0.125), "llmesr": stacked(None)})
    assert [block.splitlines()[0].split("  ")[0] for block in table.split("\n\n")] == ["full H@10", "full N@10"]
    assert max(map(len, table.splitlines())) <= 80


def test_an_unknown_protocol_is_an_error():
    inputs = evaluate.inputs(corpus_of([1, 2, 3]), "test")
    with pytest.raises(ValueError, match="'half' is not known; expected one of: full, sampled"):
        evaluate.evaluate(np.ones((1, 1)), jnp.ones((3, 1)), inputs, seed=0, protocols=("half",))
