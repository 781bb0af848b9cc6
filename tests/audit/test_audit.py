"""The audit's numbers, counted by hand."""

import pickle
from pathlib import Path

import numpy as np
import order_data
import pytest
from audit_data import DAY, codes, plain, write

from llmesr_jax.audit import audit, content
from llmesr_jax.data import (
    corpus,
    handled,
    splits,
)


@pytest.fixture(scope="module")
def small():
    """Three users. Days: 1 1 2 | 1 2 2 2 | none known, 3."""
    users = [1, 1, 1, 2, 2, 2, 2, 3, 3, 3]
    items = [1, 2, 3, 2, 4, 1, 4, 1, 3, 1]
    days = [1, 1, 2, 1, 2, 2, 2, None, None, 3]
    times = np.array([splits.UNKNOWN if day is None else day * DAY for day in days])
    return audit.of_corpus(corpus.from_pairs("hand", np.array(users), np.array(items), times=times)).facts


def test_counts_by_hand(small):
    assert small["counts"] == {
        "users": 3,
        "items": 4,
        "interactions": 10,
        "sparsity": pytest.approx(1 - 10 / 12),
        "mean_length": pytest.approx(10 / 3),
        "test_users": 3,
    }
    assert small["times"] == {
        "known": 0.8,
        "first": "1970-01-02",
        "last": "1970-01-04",
        "whole_days": True,
        "out_of_order": 0,
    }


def test_repeats_by_hand(small):
    """User 2 meets 4, 1, 4 on one day: a duplicate and a repeated test item; user 3 meets 1, 3, 1."""
    assert small["repeats"] == {
        "valid": 0,
        "valid_share": 0.0,
        "test": 2,
        "test_share": pytest.approx(2 / 3),
        "immediate": 0,
        "exact_duplicates": 1,
        "duplicate_targets": 1,
    }


def test_ties_by_hand(small):
    """Neighbours with known times: 2 of user 1, 3 of user 2; 1 and 2 of them have the same time."""
    assert small["ties"] == {
        "pairs": 5,
        "same_time": 3,
        "share": 0.6,
        "target_users": 2,
        "target_same_time": 1,
        "target_same_time_share": 0.5,
        "target_same_day": 1,
        "target_same_day_share": 0.5,
    }


def test_order_by_hand(small):
    """Users 1, 2, 3 meet items 1, 2, 3, 4 for the first time in this order, so first appearances say nothing."""
    assert small["order"]["by_appearance"]
    # Without first appearances: user 2 keeps 2, 1, 4 (down, up), user 3 keeps 1, 3, 1 (up, down).
    assert small["order"]["neighbours"]["pairs"] == 4 and small["order"]["neighbours"]["ascending"] == 2
    # Within a day, without 4, which stands twice, and first appearances, nothing is left to compare.
    assert small["order"]["ties"]["pairs"] == 0


def test_targets_and_groups_by_hand(small):
    """Training: user 1 has 1; user 2 has 2 4; user 3 has 1. Test items: 3, 4, 1; 3 is never trained."""
    assert small["targets"] == {
        "split": "leave_one_out",
        "test": 3,
        "never_trained": 1,
        "never_trained_share": pytest.approx(1 / 3),
        "items_never_trained": 1,
    }
    assert (small["groups"]["head_items"], small["groups"]["tail_items"]) == (0, 4)
    assert small["concentration"]["top_item_share"] == 0.4 and small["concentration"]["top_user_share"] == 0.4


def test_histograms_by_hand(small):
    assert small["user_length"] == [{"low": 3, "high": 3, "count": 2}, {"low": 4, "high": 4, "count": 1}]
    assert audit.histogram(np.array([5, 9, 10, 250_000])) == [
        {"low": 5, "high": 9, "count": 2},
        {"low": 10, "high": 19, "count": 1},
        *(
            {"low": a, "high": b - 1, "count": 0}
            for a, b in zip((20, 50, 100, 200, 500, 1_000), (50, 100, 200, 500, 1_000, 10_000))
        ),
        {"low": 10_000, "high": 99_999, "count": 0},
        {"low": 100_000, "high": None, "count": 1},
    ]


def test_duplicates_that_do_not_lie_together():
    items, users = np.array([7, 8, 7, 7, 7]), np.array([0, 0, 0, 0, 1])
    assert audit.duplicates(items, users, np.array([5, 5, 5, 6, 5])).tolist() == [False, False, True, False, False]
    assert audit.duplicates(items, users, np.array([5, 9, 6, 5, 5])).tolist() == [False, False, False, True, False]
    unknown = np.full(5, splits.UNKNOWN)
    assert not audit.duplicates(items, users, unknown).any()


def test_texts_are_counted_by_hand(tmp_path):
    items, users = plain(600, 300)
    titles = ["Blue mug" if i < 40 else "" if i < 60 else f"thing {i}" for i in range(300)]
    found = write(tmp_path, items, users, records=[{"item_id": i + 1, "title": t} for i, t in enumerate(titles)])
    assert found.facts["texts"] == {
        "items_without_title": 20,
        "items_without_text": 20,
        "different": 241,
        "items_sharing": 40,
        "largest_group": 40,
    }
    assert codes(found) == ["no_text", "one_text"]


def test_vectors_are_counted_by_hand(tmp_path):
    items, users = plain(600, 300)
    array = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float16)
    array[:3] = 0
    array[10:30] = array[10]
    tmp_path.joinpath("items").mkdir()
    np.save(tmp_path / "items" / "item_emb.npy", array)
    records = [{"item_id": i + 1, "title": "" if i < 1 else f"thing {i}"} for i in range(300)]
    found = write(tmp_path / "items", items, users, records=records)
    assert found.facts["vectors"]["items"] == {
        "file": "item_emb.npy",
        "rows": 300,
        "zero": 3,
        "zero_with_text": 2,
        "identical": 20,
        "identical_with_other_text": 20,
        "largest_group": 20,
    }
    assert codes(found) == ["zeros", "alike"] and found.facts["vectors"]["users"] is None


def test_texts_are_those_that_are_embedded(tmp_path):
    """A field with another code for each item, which item prompts leave out."""
    array = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    array[:40] = array[0]
    np.save(tmp_path / "item_emb.npy", array)
    titles = ["Blue mug" if i < 40 else f"thing {i}" for i in range(300)]
    records = [{"item_id": i + 1, "title": t, "model": f"BM{i:03d}"} for i, t in enumerate(titles)]
    found = write(tmp_path, *plain(600, 300), records=records)
    assert (found.facts["texts"]["different"], found.facts["texts"]["items_sharing"]) == (261, 40)
    assert codes(found) == ["one_text"] and found.facts["vectors"]["items"]["identical_with_other_text"] == 0


def test_vectors_of_any_length_are_read_block_by_block(monkeypatch):
    array = np.arange(20.0).reshape(10, 2)
    array[[0, 9]] = 5
    monkeypatch.setattr(content, "_BLOCK", 3)
    assert content.vectors_of(array)["identical"] == 2 and content.vectors_of(array)["largest_group"] == 2


def test_the_authors_folder(tmp_path):
    items, users = plain(400, 50)
    write(tmp_path / "handled", items, users)
    for name, rows in (("item_llm", 50), ("user_llm", 400)):
        array = np.random.default_rng(rows).normal(size=(rows, 4))
        array[0] = 0
        (tmp_path / "handled" / handled.FILES[name]).write_bytes(pickle.dumps(array))
    found = audit.of_folder("mine", tmp_path)
    assert found.facts["vectors"]["items"]["file"] == "itm_emb_np.pkl"
    assert [found.facts["vectors"][kind]["zero"] for kind in ("items", "users")] == [1, 1]


def test_all_json_keys_are_documented(tmp_path):
    items, users, days = order_data.by_days(400, 60, 5)
    np.save(tmp_path / "item_emb.npy", np.eye(60, dtype=np.float32))
    records = [{"item_id": i + 1, "title": f"thing {i}"} for i in range(60)]
    found = write(tmp_path, items, users, days * DAY, records=records)
    documented = (Path(audit.__file__).parents[2] / "docs" / "data.md").read_text()

    def keys(tree):
        for key, value in tree.items():
            yield key
            yield from keys(value) if isinstance(value, dict) else ()

    assert [key for key in keys(found.as_json()) if not key.isdigit() and f"`{key}`" not in documented] == []
