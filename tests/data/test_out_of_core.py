"""Interactions that do not fit in memory: the same result as those that do, row for row."""

import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import out_of_core, preprocess, tally
from llmesr_jax.data.rules import Rule

TYPES = {"user": pl.String, "item": pl.String, "rating": pl.Float64, "time": pl.Int64, "part": pl.UInt8}
TIMES = st.none() | st.integers(0, 3).map(lambda day: day * 86_400_000_000 + 1)
ROWS = st.lists(
    st.tuples(
        st.integers(7, 13), st.sampled_from("uvwxyz"), st.sampled_from([1.0, 3.0, None]), TIMES, st.integers(0, 2)
    ),
    max_size=40,
)
RULES = st.builds(
    Rule,
    min_rating=st.sampled_from([None, 3.0]),
    date_from=st.sampled_from(["", "1970-01-02"]),
    exact_duplicates=st.sampled_from(["drop", "keep"]),
    duplicates=st.sampled_from(["all", "first", "last"]),
    core=st.sampled_from(["none", "once", "iterated"]),
    user_core=st.integers(0, 4),
    item_core=st.integers(0, 4),
    core_counts=st.sampled_from(["interactions", "distinct"]),
    min_length=st.integers(1, 3),
)
COLUMNS = st.sampled_from([(), ("time",), ("time", "part"), ("part",)])


def both(frame, rule, **known):
    """The result in memory, and that from files of about 3 rows; each may be the error's message."""
    with tempfile.TemporaryDirectory() as folder:
        for make in (preprocess.apply, lambda *args, **kw: out_of_core.apply(*args, Path(folder), **kw, file_rows=3)):
            try:
                result = make(frame, rule, **known)
            except InputError as error:
                yield str(error).partition(" (")[0]
                continue
            blocks = list(result.blocks())
            arrays = [[array for array in column if array is not None] for column in zip(*blocks)]
            assert all(len(found) in (0, len(blocks)) for found in arrays)
            told = result.users.to_list(), result.items.to_list(), result.steps, result.duplicates, result.across
            yield *told, *(np.concatenate(found).tolist() if found else None for found in arrays)


@settings(max_examples=40, deadline=None)
@given(ROWS, RULES, COLUMNS, st.booleans())
def test_any_rule_on_any_rows_gives_what_it_gives_in_memory(rows, rule, columns, numbered):
    rows = [(f"0{row[0]}" if row[0] < 10 else str(row[0]), *row[1:]) for row in rows]
    frame = pl.LazyFrame(rows, schema=TYPES, orient="row").select("user", "item", "rating", *columns)
    in_memory, on_disk = both(frame, rule, numbered=numbered)
    assert on_disk == in_memory


@pytest.mark.parametrize("known", [["b", "a"], ["b", "nobody"]])
def test_known_ids_keep_their_numbers(known):
    rows = [(user, item, None, time, 0) for time, (user, item) in enumerate(["ax", "by", "az", "cy", "by", "cx"])]
    frame = pl.LazyFrame(rows, schema=TYPES, orient="row").drop("part")
    in_memory, on_disk = both(frame, Rule(core="none"), known_users=known, known_items=["z"])
    assert on_disk == in_memory
    assert on_disk.startswith("1 of 2 known users are") if "nobody" in known else on_disk[0] == ["b", "a", "c"]


@pytest.mark.parametrize("batch", [3, 1000])
def test_counts_merged_over_batches_are_those_of_all_rows(batch, monkeypatch):
    monkeypatch.setattr(tally, "_BATCH", batch)
    monkeypatch.setattr(tally, "_PARTS", 2)
    n = np.arange(200)
    frame = pl.DataFrame({"user": [f"u{i}" for i in n * n % 37], "item": [f"i{i}" for i in n % 7], "high": n % 3 == 0})
    found = tally.Tally.of(frame.lazy(), {"high": pl.col("high")}, in_memory=False)
    for key, table in (("user", found.users), ("item", found.items)):
        ids, inverse = np.unique(frame[key], return_inverse=True)
        table = table.sort(key)
        assert table[key].to_list() == ids.tolist()
        assert table["raw"].to_list() == np.bincount(inverse).tolist()
        assert table["high"].to_list() == np.bincount(inverse, weights=frame["high"]).astype(int).tolist()
