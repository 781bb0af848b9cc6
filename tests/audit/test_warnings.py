"""The audit's warnings, where they should be and nowhere else."""

import json

import numpy as np
import order_data
import pytest
from audit_data import DAY, codes, plain, text, write

from llmesr_jax.audit import audit
from llmesr_jax.data import corpus, importers, raw_ids, reading, splits, synthetic


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


@pytest.mark.parametrize("field", raw_ids.FIELDS)
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
    assert found <= set(raw_ids.FIELDS)


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


def test_the_demo_has_no_warnings():
    found = audit.of_corpus(synthetic.demo())
    assert codes(found) == [] and found.folder is None
    assert json.loads(json.dumps(found.as_json()))["counts"]["users"] == 2000


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
