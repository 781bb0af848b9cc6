"""The sentences that describe an item and a user to an embedding model (LLM-ESR, appendix A).

    item_prompt({"item_id": 7, "title": "Rose lip balm", "brand": "Ada"}, "beauty")
    -> "The beauty item has the following attributes: name is Rose lip balm; brand is Ada."
    user_prompt(["Rose lip balm", "Comb"])
    -> "The user has visited the following items: Rose lip balm, Comb. Please conclude the user's preference."

`item_prompts` and `user_prompts` give the texts of a whole corpus, one by one, by these sentences or by templates of
the user's own (`semantic.templates`).

An attribute that a record lacks is left out together with its label. A record may use any of a few field names for an
attribute (`categories` or `category`, for example), so the raw metadata of the data sets can be used without changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from absl import logging

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.semantic import fields as fields_lib
from llmesr_jax.semantic import templates

# The input of embedding models is limited, so texts are cut to so many characters.
FEATURE_CHARS = 2048  # features, and details
PROMPT_CHARS = 4095  # a whole item prompt
HISTORY_CHARS = 8000  # a user's list of titles, of which the end is kept

_TITLE = ("title", "name")
_CATEGORIES = ("categories", "category")
_FEATURES = ("features", "feature")
_DESCRIPTION = ("description", "descriptions")
_DETAILS = ("details",)  # Amazon's table of a product: {"Material": "Oak", ...}

Attribute = tuple[str, tuple[str, ...]]  # label in the sentence, field names in order of preference


class Template(NamedTuple):
    """The noun and the attributes of the first sentence, and the fields of the three sentences after it."""

    noun: str
    attributes: tuple[Attribute, ...]
    features: tuple[str, ...] = ()
    details: tuple[str, ...] = _DETAILS
    description: tuple[str, ...] = _DESCRIPTION


_NAME_BRAND_PRICE = (("name", _TITLE), ("brand", ("brand",)), ("price", ("price",)))
_YELP = (
    ("name", _TITLE),
    ("category", _CATEGORIES),
    ("type", ("type",)),
    ("open status", ("open", "is_open")),
    ("review count", ("review_count",)),
    ("city", ("city",)),
    ("average score", ("stars",)),
)
_FASHION = (("name", _TITLE), ("brand", ("brand",)), ("score", ("date",)), ("price", ("price",)))

TEMPLATES = {
    "yelp": Template("point of interest", _YELP, details=(), description=()),
    "fashion": Template("fashion item", _FASHION, _FEATURES),
    "beauty": Template("beauty item", _NAME_BRAND_PRICE, _CATEGORIES),
    "grocery": Template("grocery item", _NAME_BRAND_PRICE, _CATEGORIES),
    "generic": Template("item", (*_NAME_BRAND_PRICE, ("category", _CATEGORIES)), _FEATURES),
}


def item_prompt(
    record: Mapping[str, Any], kind: str = "generic", crop: bool = False, unsaid: frozenset[str] = frozenset()
) -> str:
    """The text that describes one item.

    Args:
      record: the item's fields; values are strings, numbers, or (nested) lists and objects of them.
      kind: a key of `TEMPLATES`; "generic" also gives every further field, as "<field> is <value>", but no identifiers
        and no web addresses (`fields.is_identifier`, `fields.is_address`).
      crop: name and categories only (the paper's variant `crop`).
      unsaid: more fields that are left out (see `fields.unsaid`).

    Returns:
      At most `PROMPT_CHARS` characters.
    """
    template = TEMPLATES[kind]
    if crop:
        template = Template(template.noun, (("name", _TITLE), ("category", _CATEGORIES)), details=(), description=())
    elif kind == "generic":
        template = template._replace(attributes=(*template.attributes, *_further(record, template, unsaid)))
    # An object's pairs are joined by commas here, as semicolons separate the attributes.
    known = [f"{label} is {text}" for label, fields in template.attributes if (text := _value(record, fields, ", "))]
    sentences = [f"The {template.noun} has the following attributes: {'; '.join(known)}."] if known else []
    if features := _value(record, template.features)[:FEATURE_CHARS]:
        sentences.append(f"The item has the following features: {features}.")
    if details := _value(record, template.details)[:FEATURE_CHARS]:
        sentences.append(f"The item has the following details: {details}.")
    if description := _value(record, template.description):
        sentences.append(f"The item has the following descriptions: {description}.")
    return " ".join(sentences)[:PROMPT_CHARS]


def user_prompt(titles: Sequence[str]) -> str:
    """The text that describes one user: the titles of the training items, oldest first."""
    history = ", ".join(titles)[-HISTORY_CHARS:]
    return f"The user has visited the following items: {history}. Please conclude the user's preference."


def item_prompts(corpus: Corpus, template: str = "", crop: bool = False, start: int = 0) -> Iterator[str]:
    """The texts of the items from row `start` on, in order of id; "" for an item without any attribute.

    Args:
      corpus: whose items are described.
      template: the user's own (see `semantic.templates`), of the records' fields and `{noun}`; "": that of the data
        set.
      crop: see `item_prompt`.
      start: first row.

    Raises:
      InputError: no items.jsonl; `template` is wrong, or names a field that no item has.
    """
    if corpus.item_records is None:
        raise InputError(
            f"{corpus.folder}: has no items.jsonl, so there are no texts to embed; expected a title for each of the "
            f"{corpus.num_items} items; prepare the data again with the items' file (for a table: --items_file=FILE "
            "--title_column=COLUMN --overwrite), or train without texts: --method=none"
        )
    records = corpus.item_records[start:]
    kind = corpus.name if corpus.name in TEMPLATES else "generic"
    if not template:
        unsaid = fields_lib.unsaid(corpus.item_records) if kind == "generic" and not crop else frozenset()
        if unsaid:
            names = ", ".join(sorted(unsaid))
            logging.log_first_n(
                logging.INFO, "%s: fields left out of the texts as identifiers: %s", 1, corpus.folder, names
            )
        return (item_prompt(record, kind, crop, unsaid) for record in records)
    if crop:
        raise InputError("semantic.crop and semantic.item_template: both are set; expected one of them")
    parts = templates.parse(template, "item_template")
    _check_fields(corpus.item_records, [name for name in templates.fields(parts) if name != "noun"])
    noun = TEMPLATES[kind].noun
    return (_fill(parts, record, noun) for record in records)


def user_prompts(corpus: Corpus, template: str = "", start: int = 0) -> Iterator[str]:
    """The texts of the users from row `start` on: the titles of their training items, oldest first; "" without any.

    Args:
      corpus: whose users are described.
      template: the user's own, with the one field `{titles}`; "": LLM-ESR's sentence.
      start: first row.

    Raises:
      InputError: no items.jsonl, or `template` is wrong.
    """
    parts = templates.parse(template, "user_template") if template else ()
    if parts and (wrong := [name for name in templates.fields(parts) if name != "titles"]):
        raise InputError(
            f"user_template: {{{wrong[0]}}} is not known; expected {{titles}}, the titles of the training items"
        )
    if corpus.item_records is None:
        raise InputError(
            f"{corpus.folder}: has no items.jsonl, so there are no titles to describe users by; expected a title for "
            "each item; prepare the data again with the items' file"
        )
    return _user_prompts(corpus, parts, start)


def _user_prompts(corpus: Corpus, parts: tuple[templates.Part, ...], start: int) -> Iterator[str]:
    titles_V = [_value(record, _TITLE) for record in corpus.item_records]
    for begin, length in zip(corpus.offsets[start:-1].tolist(), corpus.train_lengths_U[start:].tolist()):
        titles = [title for item in corpus.items[begin : begin + length].tolist() if (title := titles_V[item - 1])]
        if parts:
            history = ", ".join(titles)[-HISTORY_CHARS:]
            yield templates.fill(parts, lambda _: history)  # noqa: B023  (called at once)
        else:
            yield user_prompt(titles) if titles else ""


def _check_fields(records: Sequence[Mapping[str, Any]], wanted: Sequence[str]) -> None:
    absent = {name for name in wanted}
    for record in records:
        absent = {name for name in absent if not any(_has(record, field) for field in _names(name))}
        if not absent:
            return
    there = sorted({field for record in records[:1000] for field in record} - {"item_id"})
    raise InputError(
        f"item_template: no item has a field {sorted(absent)[0]!r}; expected noun or some of: {', '.join(there)}; a "
        "nested field is written details.Material"
    )


def _has(record: Mapping[str, Any], field: str) -> bool:
    return field in record or fields_lib.within(record, field) is not None


def _fill(parts: tuple[templates.Part, ...], record: Mapping[str, Any], noun: str) -> str:
    """The text of a template for a record; "" if the record has none of its fields."""
    values = {name: _value(record, _names(name)) for name in templates.fields(parts) if name != "noun"}
    if not any(values.values()):
        return ""
    return templates.fill(parts, {**values, "noun": noun}.get)[:PROMPT_CHARS]


def _names(field: str) -> tuple[str, ...]:
    """The field, then the other field names of the same attribute."""
    groups = (_TITLE, _CATEGORIES, _FEATURES, _DESCRIPTION)
    return next(((field, *names) for names in groups if field in names), (field,))


def _value(record: Mapping[str, Any], fields: Sequence[str], apart: str = "; ") -> str:
    """Text of the first of `fields` that is not empty; `apart` joins the pairs of an object."""
    return next((text for field in fields if (text := fields_lib.text_at(record, field, apart))), "")


def _further(record: Mapping[str, Any], template: Template, unsaid: frozenset[str]) -> list[Attribute]:
    used = {field for _, fields in template.attributes for field in fields}
    used |= unsaid | {*template.features, *template.details, *template.description}
    further = [field for field in record if field not in used and not fields_lib.is_identifier(field)]
    return [(field.replace("_", " "), (field,)) for field in further if not fields_lib.is_address(record[field])]
