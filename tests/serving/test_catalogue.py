"""Raw ids, lists of them, and conditions on columns."""

import numpy as np
import pytest

from llmesr_jax.core.errors import InputError
from llmesr_jax.serving import conditions
from llmesr_jax.serving.catalogue import Catalogue, as_id

RECORDS = [
    {"item_id": 1, "title": "Green Tea", "price": "$3.50", "tags": ["hot", "leaf"], "new": True},
    {"item_id": 2, "title": "mug", "price": 12, "tags": ["cold"]},
    {"item_id": 3, "title": "お茶", "price": "1,200", "brand": "Acme"},
    {"item_id": 4, "title": "pot", "price": "unknown", "tags": [], "brand": "acme"},
]
CATALOGUE = Catalogue(
    ["a", "7", "お茶", "x y"],
    np.array([5, 0, 9, 5]),
    np.array([False, True, False, True]),
    [record["title"] for record in RECORDS],
    RECORDS,
)


def test_ids_are_read_as_in_the_data():
    assert [as_id(value) for value in ("a", " a ", 7, 7.0, np.int64(7), 7.5, "7.0", None, float("nan"), "")] == [
        *("a", "a", "7", "7", "7", "7.5", "7", None, None, None)
    ]
    for wrong in (["a"], True, b"a", {}):
        with pytest.raises(InputError, match="is not a raw id; expected text or a number"):
            as_id(wrong)


def test_what_is_known_of_a_history():
    ids, unknown = CATALOGUE.known(["お茶", 7, "a", "nope", None, 7.0, "a"])
    assert ids.tolist() == [3, 2, 1, 2, 1] and unknown == 1 and ids.dtype == np.int32
    assert CATALOGUE.known([])[0].tolist() == [] and CATALOGUE.known(np.array(["a", "b"]))[1] == 1
    with pytest.raises(InputError, match="history 3: 'abc' is not a list"):
        CATALOGUE.known("abc", "history 3")
    with pytest.raises(InputError, match="deny: 2 ids found, but none is in the catalogue"):
        CATALOGUE.mask(["q", "r"], "deny")


@pytest.mark.parametrize(
    ("texts", "met"),
    [
        (["price<20"], [1, 2]),
        (["price>=12"], [2, 3]),
        (["tags=hot"], [1]),
        (["tags!=hot"], [2]),
        (["brand=ACME"], [3, 4]),
        (["title~tea"], [1]),
        (["title~茶"], [3]),
        (["new=true"], [1]),
        (["price<20", "tags=cold"], [2]),
        (["price=12.0"], [2]),
    ],
)
def test_conditions(texts, met):
    assert (np.flatnonzero(conditions.meet(CATALOGUE, texts)) + 1).tolist() == met


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour=red", "no such column; expected one of: title, price, tags, new, brand"),
        ("price", "is not understood"),
        ("price<cheap", "'cheap' is not a number"),
        ("=3", "is not understood"),
    ],
)
def test_conditions_that_make_no_sense(text, said):
    with pytest.raises(InputError, match=said):
        conditions.meet(CATALOGUE, [text])


def test_new_items_stand_behind_the_others():
    more = CATALOGUE.extended(["n"], None, None)
    assert more.ids[-1] == "n" and more.title(4) == "" and more.title(2) == "お茶" and more.number("n") == 5
    assert more.counts_V.tolist() == [5, 0, 9, 5, 0] and more.tail_V[4]
    assert conditions.meet(more, ["price<20"]).tolist() == [True, True, False, False, False]
    for ids, said in ((["a"], "in the catalogue; remove"), (["n", "m", "n"], "'n' appears twice")):
        with pytest.raises(InputError, match=said):
            CATALOGUE.extended(ids, None, None)


def test_popularity_is_by_count_then_by_row():
    assert CATALOGUE.by_popularity.tolist() == [2, 0, 3, 1]
