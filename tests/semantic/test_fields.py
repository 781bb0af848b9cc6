"""Fields of records as text, and which are identifiers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmesr_jax.semantic import fields


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ({"Brand": "Zed", "Material": "Oak"}, "Brand: Zed; Material: Oak"),
        ({"Size": {"Width": 3, "Depth": 4.5}, "In": ["red", "blue"]}, "Size: Width: 3, Depth: 4.5; In: red, blue"),
        ([{"Name": "A", "Role": "B"}, {"Name": "C"}], "Name: A, Role: B; Name: C"),
        ({"Organic": True, "Vegan": False, "Left": None, "x": ""}, "Organic: yes; Vegan: no"),
        ({"Weight": 2.0, "Share": 1e-05, "Count": 10**6}, "Weight: 2; Share: 0.00001; Count: 1000000"),
        ({"item_weight": "3 oz", "Package Size: ": "<b>4</b> in &amp; 5"}, "item weight: 3 oz; Package Size: 4 in & 5"),
        ({"ASIN": "B004", "UPC": 12, "ISBN-13": "978", "productId": 5, "image_url": "a", "More": "https://a.b/c"}, ""),
        ({}, ""),
        ({"a": {"b": {"c": ["d", {"e": "f"}]}}}, "a: b: c: d, e: f"),
        ('{"Material": "Oak", "New": true}', "Material: Oak; New: yes"),
        ("{'Garage': False, 'Street': True}", "Garage: no; Street: yes"),
        ("['Drama', 'War']", "Drama, War"),
        ("u'free'", "free"),
        ("[2019] {x}", "[2019] {x}"),
        ("[2019]", "[2019]"),
        ("{title}", "{title}"),
        (["a", ["b", "c"], "", None, "https://a.b/c.jpg"], "a, b, c"),
        (4.5, "4.5"),
        (True, "True"),
        (float("nan"), ""),
        (None, ""),
        ("<b>Good</b>\n toy", "Good toy"),
    ],
)  # fmt: skip
def test_text(value, wanted):
    assert fields.text(value) == wanted


def test_within_a_sentence_of_attributes_pairs_are_joined_by_commas():
    assert fields.text({"a": 1, "b": 2}, ", ") == "a: 1, b: 2"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    max_leaves=12,
)


@given(_JSON)
def test_any_value_has_a_text_on_one_line(value):
    told = fields.text(value)
    assert "\n" not in told and told == " ".join(told.split())


@pytest.mark.parametrize(
    "field",
    "item_id id ID asin parent_asin ASIN business_id movie_id raw_id productId ItemID isbn ISBN-13 isbn_10 sku SKU upc "
    "EAN gtin14 barcode imUrl image images image_url url link related uuid movieId tmdb_id brand_id".split(),
)  # fmt: skip
def test_identifiers(field):
    assert fields.is_identifier(field)


@pytest.mark.parametrize(
    "field",
    "title brand price android grid acid liquid model solid paid screen_size date imdb side_idea width category "
    "Item Farbe".split(),
)  # fmt: skip
def test_names_of_other_fields(field):
    assert not fields.is_identifier(field)


RECORD = {
    "details": {"Material": "Oak", "Box": {"Width": 3}, "Item.Weight": "3 oz"},
    "offers": [{"price": 1.5, "shop": {"name": "A"}}, {"price": 2.0}, "x"],
    "spelled": '{"Colour": "<b>red</b>"}',
    "a.b": "whole name",
    "a": {"b": "path"},
    "title": "Mug",
}


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("title", "Mug"),
        ("details.Material", "Oak"),
        ("details.Box.Width", "3"),
        ("details.Box", "Width: 3"),
        ("details.Item.Weight", "3 oz"),
        ("offers.0.price", "1.5"),
        ("offers.price", "1.5, 2"),
        ("offers.shop.name", "A"),
        ("offers.7.price", ""),
        ("offers.1.shop.name", ""),
        ("spelled.Colour", "red"),
        ("a.b", "whole name"),
        ("details.Colour", ""),
        ("title.x", ""),
        ("none.of.it", ""),
    ],
)
def test_a_path_reaches_into_objects_and_lists(path, wanted):
    assert fields.text_at(RECORD, path) == wanted


def _records(**columns):
    count = len(next(iter(columns.values())))
    return [{"title": "Blue mug", **{name: column[n] for name, column in columns.items()}} for n in range(count)]


@pytest.mark.parametrize(
    ("column", "is_left_out"),
    [
        (["A-1", "A-2", "A-3"], True),  # a code of each item
        (["A-1", "A-2", "A-1"], False),  # two share it
        (["A-1", "A-2", None], False),  # one has none
        (["A 1", "A 2", "A 3"], False),  # with blanks
        (["red", "blue", "green"], False),  # words
        (["2019-12-31T10Z", "2019-12-31T11Z", "2019-12-31T12Z"], False),  # dates
        (["1.5", "2.5", "3.5"], False),  # numbers
        (["7", "8", "9"], True),  # the raw id again
        ([7, 8, 9], True),
        ([7, None, 9], True),
        (["7", "8", "1"], False),  # as it happens, twice
    ],
)
def test_fields_that_number_the_items(column, is_left_out):
    records = [{"title": "", "item_id": 0}, *_records(raw_id=["7", "8", "9"], stock=column)]
    assert fields.unsaid(records) == ({"stock"} if is_left_out else set())


@pytest.mark.parametrize(("title", "wanted"), [("", {"stock"}), ("Red mug", set())])
def test_an_item_without_the_field_counts_alike_at_any_place(title, wanted):
    records = _records(raw_id=["a", "b", "c"], stock=["A-1", "A-2", "A-3"])
    for place in range(4):
        assert fields.unsaid([*records[:place], {"title": title, "raw_id": "d"}, *records[place:]]) == wanted


def test_records_are_read_until_no_field_is_in_question():
    read = []
    records = _records(raw_id=["a1", "a2", "a3", "a4"], colour=["red"] * 4)
    assert fields.unsaid(read.append(record) or record for record in records) == set()
    assert len(read) == 1
    assert fields.unsaid(_records(article=["A-1"])) == set()  # of one item, nothing can be said
