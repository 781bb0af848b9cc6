import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmesr_jax.semantic.prompts import (
    FEATURE_CHARS,
    HISTORY_CHARS,
    PROMPT_CHARS,
    TEMPLATES,
    item_prompt,
    user_prompt,
)


def test_title_only_record_is_the_one_sentence_that_the_shared_embeddings_were_made_of():
    record = {"item_id": 1, "asin": "B004756YJA", "title": "nail lacquer"}
    assert item_prompt(record) == "The item has the following attributes: name is nail lacquer."


def test_yelp():
    record = {
        "business_id": "x", "name": "Gyro Hut", "categories": ["Greek", "Fast Food"], "type": "business", "open": True,
        "review_count": 12, "city": "Tempe", "stars": 4.5,
    }  # fmt: skip
    assert item_prompt(record, "yelp") == (
        "The point of interest has the following attributes: name is Gyro Hut; category is Greek, Fast Food; type is "
        "business; open status is True; review count is 12; city is Tempe; average score is 4.5."
    )


def test_fashion_and_beauty_differ_in_score_and_in_what_the_features_are():
    record = {
        "title": "Hat", "brand": "Ada", "date": "4", "price": "$5.00", "feature": ["warm", "red"],
        "categories": [["Women", "Hats"]], "description": ["A hat.", "Wool"],
    }  # fmt: skip
    assert item_prompt(record, "fashion") == (
        "The fashion item has the following attributes: name is Hat; brand is Ada; score is 4; price is $5.00. "
        "The item has the following features: warm, red. The item has the following descriptions: A hat., Wool."
    )
    assert item_prompt(record, "beauty") == (
        "The beauty item has the following attributes: name is Hat; brand is Ada; price is $5.00. "
        "The item has the following features: Women, Hats. The item has the following descriptions: A hat., Wool."
    )


@pytest.mark.parametrize("empty", [None, "", "  ", [], [[]], float("nan")])
@pytest.mark.parametrize("kind", TEMPLATES)
def test_absent_attributes_are_left_out(kind, empty):
    record = {"title": "Hat", **dict.fromkeys(("brand", "price", "feature", "categories", "description"), empty)}
    assert item_prompt(record, kind) == f"The {TEMPLATES[kind].noun} has the following attributes: name is Hat."


def test_generic_tells_fields_it_does_not_know_but_no_identifiers():
    record = {"item_id": 3, "title": "Hat", "screen_size": 6.1, "imUrl": "http://a/b.jpg", "price": 0}
    assert item_prompt(record) == "The item has the following attributes: name is Hat; price is 0; screen size is 6.1."


@pytest.mark.parametrize("kind", TEMPLATES)
def test_crop_is_name_and_categories(kind):
    record = {"title": "Hat", "category": "Wool", "brand": "Ada", "stars": 3, "feature": "red", "description": "big"}
    noun = TEMPLATES[kind].noun
    assert item_prompt(record, kind, crop=True) == (
        f"The {noun} has the following attributes: name is Hat; category is Wool."
    )


def test_long_texts_are_cut():
    prompt = item_prompt({"title": "Hat", "feature": "f" * 9999}, "fashion")
    assert prompt.count("f" * FEATURE_CHARS) == 1 and "f" * (FEATURE_CHARS + 1) not in prompt
    assert len(item_prompt({"title": "t" * 9999})) == PROMPT_CHARS


def test_user_prompt():
    assert user_prompt(["Hat", "Comb"]) == (
        "The user has visited the following items: Hat, Comb. Please conclude the user's preference."
    )


@given(st.lists(st.text(max_size=2000), max_size=20))
def test_a_long_history_keeps_its_newest_end(titles):
    history = user_prompt(titles).removeprefix("The user has visited the following items: ")
    history = history.removesuffix(". Please conclude the user's preference.")
    assert len(history) == min(HISTORY_CHARS, len(", ".join(titles)))
    assert ", ".join(titles).endswith(history)


def test_real_titles_give_the_documented_string(shared):
    with (shared / "data/beauty5/items.jsonl").open() as lines:
        record = json.loads(next(lines))
    assert item_prompt(record) == f"The item has the following attributes: name is {record['title']}."


@pytest.mark.parametrize("kind", sorted(set(TEMPLATES) - {"yelp"}))
def test_details_are_a_sentence_of_their_own(kind):
    record = {"title": "Hat", "details": {"Material": "Oak", "ASIN": "B004", "Box": {"Width": 3}}, "description": "D"}
    assert item_prompt(record, kind) == (
        f"The {TEMPLATES[kind].noun} has the following attributes: name is Hat. The item has the following details: "
        "Material: Oak; Box: Width: 3. The item has the following descriptions: D."
    )
    assert "Oak" not in item_prompt(record, kind, crop=True)


def test_objects_identifiers_and_addresses_among_further_fields():
    record = {
        "item_id": 3, "title": "<b>Hat</b>", "raw_id": "I003", "movie_id": 4, "sku": "S-3", "isbn13": "978",
        "specs": {"Size": 3, "New": True}, "more": "https://a.b/c", "tags": ["a", "www.a.b/c"], "stock": "Q-9",
    }  # fmt: skip
    assert item_prompt(record, unsaid=frozenset({"stock"})) == (
        "The item has the following attributes: name is Hat; specs is Size: 3, New: yes; tags is a."
    )
