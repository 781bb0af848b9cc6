"""Metrics against hand arithmetic, and against the mean over every order of the tied candidates."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmesr_jax.ranking import evaluate, metrics


def of(higher: int, tied: int) -> dict[str, float]:
    return {name: float(value[0]) for name, value in metrics.from_ranks(np.array([higher]), np.array([tied])).items()}


def test_first_rank_is_perfect():
    assert of(0, 0) == {name: 1.0 for name in metrics.names()}


def test_third_rank_without_ties():
    assert of(2, 0) == pytest.approx(
        {"H@5": 1, "H@10": 1, "H@20": 1, "N@5": 0.5, "N@10": 0.5, "N@20": 0.5, "MRR": 1 / 3}
    )


def test_ties_across_a_cutoff():
    # 4 above and 3 tied: ranks 5, 6, 7, 8 are equally likely, and only the first is within 5.
    expected = of(4, 3)
    assert expected["H@5"] == 1 / 4
    assert expected["H@10"] == 1
    assert expected["N@5"] == pytest.approx(1 / np.log2(6) / 4)
    assert expected["N@10"] == pytest.approx(sum(1 / np.log2(rank + 1) for rank in (5, 6, 7, 8)) / 4)
    assert expected["MRR"] == pytest.approx((1 / 5 + 1 / 6 + 1 / 7 + 1 / 8) / 4)


def test_beyond_every_cutoff_only_mrr_is_left():
    found = of(20, 5)
    assert found.pop("MRR") == pytest.approx(np.mean(1 / np.arange(21, 27)))
    assert set(found.values()) == {0.0}


@given(higher=st.integers(0, 7), tied=st.integers(0, 4))
def test_equals_the_mean_over_all_orders_of_the_ties(higher, tied):
    ranks = np.array([higher + order.index("target") for order in itertools.permutations(["target", *range(tied)])])
    expected = {f"H@{k}": np.mean(ranks < k) for k in (5, 10, 20)}
    expected |= {f"N@{k}": np.mean(np.where(ranks < k, 1 / np.log2(ranks + 2), 0)) for k in (5, 10, 20)}
    expected["MRR"] = np.mean(1 / (ranks + 1))
    assert of(higher, tied) == pytest.approx(expected, rel=1e-12)


@given(st.lists(st.tuples(st.integers(0, 60_000), st.integers(0, 60_000)), min_size=1, max_size=20))
def test_bounds_and_order(ranks):
    found = metrics.from_ranks(*np.array(ranks).T)
    assert tuple(found) == metrics.names()
    for k in metrics.CUTOFFS:
        assert (found[f"N@{k}"] <= found[f"H@{k}"] + 1e-12).all()
    for name in metrics.names():
        assert ((found[name] >= -1e-12) & (found[name] <= 1 + 1e-12)).all()
    for kind in "HN":
        assert (found[f"{kind}@5"] <= found[f"{kind}@10"] + 1e-12).all()
        assert (found[f"{kind}@10"] <= found[f"{kind}@20"] + 1e-12).all()


@pytest.mark.parametrize("candidates", [6, 101, 12_101])
def test_all_tied_is_chance(candidates):
    found = of(0, candidates - 1)
    for k in metrics.CUTOFFS:
        within = min(k, candidates)
        assert found[f"H@{k}"] == pytest.approx(within / candidates)
        assert found[f"N@{k}"] == pytest.approx(sum(1 / np.log2(r + 2) for r in range(within)) / candidates)
    assert found["MRR"] == pytest.approx(np.mean(1 / np.arange(1, candidates + 1)))


def test_a_far_rank_keeps_its_precision():
    assert of(60_000, 0)["MRR"] == pytest.approx(1 / 60_001, rel=1e-9)


def test_summarise_means_over_groups_and_none_over_nobody():
    per_user = {"H@10": np.array([1.0, 0.0, 0.5]), "MRR": np.array([0.5, 0.25, 0.0])}
    members = {
        "overall": np.array([True, True, True]),
        "user_length": {"1-4": np.array([True, False, True]), "5-9": np.zeros(3, bool)},
    }
    assert metrics.summarise(per_user, members) == {
        "overall": {"count": 3, "H@10": 0.5, "MRR": 0.25},
        "user_length": {
            "1-4": {"count": 2, "H@10": 0.75, "MRR": 0.25},
            "5-9": {"count": 0, "H@10": None, "MRR": None},
        },
    }


OF_RANKS = [name for name in metrics.PLUGINS.names() if metrics.PLUGINS.load(name).FROM == "ranks"]


@pytest.mark.parametrize("name", OF_RANKS)
def test_a_metric_is_the_mean_over_all_orders_of_the_ties_and_larger_for_a_better_rank(name):
    module = metrics.PLUGINS.load(name)
    places = np.arange(40)
    alone = module.values(places, np.zeros(40, int))
    assert alone.keys() == set(module.NAMES)
    for metric in module.NAMES:
        assert alone[metric].shape == (40,) and (np.diff(alone[metric]) <= 1e-12).all() and alone[metric][0] == 1
        for higher, tied in ((0, 3), (4, 2), (18, 7), (30, 0)):
            mean = np.mean(alone[metric][higher : higher + tied + 1])
            found = module.values(np.array([higher]), np.array([tied]))[metric]
            assert found[0] == pytest.approx(mean, abs=1e-12), (metric, higher, tied)


@pytest.mark.parametrize("name", metrics.lists())
def test_a_metric_of_lists_holds_to_its_contract(name):
    module, rng = metrics.lists()[name], np.random.default_rng(3)
    top = np.stack([rng.permutation(60)[:20] + 1 for _ in range(9)])
    tail = rng.random(60) < 0.8
    given = metrics.Lists(evaluate.best_places(top, 60), tail, np.arange(60), top)
    found = module.values(given)
    assert found.keys() == set(module.NAMES) and 1 <= len(module.SHOWN) <= 2 and module.SHOWN.keys() <= found.keys()
    assert all(isinstance(value, float) and 0 <= value <= (1 if module.SHARE else np.inf) for value in found.values())
    assert json.loads(json.dumps(found)) == found
    again = module.values(given._replace(top_ExK=None))
    assert again in ({}, found)
    none = module.values(given._replace(tail_V=np.zeros(60, bool)))
    assert all(value is None or np.isfinite(value) for value in none.values())
