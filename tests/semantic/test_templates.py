import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.corpus import from_pairs
from llmesr_jax.semantic import templates
from llmesr_jax.semantic.prompts import (
    HISTORY_CHARS,
    item_prompt,
    item_prompts,
    user_prompt,
    user_prompts,
)

_HAT = {"item_id": 1, "title": "Fez", "brand": "Ada", "price": 5, "categories": [["Hats", "Red"]]}
_COMB = {"item_id": 2, "title": "Comb", "brand": "", "price": None}
_COLOURED = {"item_id": 1, "title": "Fez", "Farbe [de]": "rot"}
_BARE = {"item_id": 3, "title": ""}


def _corpus(name="toy"):
    # Users 1 and 2 train on their first item but two; user 3 has two items and trains on both.
    pairs = [(1, 1), (1, 2), (1, 3), (2, 3), (2, 1), (2, 2), (3, 3), (3, 2), (4, 2), (4, 1), (4, 1), (4, 3)]
    users, items = zip(*pairs)
    return from_pairs(name, users, items, item_records=(_HAT, _COMB, _BARE))


def _filled(template, **values):
    return templates.fill(templates.parse(template, "--t"), values.get)


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        ("{title}", ["Fez", "Comb", ""]),
        ("A {noun}: {title}[ by {brand}][, {price} dollars].", ["A item: Fez by Ada, 5 dollars.", "A item: Comb.", ""]),
        ("{title} by {brand}", ["Fez by Ada", "Comb by", ""]),
        ("[{brand} {price}: ]{title}", ["Ada 5: Fez", "Comb", ""]),
        ("{ title }{{x}} [[{category}]]", ["Fez{x} [Hats, Red]", "Comb{x} []", ""]),
        ("{name}\n  {title}", ["Fez Fez", "Comb Comb", ""]),
    ],
)
def test_item_templates(template, wanted):
    assert list(item_prompts(_corpus(), template)) == wanted
    assert list(item_prompts(_corpus(), template, start=1)) == wanted[1:]


def test_a_field_whose_name_has_brackets():
    corpus = from_pairs("toy", [1, 1, 1], [1, 1, 1], item_records=(_COLOURED,))
    assert list(item_prompts(corpus, "{title}[, {Farbe [de]}]")) == ["Fez, rot"]


def test_signs_of_all_languages_are_shown_as_they_are():
    with pytest.raises(InputError, match="^--t='5 €': has no field"):
        templates.parse("5 €", "--t")


def test_the_noun_is_that_of_the_data_set():
    assert next(item_prompts(_corpus("yelp"), "{noun} {title}")) == "point of interest Fez"


def test_without_a_template_the_sentences_of_the_data_set():
    assert list(item_prompts(_corpus("beauty"))) == [item_prompt(r, "beauty") for r in (_HAT, _COMB)] + [""]
    assert list(item_prompts(_corpus(), crop=True))[0] == item_prompt(_HAT, crop=True)


def test_users_are_the_titles_that_they_train_on():
    wanted = [user_prompt(["Fez"]), "", user_prompt(["Comb"]), user_prompt(["Comb", "Fez"])]
    assert list(user_prompts(_corpus())) == wanted
    assert list(user_prompts(_corpus(), "likes {titles}", start=2)) == ["likes Comb", "likes Comb, Fez"]
    assert list(user_prompts(_corpus(), "{titles}"))[1] == ""


def test_a_long_history_keeps_its_end():
    long = {"item_id": 1, "title": "x" * HISTORY_CHARS + "end"}
    corpus = from_pairs("toy", [1, 1, 1], [1, 1, 1], item_records=(long,))
    assert list(user_prompts(corpus, "{titles}")) == ["x" * (HISTORY_CHARS - 3) + "end"]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{title", "'{' at character 1 has no matching bracket"),
        ("title}", "'}' at character 6 has no matching bracket"),
        ("[{title}", "a '\\[' has no matching bracket"),
        ("{title}]", "'\\]' at character 8 has no matching bracket"),
        ("[a [{title}]]", "'\\[' at character 4 has no matching bracket"),
        ("{}", "the braces at character 1 have no field"),
        ("a hat", "has no field, so all texts would be the same"),
        ("", "has no field"),
    ],
)
def test_a_wrong_template_is_one_line(template, message):
    with pytest.raises(InputError, match=message) as error:
        templates.parse(template, "--item_template")
    assert str(error.value).startswith("--item_template=") and "\n" not in str(error.value)


def test_fields_that_there_are_not():
    with pytest.raises(InputError, match="no item has a field 'colour'; expected noun or some of: brand, cat"):
        item_prompts(_corpus(), "{title} {colour}")
    with pytest.raises(InputError, match="user_template: {title} is not known; expected {titles}"):
        user_prompts(_corpus(), "{title}")
    with pytest.raises(InputError, match="semantic.item_template: both are set; expected"):
        item_prompts(_corpus(), "{title}", crop=True)


@given(st.text(max_size=30))
def test_any_text_is_a_template_or_refused(template):
    try:
        parts = templates.parse(template, "--t")
    except InputError:
        return
    assert isinstance(templates.fill(parts, lambda name: name), str)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.sampled_from("{}[]"))
def test_doubled_signs_mean_themselves(text, sign):
    kept = "".join(text.split()).translate({ord(c): None for c in "{}[]"})
    assert _filled(f"{kept}{sign * 2}{{title}}", title="Fez") == f"{kept}{sign}Fez"
