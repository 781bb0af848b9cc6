"""The audit's numbers counted by hand, and its warnings where they should be and nowhere else."""

import json
import pickle
from pathlib import Path

import numpy as np
import order_data
import pytest

from llmesr_jax.audit import audit, content
from llmesr_jax.data import (
    corpus,
    handled,
    importers,
    reading,
    splits,
    synthetic,
)

DAY = 86_400


def codes(found):
    return [one.code for one in found.warnings]


def text(found, code):
    return next(one.text for one in found.warnings if one.code == code)


def write(folder, items, users, times=None, records=None, item_ids=None):
    folder.mkdir(parents=True, exist_ok=True)
    ids = np.unique(items, return_inverse=True)[1] + 1 if item_ids is None else items
    np.savetxt(folder / "inter.txt", np.stack([np.asarray(users) + 1, ids], axis=1), fmt="%d")
    if times is not None:
        np.save(folder / "times.npy", np.asarray(times, np.int64))
    if records is not None:
        (folder / "items.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    if item_ids is not None:
        (folder / "item_ids.txt").write_text("".join(f"{i}\n" for i in item_ids))
    return audit.of_folder("mine", folder)


def plain(users=600, items=300, seed=0):
    """8 different items a user at random."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.choice(items, 8, replace=False) for _ in range(users)]), np.repeat(np.arange(users), 8)


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


def test_a_random_order_without_times_has_no_warnings(tmp_path):
    found = write(tmp_path, *plain())
    assert codes(found) == [] and found.facts["times"] is None and found.facts["ties"] is None
    assert audit.describe(found).endswith("\nno warnings")


def test_ids_that_rise_with_time_are_not_warned_of(tmp_path):
    found = write(tmp_path, *order_data.drift(2_000, 300, 0.5, 0.02))
    assert found.facts["order"]["neighbours"]["share"] > 0.8 and "sorted" not in codes(found)


def test_a_sorted_file_is_warned_of(tmp_path):
    items, users = plain()
    found = write(tmp_path, items[np.lexsort((items, users))], users)
    # Sorted, the last item of a user has a high id, which few others train on.
    assert codes(found) == ["sorted", "never_trained"]
    assert "Item ids ascend in 100 % of 4,200 neighbours (chance: 50 %; z = " in text(found, "sorted")


@pytest.mark.parametrize("field", content.RAW_ID_FIELDS)
def test_raw_ids_are_compared_where_records_have_them(tmp_path, field):
    """Ids are drawn at random; the order is that of the raw ids."""
    items, users = plain()
    raw = np.array([f"B{i:05d}" for i in np.random.default_rng(5).permutation(300)])
    place = np.lexsort((raw[items], users))
    records = [{"item_id": i + 1, "title": f"thing {i}", field: raw[i]} for i in range(300)]
    found = write(tmp_path, items[place], users, records=records)
    assert found.facts["order"]["ids"] == field and codes(found)[0] == "sorted"
    assert f"Item ids ({field}) ascend in 100 %" in text(found, "sorted")


def test_item_ids_txt_goes_first_and_numbers_are_numbers(tmp_path):
    items, users = plain()
    raw = np.random.default_rng(5).permutation(300) * 7
    place = np.lexsort((raw[items], users))
    found = write(tmp_path, items[place] + 1, users, item_ids=raw.tolist())
    assert found.facts["order"]["ids"] == "item_ids.txt" and found.facts["order"]["numeric"]
    assert codes(found)[0] == "sorted"


def test_sorted_by_ids_that_are_gone(tmp_path):
    """Items are numbered anew by first appearance, so ids tell nothing; pairs of items do."""
    items, users = order_data.drift(4_000, 100, 0.5, 0.5)
    items = items[np.lexsort((items, users))]
    _, first, which = np.unique(items, return_index=True, return_inverse=True)
    found = write(tmp_path, np.argsort(np.argsort(first))[which.reshape(-1)], users)
    assert found.facts["order"]["by_appearance"] and found.facts["order"]["sorted"] is None
    assert "sorted" in codes(found) and "no pair occurs in both orders" in text(found, "sorted")


def test_days_in_order_of_ids_with_their_times(tmp_path):
    items, users, days = order_data.by_days(600, 300, 5)
    found = write(tmp_path, items, users, 15_000 * DAY + days * DAY)
    ties = found.facts["ties"]
    same = (users[1:] == users[:-1]) & (days[1:] == days[:-1])
    last = days.reshape(600, 8)[:, -2:]
    assert (ties["pairs"], ties["same_time"]) == (600 * 7, int(same.sum()))
    assert ties["target_same_time"] == ties["target_same_day"] == int((last[:, 0] == last[:, 1]).sum())
    assert found.facts["order"]["ties"]["share"] == 1.0
    assert codes(found) == ["sorted_ties", "coarse"]  # where times are known, they decide about the rest
    assert "--config.data.ties=shuffled" in text(found, "sorted_ties") and "whole days" in text(found, "coarse")


def test_days_in_random_order_are_coarse_and_not_sorted(tmp_path):
    items, users, days = order_data.by_days(600, 300, 5)
    place = np.lexsort((np.random.default_rng(0).random(len(items)), days, users))
    found = write(tmp_path, items[place], users, days * DAY + 15_000 * DAY)
    assert codes(found) == ["coarse"] and abs(found.facts["order"]["ties"]["z"]) < 3


def test_times_that_differ_decide_whatever_ids_do(tmp_path):
    items, users = plain()
    found = write(tmp_path, items[np.lexsort((items, users))], users, 10**9 + np.arange(len(users)))
    assert found.facts["order"]["neighbours"]["share"] == 1.0 and "sorted" not in codes(found)


def test_items_that_stand_twice_in_a_tie_do_not_disturb_chance():
    """Few items, met again and again within a day: the z value of a random order stays one of chance."""
    z = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        items = np.minimum(rng.zipf(1.3, 2_400), 100)
        items = np.unique(items, return_inverse=True)[1].reshape(-1) + 1
        raw = [str(i) for i in rng.permutation(int(items.max()))]
        days = np.sort(rng.integers(0, 3, (300, 8)), axis=1).ravel() * DAY
        z.append(audit.order_of(items, np.repeat(np.arange(300), 8), days, raw)["ties"]["z"])
    assert 0.75 < np.std(z) < 1.25 and abs(np.mean(z)) < 0.5


def test_every_importer_has_its_raw_id_looked_at():
    found = {importers.PLUGINS.load(name).ITEM_ID for name in importers.PLUGINS.names()}
    assert found <= set(content.RAW_ID_FIELDS)


def test_shuffled_ties_are_no_longer_sorted(tmp_path):
    items, users, days = order_data.by_days(600, 300, 5)
    write(tmp_path, items, users, 15_000 * DAY + days * DAY)
    made = reading.load("mine", tmp_path, splits.SplitConfig(ties="shuffled"))
    assert codes(audit.of_corpus(made)) == ["coarse"]


def test_repeats_are_warned_of(tmp_path):
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(500), 8)
    found = write(tmp_path, (users * 3 % 200) + rng.integers(0, 4, len(users)), users)
    assert "repeated" in codes(found) and "--config.train.seen_items=shown" in text(found, "repeated")


def test_exact_duplicates_are_warned_of(tmp_path):
    """The last interaction stands twice for every tenth user."""
    items, users = plain()
    times = 10**9 + np.arange(len(users))
    twice = np.flatnonzero((np.arange(len(users)) % 80) == 79)
    items, users, times = (np.insert(array, twice, array[twice]) for array in (items, users, times))
    found = write(tmp_path, items, users, times)
    assert found.facts["repeats"]["exact_duplicates"] == found.facts["repeats"]["duplicate_targets"] == 60
    assert text(found, "duplicates").startswith("60 interactions (1.2 %) are exact duplicates")


def test_times_before_1990_are_warned_of(tmp_path):
    items, users = plain()
    found = write(tmp_path, items, users, 10**6 + np.arange(len(users)))
    assert codes(found) == ["odd_times"] and "1970-01-12" in text(found, "odd_times")


def test_few_users_are_warned_of(tmp_path):
    assert "few" not in codes(write(tmp_path / "a", *plain(400)))
    assert "Only 100 users are tested: a hit rate near one half is uncertain by 10 points" in text(
        write(tmp_path / "b", *plain(100, 20)), "few"
    )


def test_an_item_that_has_most_interactions_is_warned_of(tmp_path):
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(600), 8)
    items = np.where(rng.random(len(users)) < 0.6, 0, rng.integers(0, 300, len(users)))
    assert "one item has 6" in text(write(tmp_path, items, users), "concentrated")


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


def test_the_demo_has_no_warnings():
    found = audit.of_corpus(synthetic.demo())
    assert codes(found) == [] and found.folder is None
    assert json.loads(json.dumps(found.as_json()))["counts"]["users"] == 2000


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


def test_beauty5_has_days_in_order_of_asin_and_the_papers_own_data_do_not_show_it(shared):
    beauty5 = reading.load("beauty5", shared / "data" / "beauty5")
    found = audit.of_corpus(beauty5)
    assert found.facts["order"]["neighbours"]["share"] == pytest.approx(0.694, abs=0.0005)
    assert codes(found) == ["sorted"] and found.facts["order"]["sorted"]["kind"] == "close"
    assert codes(audit.of_folder("yelp", shared / "data" / "yelp")) == []
    assert codes(audit.of_folder("beauty", shared / "data" / "beauty")) == ["never_trained"]


@pytest.mark.parametrize("how", ["sorted", "shuffled"])
def test_beauty5_put_in_another_order(shared, how):
    beauty5 = reading.load("beauty5", shared / "data" / "beauty5")
    rank, _ = audit.order.ranks([record["asin"] for record in beauty5.item_records])
    users = np.repeat(np.arange(beauty5.num_users), beauty5.lengths_U)
    key = rank[beauty5.items - 1] if how == "sorted" else np.random.default_rng(0).random(len(users))
    items = beauty5.items[np.lexsort((key, users))]
    made = corpus.from_pairs("beauty5", users + 1, items, item_records=beauty5.item_records)
    found = audit.of_corpus(made)
    assert ("sorted" in codes(found)) == (how == "sorted")
    if how == "sorted":
        assert found.facts["order"]["sorted"]["kind"] == "always"
