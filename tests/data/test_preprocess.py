"""The rules, against hand arithmetic and against a plain Python of the definition."""

from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import splits
from llmesr_jax.data.preprocess import apply
from llmesr_jax.data.rules import Rule

NONE = Rule(core="none")


def frame(rows, columns=("user", "item", "rating", "time")):
    types = {"user": pl.String, "item": pl.String, "rating": pl.Float64, "time": pl.Int64}
    return pl.LazyFrame(rows, schema={name: types[name] for name in columns}, orient="row")


def pairs(text):
    """ "ax ay" -> a frame of (a, x), (a, y), without rating and time."""
    return frame([tuple(pair) for pair in text.split()], ("user", "item"))


def sequences(result):
    """{raw user: [raw items]} in order of id."""
    found = {user: [] for user in result.users}
    for user, item in zip(result.user_n, result.item_n):
        found[result.users[int(user) - 1]].append(result.items[int(item) - 1])
    return found


# a has x y z, b has x y, c has z w w; counts: a 3, b 2, c 3; x 2, y 2, z 2, w 2.
# Once at users >= 3, items >= 2: b falls, all items stay, though x and y are left with one. Iterated: x and y fall, so
# a has z alone and falls, z has c alone and falls, c has w w and falls: nothing is left.
CHAIN = "ax bx ay by az cz cw cw"


def test_once_and_iterated_differ_as_by_hand():
    once = apply(pairs(CHAIN), Rule(core="once", user_core=3, item_core=2))
    assert sequences(once) == {"a": ["x", "y", "z"], "c": ["z", "w", "w"]}
    assert once.user_n.tolist() == [1, 1, 1, 2, 2, 2] and once.item_n.tolist() == [1, 2, 3, 3, 4, 4]
    assert [tuple(step)[1:] for step in once.steps] == [(3, 4, 8), (2, 4, 6)]
    with pytest.raises(InputError, match=r"the rule leaves no interaction .*iterated: 0 interactions"):
        apply(pairs(CHAIN), Rule(core="iterated", user_core=3, item_core=2))
    # With u >= 2 and i >= 2 nobody falls at first, so both agree.
    for core in ("once", "iterated"):
        assert len(apply(pairs(CHAIN), Rule(core=core, user_core=2, item_core=2)).user_n) == 8


def test_iterated_stops_where_nothing_changes():
    # b and d fall, and y with d; v and w still have two users, so a and c stay whole.
    result = apply(pairs("av bv dv cv cw aw bw cx ax dy"), Rule(core="iterated", user_core=3, item_core=2))
    assert sequences(result) == {"a": ["v", "w", "x"], "c": ["v", "w", "x"]}


def test_distinct_counts_leave_repeats_out():
    text = "ax ax ax bx by cy cx"
    assert sequences(apply(pairs(text), Rule(core="once", user_core=2, item_core=2))).keys() == {"a", "b", "c"}
    distinct = Rule(core="once", user_core=2, item_core=2, core_counts="distinct")
    assert sequences(apply(pairs(text), distinct)) == {"b": ["x", "y"], "c": ["y", "x"]}


def test_time_orders_a_user_and_file_order_breaks_ties():
    rows = [("a", "z", 1.0, 5), ("b", "q", 1.0, 9), ("a", "y", 1.0, 5), ("a", "x", 1.0, 4), ("b", "x", 1.0, 1)]
    result = apply(frame(rows), NONE)
    assert sequences(result) == {"a": ["x", "z", "y"], "b": ["x", "q"]}
    assert result.items.to_list() == ["x", "z", "y", "q"]
    # Without times, the file's order is the order.
    result = apply(frame([row[:2] for row in rows], ("user", "item")), NONE)
    assert sequences(result) == {"a": ["z", "y", "x"], "b": ["q", "x"]}


DUPLICATES = [("a", "x", 1.0, 3), ("a", "y", 1.0, 2), ("a", "x", 1.0, 1), ("a", "x", 1.0, 3), ("b", "x", 1.0, 7)]


@pytest.mark.parametrize(
    ("which", "wanted"), [("all", ["x", "y", "x", "x"]), ("first", ["x", "y"]), ("last", ["y", "x"])]
)
def test_duplicates(which, wanted):
    result = apply(frame(DUPLICATES), Rule(core="none", duplicates=which, exact_duplicates="keep"))
    assert sequences(result) == {"a": wanted, "b": ["x"]}


def test_exact_duplicates_are_dropped_and_counted_or_kept_and_counted():
    dropped = apply(frame(DUPLICATES), NONE)
    assert (sequences(dropped), dropped.duplicates) == ({"a": ["x", "y", "x"], "b": ["x"]}, 1)
    assert [tuple(step) for step in dropped.steps] == [("raw", 2, 2, 5), ("exact duplicates dropped", 2, 2, 4)]
    kept = apply(frame(DUPLICATES), Rule(core="none", exact_duplicates="keep"))
    assert (sequences(kept), kept.duplicates) == ({"a": ["x", "y", "x", "x"], "b": ["x"]}, 1)
    # They count once in the core: a has three interactions and not four.
    assert sequences(apply(frame(DUPLICATES), Rule(core="once", user_core=3, item_core=1))).keys() == {"a"}
    with pytest.raises(InputError):
        apply(frame(DUPLICATES), Rule(core="once", user_core=4, item_core=1))
    # Another time, item or user is no duplicate, nor is a row without a time; nor one that a rule leaves out.
    rows = [("a", "x", 1.0, None), ("a", "x", 1.0, None), ("a", "x", 1.0, 1), ("a", "x", 5.0, 1)]
    assert apply(frame(rows), NONE).duplicates == 1
    assert sequences(apply(frame(rows), Rule(core="none", min_rating=2))) == {"a": ["x"]}
    assert apply(frame([row[:2] for row in DUPLICATES], ("user", "item")), NONE).duplicates == 0


def test_times_are_kept_in_seconds_in_the_order_of_the_lines():
    rows = [("a", "x", 1.0, 5_900_000), ("b", "x", 1.0, 1), ("a", "y", 1.0, None), ("a", "z", 1.0, 2_000_000)]
    result = apply(frame(rows), NONE)
    assert sequences(result) == {"a": ["y", "z", "x"], "b": ["x"]}
    assert result.times.tolist() == [splits.UNKNOWN, 2, 5, 0] and result.times.dtype == np.int64
    assert np.isnat(result.times.view("datetime64[s]")).tolist() == [True, False, False, False]
    assert apply(frame([row[:2] for row in rows], ("user", "item")), NONE).times is None
    assert apply(frame([(*row[:3], None) for row in rows]), NONE).times is None


def test_parts_come_one_after_the_other_and_times_order_each():
    rows = [("a", "x", 1.0, 9), ("a", "y", 1.0, 3), ("a", "z", 1.0, 1), ("b", "x", 1.0, 4), ("a", "w", 1.0, 2)]
    result = apply(frame(rows).with_columns(part=pl.Series([0, 0, 2, 1, 1], dtype=pl.UInt8)), NONE)
    assert sequences(result) == {"a": ["y", "x", "w", "z"], "b": ["x"]}
    assert result.parts.tolist() == [0, 0, 1, 2, 1] and result.parts.dtype == np.uint8


def test_duplicates_go_before_the_core_counts():
    result = apply(frame(DUPLICATES), Rule(core="once", user_core=2, item_core=1, duplicates="first"))
    assert sequences(result) == {"a": ["x", "y"]}
    with pytest.raises(InputError):
        apply(frame(DUPLICATES), Rule(core="once", user_core=3, item_core=1, duplicates="first"))


def test_ratings_and_dates_with_their_bounds():
    day = 86_400_000_000
    rows = [("a", item, float(n), n * day) for n, item in enumerate("vwxyz", 1)]
    result = apply(frame(rows), Rule(core="none", min_rating=2, date_from="1970-01-04", date_to="1970-01-05"))
    assert sequences(result) == {"a": ["x", "y"]}
    assert [(s.step, s.interactions) for s in result.steps] == [
        ("raw", 5), ("rating >= 2", 4), ("from 1970-01-04", 3), ("up to 1970-01-05", 2)
    ]  # fmt: skip
    # Counts of the core are those of what is left by then.
    with pytest.raises(InputError, match="leaves no interaction"):
        apply(frame(rows), Rule(core="once", user_core=5, item_core=1, min_rating=2))


def test_minimum_length_comes_last_and_leaves_no_gaps():
    rule = Rule(core="once", user_core=2, item_core=2, min_length=3)
    # b has two, of which y is too rare: one is left.
    result = apply(pairs("bx by ax az aw cz cw cx"), rule)
    assert sequences(result) == {"a": ["x", "z", "w"], "c": ["z", "w", "x"]}
    assert set(result.user_n.tolist()) == {1, 2} and set(result.item_n.tolist()) == {1, 2, 3}


@pytest.mark.parametrize("rule", [Rule(min_rating=3), Rule(date_from="2000-01-01"), Rule(date_to="2000-01-01")])
def test_a_column_that_the_rule_wants_and_is_not_there(rule):
    with pytest.raises(InputError, match=r"but this source has no (rating|time); name the column"):
        apply(pairs("ax"), rule)


def test_a_date_that_is_none():
    with pytest.raises(InputError, match='--date_to=2019-31-12: expected a date as "2019-12-31"'):
        apply(frame(DUPLICATES), Rule(date_to="2019-31-12"))


def test_known_ids_keep_their_numbers():
    before = apply(pairs("bx bz ay"), NONE)
    grown = pairs("cq ax bx bz ay cy")
    after = apply(grown, NONE, known_users=before.users.to_list(), known_items=before.items.to_list())
    assert after.users.to_list() == ["b", "a", "c"] and after.items.to_list() == ["x", "z", "y", "q"]
    assert sequences(after) == {"b": ["x", "z"], "a": ["x", "y"], "c": ["q", "y"]}
    with pytest.raises(InputError, match="1 of 3 known users are now dropped by the rule, such as 'e'"):
        apply(grown, NONE, known_users=["b", "e", "a"])


def test_numbered_sources_keep_the_order_of_their_numbers():
    rows = [("10", "3"), ("2", "7"), ("2", "20")]
    result = apply(frame(rows, ("user", "item")), NONE, numbered=True)
    assert result.users.to_list() == ["2", "10"] and result.items.to_list() == ["3", "7", "20"]


def reference(rows, rule):
    """{user: [items]}: the definition, in plain Python."""
    rows = [row for row in rows if rule.min_rating is None or row[2] >= rule.min_rating]
    if rule.exact_duplicates == "drop":
        rows = [row for i, row in enumerate(rows) if (row[:2], row[3]) not in [(r[:2], r[3]) for r in rows[:i]]]
    if rule.duplicates != "all":
        ordered = sorted(rows, key=lambda row: row[3])  # stable
        chosen = {}
        for row in ordered if rule.duplicates == "last" else reversed(ordered):
            chosen[row[:2]] = row
        rows = [row for row in rows if any(row is kept for kept in chosen.values())]
    while rule.core != "none":
        counted = set(row[:2] for row in rows) if rule.core_counts == "distinct" else [row[:2] for row in rows]
        users, items = Counter(user for user, _ in counted), Counter(item for _, item in counted)
        kept = [r for r in rows if users[r[0]] >= rule.user_core and items[r[1]] >= rule.item_core]
        done, rows = len(kept) == len(rows) or rule.core == "once", kept
        if done:
            break
    found = {}
    for row in rows:
        found.setdefault(row[0], []).append(row)
    found = {user: [row[1] for row in sorted(of, key=lambda row: row[3])] for user, of in found.items()}
    return {user: items for user, items in found.items() if len(items) >= rule.min_length}


ROWS = st.lists(
    st.tuples(st.sampled_from("abcde"), st.sampled_from("uvwxyz"), st.sampled_from([1.0, 3.0, 5.0]), st.integers(0, 3)),
    max_size=40,
)
RULES = st.builds(
    Rule,
    min_rating=st.sampled_from([None, 3.0]),
    exact_duplicates=st.sampled_from(["drop", "keep"]),
    duplicates=st.sampled_from(["all", "first", "last"]),
    core=st.sampled_from(["none", "once", "iterated"]),
    user_core=st.integers(0, 4),
    item_core=st.integers(0, 4),
    core_counts=st.sampled_from(["interactions", "distinct"]),
    min_length=st.integers(1, 3),
)


@settings(max_examples=60)
@given(ROWS, RULES)
def test_any_rule_on_any_rows_is_the_definition(rows, rule):
    # Tuples of their own, so that the reference may tell equal rows apart.
    rows = [tuple(list(row)) for row in rows]
    wanted = reference([(*row[:3], row[3]) for row in rows], rule)
    if not wanted:
        with pytest.raises(InputError):
            apply(frame(rows), rule)
        return
    result = apply(frame(rows), rule)
    assert sequences(result) == wanted
    assert list(sequences(result)) == list(wanted)  # users as they first appear
    walk = [item for items in wanted.values() for item in items]
    assert result.items.to_list() == list(dict.fromkeys(walk))
    assert (np.diff(result.user_n) >= 0).all()
    last = result.steps[-1]
    assert (last.users, last.items, last.interactions) == (len(wanted), len(set(walk)), len(walk))
