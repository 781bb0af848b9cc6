import collections

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llmesr_jax.data.corpus import from_pairs
from llmesr_jax.semantic import texts
from llmesr_jax.semantic.encoders import Clipped
from llmesr_jax.semantic.prompts import item_prompt, user_prompt
from llmesr_jax.semantic.store import KEY
from llmesr_jax.semantic.texts import Wording, key_of, plan


def _corpus(titles, users=1):
    items = np.tile(np.arange(1, len(titles) + 1), users)
    records = tuple({"item_id": i, "title": title} for i, title in enumerate(titles, 1))
    return from_pairs("toy", np.repeat(np.arange(1, users + 1), len(titles)), items, item_records=records)


def _keys(texts_N):
    return np.frombuffer(b"".join(key_of(text) for text in texts_N), KEY)


_TITLES = st.sampled_from(["", "hat", "comb", "lamp", "half \ud83d"])


@given(st.lists(_TITLES, min_size=3, max_size=12), st.integers(1, 3))
def test_the_plan_names_each_text_once(titles, users):
    corpus = _corpus(titles, users)
    told = [item_prompt({"title": t.replace("\ud83d", "?")}) for t in titles]
    history = [t.replace("\ud83d", "?") for t in titles[:-2] if t]
    told += [user_prompt(history) if history else ""] * users
    assert list(texts.stream(corpus, Wording())) == told
    got = plan(corpus, Wording(), Clipped, 0, 0)
    different = set(told) - {""}
    assert set(got.different_W.tolist()) == set(_keys(different).tolist())
    assert got.empty == told.count("")
    for text, which in zip(told, got.which_N):
        assert (which < 0) if not text else got.different_W[which].tobytes() == key_of(text)
    np.testing.assert_array_equal(got.first_W, [told.index(told[n]) for n in got.first_W])


def test_tokens_are_those_of_each_different_text_and_cuts_are_counted():
    corpus = _corpus(["hat", "hat", "", "a much longer hat"])
    got = plan(corpus, Wording(item_template="{title}", user_template="{titles}"), _clip, 0, 0)
    found = {key.tobytes(): int(count) for key, count in zip(got.different_W, got.tokens_W)}
    assert found == {key_of("hat"): 3, key_of("a muc"): 5, key_of("hat, "): 5}
    assert (got.cut, got.empty, got.num_items) == (2, 1, 4)


def _clip(text):
    return Clipped(text[:5], len(text[:5]), len(text) > 5)


def test_a_plan_of_new_rows_only():
    corpus = _corpus(["hat", "comb", "lamp"], users=3)
    got = plan(corpus, Wording(), Clipped, 2, 1)
    assert (got.num_items, len(got.which_N)) == (1, 3)
    np.testing.assert_array_equal(got.keys_N, _keys([item_prompt({"title": "lamp"}), *[user_prompt(["hat"])] * 2]))


@given(st.lists(st.text(max_size=3)), st.lists(st.text(max_size=3)))
def test_places(known, wanted):
    known = [text for text in known if text.isprintable()]
    wanted = [text for text in wanted if text.isprintable()]
    different = np.unique(_keys(known))
    for text, place in zip(wanted, texts.places(different, _keys(wanted)), strict=True):
        assert (place < 0) == (text not in known)
        assert place < 0 or different[place].tobytes() == key_of(text)


@given(st.lists(_TITLES, min_size=3, max_size=12))
def test_texts_that_items_share_are_counted(titles):
    sendable = [title.replace("\ud83d", "?") for title in titles]
    times = collections.Counter(title for title in sendable if title)
    shared = [count for count in times.values() if count > 1]
    wanted = texts.TextCounts(sendable.count(""), len(shared), sum(shared))
    corpus = _corpus(titles)
    assert texts.text_counts(corpus) == texts.text_counts(corpus, Wording("{title}")) == wanted
    told = [item_prompt({"title": title}) for title in sendable]
    for key, text in zip(texts.item_keys(corpus), told, strict=True):
        assert key.tobytes() == (key_of(text) if text else bytes(16))
