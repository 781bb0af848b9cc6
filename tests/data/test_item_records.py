"""`items.jsonl` out of records in any order."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmesr_jax.data import item_records

NUMBERS = {"p": 1, "q": 2, "r": 3}


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def test_every_item_has_its_line_in_order(tmp_path):
    records = [
        ("q", {"title": "Q &amp;amp; A", "brand": None, "price": float("nan"), "tags": ["a &lt; b", "", None], "n": 0}),
        ("nobody", {"title": "N"}),
        ("p", {"title": None, "item_id": 99, "more": {"x": " two\n lines "}}),
        ("q", {"title": "second"}),
    ]
    found = item_records.write(tmp_path / "items.jsonl", records, NUMBERS, "asin")
    assert read(tmp_path / "items.jsonl") == [
        {"item_id": 1, "title": "", "asin": "p", "more": {"x": "two lines"}},
        {"item_id": 2, "title": "Q & A", "asin": "q", "tags": ["a < b"], "n": 0},
        {"item_id": 3, "title": "", "asin": "r"},
    ]
    assert found == item_records.Found(with_record=2, without_record=1, without_title=2, repeated=1, of_no_item=1)
    assert [path.name for path in tmp_path.iterdir()] == ["items.jsonl"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("records") / "items.jsonl"


@settings(max_examples=25)
@given(record=st.dictionaries(st.text(), JSON))
def test_any_record_makes_one_line_that_is_json(path, record):
    item_records.write(path, [("q", record)], NUMBERS, "asin")
    lines = read(path)
    assert [line["item_id"] for line in lines] == [1, 2, 3]
    assert all(isinstance(line["title"], str) for line in lines)
    assert lines[1]["asin"] == "q"


def nested(depth):
    return "deep" if depth == 0 else [nested(depth - 1)]


def test_lists_are_kept_to_a_depth():
    assert item_records.clean(nested(8)) == nested(8)
    assert item_records.clean(nested(9)) is None
