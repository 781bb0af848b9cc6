import numpy as np
import pytest

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.corpus import from_pairs
from llmesr_jax.semantic.encoders import tfidf as encoder
from llmesr_jax.semantic.encoders.tfidf import latent as tfidf
from llmesr_jax.semantic.prompts import item_prompt

# User 1 trains on 1, 1, 2; user 2 has two interactions, so both train; user 3 trains on 4.
_CORPUS = from_pairs("toy", np.repeat([1, 2, 3], [5, 2, 3]), np.array([1, 1, 2, 3, 4, 3, 4, 4, 1, 2]))
_TITLES = ["red wool hat", "green wool scarf", "steel frying pan", "cast iron pan"]
_TEXTS = [item_prompt({"title": title}) for title in _TITLES]


def _cosine(a, b):
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def test_shared_words_bring_items_together_and_the_prompts_own_words_do_not():
    items, _ = tfidf(_TEXTS, _CORPUS, 8, seed=0)
    assert _cosine(items[0], items[1]) > 0.2 and _cosine(items[2], items[3]) > 0.2
    np.testing.assert_allclose(items[:2] @ items[2:].T, 0, atol=1e-5)


def test_users_lie_where_the_words_of_their_training_items_lie():
    items, users = tfidf(_TEXTS, _CORPUS, 8, seed=0)
    for user, direction in zip(users, [2 * items[0] + items[1], items[2] + items[3], items[3]], strict=True):
        assert _cosine(user, direction) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(users[2], items[3], atol=1e-5)  # one item: the user's text is the item's


def test_width_and_type_and_repeatability():
    for width, wanted in ((1, 1), (2, 2), (128, 3)):  # 4 items allow 3
        items, users = tfidf(_TEXTS, _CORPUS, width, seed=3)
        assert items.shape == (4, wanted) and users.shape == (3, wanted)
        assert items.dtype == users.dtype == np.float32
        again = tfidf(_TEXTS, _CORPUS, width, seed=3)
        np.testing.assert_array_equal(items, again[0])
        np.testing.assert_array_equal(users, again[1])


def test_an_item_without_text_is_a_row_of_zeros():
    items, users = tfidf([*_TEXTS[:3], ""], _CORPUS, 8, seed=0)
    np.testing.assert_allclose(items[3], 0, atol=1e-7)
    np.testing.assert_allclose(users[2], 0, atol=1e-7)


@pytest.mark.parametrize("texts", [["", "", "", ""], ["the same"] * 4, ["a", "b", "c", "d"], ["hat", "", "", ""]])
def test_texts_that_tell_nothing_apart_are_an_error(texts):
    with pytest.raises(InputError, match=r"items.jsonl: the texts of its 4 items .*item_emb.npy"):
        tfidf(texts, _CORPUS, 8, seed=0)


def test_texts_may_come_one_by_one_and_users_in_blocks(monkeypatch):
    whole = tfidf(_TEXTS, _CORPUS, 8, seed=0)
    monkeypatch.setattr(encoder, "_BLOCK", 2)
    for got, wanted in zip(tfidf(iter(_TEXTS), _CORPUS, 8, seed=0), whole, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_an_error_of_the_texts_is_told_as_it_is():
    def texts():
        yield _TEXTS[0]
        raise InputError("items.jsonl, line 2: no title")

    with pytest.raises(InputError, match="^items.jsonl, line 2: no title$"):
        tfidf(texts(), _CORPUS, 8, seed=0)
