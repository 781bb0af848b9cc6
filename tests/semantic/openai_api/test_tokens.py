import hashlib
import sys
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmesr_jax.semantic.encoders import Clipped, Text
from llmesr_jax.semantic.openai_api import tokens
from llmesr_jax.semantic.openai_api.tokens import pack

_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(_TEXT, st.integers(1, 20))
def test_bytes_bound_tokens_and_cuts_keep_whole_characters(text, most):
    got = tokens.clipper(most, exact=False, refusable=False)(text)
    size = len(text.encode())
    assert text.startswith(got.text) and got.cut == (size > most)
    assert got.tokens == min(size, most) >= len(got.text.encode()) > min(size, most) - 4
    assert got.likely == got.tokens / 4


@given(_TEXT, st.integers(1, 4))
def test_where_the_server_counts_no_more_is_sent_than_any_language_needs(text, most):
    got = tokens.clipper(most, exact=False)(text)
    size = len(got.text.encode())
    assert got == (text[: 8 * most], size, min(size / 4, most), len(text) > 8 * most)


class _Pairs:
    """An encoding whose tokens are pairs of bytes; the last may be single."""

    def encode_ordinary(self, text):
        content = text.encode()
        return [content[i : i + 2] for i in range(0, len(content), 2)]

    def decode_bytes(self, parts):
        return b"".join(parts)


@pytest.fixture
def tiktoken(monkeypatch, tmp_path):
    """A stand-in whose vocabulary is in the folder `tmp_path`."""
    module = types.SimpleNamespace(get_encoding={"cl100k_base": _Pairs()}.__getitem__)
    monkeypatch.setitem(sys.modules, "tiktoken", module)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    return tmp_path


def test_exact_counts_only_where_the_vocabulary_is(tiktoken):
    assert not tokens.vocabulary_is_here()
    assert tokens.clipper(9, exact=True)("four") == Clipped("four", 4, 1.0)
    (tiktoken / hashlib.sha1(tokens._ADDRESS.encode()).hexdigest()).touch()
    assert tokens.vocabulary_is_here()
    assert tokens.clipper(9, exact=True)("four") == Clipped("four", 2, 2)
    assert tokens.clipper(9, exact=False)("four") == Clipped("four", 4, 1.0)
    assert tokens.clipper(3, exact=True)("a longer text") == Clipped("a long", 3, 3, cut=True)
    assert tokens.clipper(2, exact=True)("aaa\N{EURO SIGN}a") == Clipped("aaa", 2, 2, cut=True)


@given(st.lists(st.integers(1, 30), max_size=30), st.integers(1, 5), st.integers(1, 60))
def test_requests_keep_both_limits_and_every_text(sizes, most_texts, most_tokens):
    texts = [Text(bytes([n]), str(n), size) for n, size in enumerate(sizes)]
    requests = list(pack(iter(texts), most_texts, most_tokens))
    assert [text for request in requests for text in request] == texts
    for request in requests:
        assert 1 <= len(request) <= most_texts
        assert len(request) == 1 or sum(text.tokens for text in request) <= most_tokens
    for one, other in zip(requests, requests[1:]):  # none could have taken the next one's first
        assert len(one) == most_texts or sum(text.tokens for text in one) + other[0].tokens > most_tokens
