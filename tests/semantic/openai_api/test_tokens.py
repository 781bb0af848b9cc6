import hashlib
import re
import sys
import tempfile
import types
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmesr_jax.core.errors import InputError
from llmesr_jax.semantic.encoders import Clipped, Text
from llmesr_jax.semantic.openai_api import tokens
from llmesr_jax.semantic.openai_api.tokens import pack

_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(_TEXT, st.integers(1, 4))
def test_where_the_server_counts_no_more_is_sent_than_any_language_needs(text, most):
    got = tokens.counting("", most, of_openai=False)
    assert (got.by, got.exact) == ("the server", False)
    clipped = got.clip(text)
    assert clipped == (text[: 8 * most], min(tokens.estimate(clipped.text), most), len(text) > 8 * most)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("a", 1),
        ("eight   ", 2),
        ("a" * 9, 3),
        ("\N{EURO SIGN}" * 4, 5),
        ("\N{CYRILLIC SMALL LETTER A}" * 4, 3),
    ],
)
def test_without_a_tokenizer_tokens_are_estimated_from_characters(text, count):
    """A quarter for each character, and a half for each byte beyond one a character."""
    assert tokens.estimate(text) == count


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


def test_openai_models_are_counted_exactly_where_the_vocabulary_is(tiktoken):
    assert not tokens.vocabulary_is_here()
    assert tokens.counting("", 9, of_openai=True).clip("four") == Clipped("four", 1)
    with pytest.raises(
        InputError, match="--tokenizer=cl100k_base: tiktoken or its vocabulary is not installed; run pip"
    ):
        tokens.counting("cl100k_base", 9, of_openai=False)
    (tiktoken / hashlib.sha1(tokens._ADDRESS.format("cl100k_base").encode()).hexdigest()).touch()
    assert tokens.vocabulary_is_here()
    assert tokens.counting("", 9, of_openai=False).by == "the server"
    for got in (tokens.counting("", 3, of_openai=True), tokens.counting("cl100k_base", 3, of_openai=False)):
        assert got.exact and got.clip("four") == Clipped("four", 2)
        assert got.clip("a longer text") == Clipped("a long", 3, cut=True)
        assert got.clip("aaa\N{EURO SIGN}a") == Clipped("aaa\N{EURO SIGN}", 3, cut=True)
    clip = tokens.counting("", 2, of_openai=True).clip
    assert clip("aaa\N{EURO SIGN}a") == Clipped("aaa", 2, cut=True)  # no half of a character


class _Words:
    """A `tokenizers.Tokenizer` whose tokens are words; it adds two to a text."""

    @classmethod
    def from_file(cls, path):
        if not Path(path).read_text():
            raise Exception("EOF while parsing")
        return cls()

    def no_truncation(self):
        pass

    no_padding = no_truncation

    def num_special_tokens_to_add(self, is_pair):
        assert not is_pair
        return 2

    def encode(self, text, add_special_tokens):
        assert not add_special_tokens
        found = list(re.finditer(r"\S+", text))
        return types.SimpleNamespace(ids=[0] * len(found), offsets=[match.span() for match in found])


def test_a_tokenizer_of_the_model_counts_with_what_it_adds(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tokenizers", types.SimpleNamespace(Tokenizer=_Words))
    (tmp_path / "tokenizer.json").write_text("{}")
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        got = tokens.counting(str(path), 5, of_openai=True)
        assert got.exact and got.by == f"tokenizer.json {hashlib.sha256(b'{}').hexdigest()[:12]}"
        assert got.clip("one two three") == Clipped("one two three", 5)
        assert got.clip("one  two three four") == Clipped("one  two three", 5, cut=True)
    with pytest.raises(InputError, match="--max_tokens=2: the tokenizer adds 2 tokens to each text"):
        tokens.counting(str(tmp_path), 2, of_openai=False)
    (tmp_path / "tokenizer.json").write_text("")
    with pytest.raises(InputError, match=r"tokenizer.json: cannot be read \(EOF while parsing\); expected a model's"):
        tokens.counting(str(tmp_path), 5, of_openai=False)
    with pytest.raises(InputError, match="nowhere: no such file; expected the tokenizer.json of the model"):
        tokens.counting(str(tmp_path / "nowhere"), 5, of_openai=False)


def test_a_real_tokenizer():
    library = pytest.importorskip("tokenizers")
    folder = Path(tempfile.mkdtemp())
    words = {word: n for n, word in enumerate(["[UNK]", "[CLS]", "[SEP]", "red", "blue", "mug"])}
    made = library.Tokenizer(library.models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = library.pre_tokenizers.Whitespace()
    made.post_processor = library.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    made.save(str(folder / "tokenizer.json"))
    clip = tokens.counting(str(folder), 4, of_openai=False).clip
    assert clip("red mug") == Clipped("red mug", 4)
    assert clip("blue mug, red") == Clipped("blue mug", 4, cut=True)


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
