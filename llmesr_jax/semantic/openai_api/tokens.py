"""Counts tokens, and cuts texts that have too many.

Tokens are counted by the model's own tokenizer if it is named (`--tokenizer`), or by tiktoken for OpenAI's models, if
it is installed and its vocabulary is already on this machine: a vocabulary is not downloaded unless the user does so.
Else only the server can count. Then a text is sent with up to eight characters for each allowed token, which is more
than any language has, and if that is too much, the server refuses it (`limits`). The estimate, by which the price is
announced and requests are filled, is then a quarter of a token for each character, and half a token for each byte that
UTF-8 needs beyond one per character.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from llmesr_jax.core import files
from llmesr_jax.core.errors import InputError
from llmesr_jax.semantic.encoders import Clipped, Text

_CHARACTERS_A_TOKEN = 8
_VOCABULARY = "cl100k_base"  # of all of OpenAI's embedding models
# tiktoken keeps a vocabulary under the SHA-1 of its address.
_ADDRESS = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
_NAMES = ("cl100k_base", "o200k_base", "p50k_base", "r50k_base")


class Counting(NamedTuple):
    """A way of counting tokens.

    Attributes:
      clip: a text -> the part of it that is sent.
      by: the way of counting, for the manifest; None for the vocabulary of an OpenAI model.
      exact: whether the counts are those of the model.
    """

    clip: Callable[[str], Clipped]
    by: str | None
    exact: bool


def counting(tokenizer: str, max_tokens: int, of_openai: bool) -> Counting:
    """How to count, and to cut a text to `max_tokens`.

    Args:
      tokenizer: a `tokenizer.json`, its folder, or the name of a vocabulary of tiktoken; "" for none.
      max_tokens: maximum number of tokens of a text.
      of_openai: whether the model is one of OpenAI's, whose vocabulary tiktoken knows.

    Raises:
      InputError: the tokenizer cannot be loaded, or `max_tokens` is not more than the tokens that it adds to each text.
      OSError: the file of the tokenizer cannot be read.
    """
    if tokenizer in _NAMES:
        return Counting(_tiktoken(tokenizer, max_tokens), tokenizer, True)
    if tokenizer:
        path = Path(tokenizer).expanduser()
        path = path / "tokenizer.json" if path.is_dir() else path
        return Counting(_tokenizers(path, max_tokens), f"tokenizer.json {files.sha256(path)[:12]}", True)
    if of_openai and vocabulary_is_here():
        return Counting(_tiktoken(_VOCABULARY, max_tokens), None, True)
    return Counting(lambda text: _by_characters(text, max_tokens), "the server", False)


def vocabulary_is_here(name: str = _VOCABULARY) -> bool:
    """Whether tiktoken is installed and the vocabulary is on this machine."""
    try:
        import tiktoken  # noqa: F401
    except ImportError:
        return False
    places = [os.environ[name] for name in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR") if name in os.environ]
    places.append(os.path.join(tempfile.gettempdir(), "data-gym-cache"))
    address = _ADDRESS.format(name)
    return bool(places[0]) and Path(places[0], hashlib.sha1(address.encode()).hexdigest()).is_file()


def estimate(text: str) -> int:
    """An estimate of the number of a text's tokens."""
    characters = len(text)
    beyond = 0 if text.isascii() else len(text.encode()) - characters
    return -(-(characters + 2 * beyond) // 4)


def _by_characters(text: str, max_tokens: int) -> Clipped:
    sent = text[: max_tokens * _CHARACTERS_A_TOKEN]
    return Clipped(sent, min(estimate(sent), max_tokens), cut=len(sent) < len(text))


def _tiktoken(name: str, max_tokens: int) -> Callable[[str], Clipped]:
    if not vocabulary_is_here(name):
        raise InputError(
            f"--tokenizer={name}: tiktoken or its vocabulary is not installed; run pip install tiktoken, then once, "
            f"with a network, python -c \"import tiktoken; tiktoken.get_encoding('{name}')\""
        )
    import tiktoken

    encoding = tiktoken.get_encoding(name)

    def clip(text: str) -> Clipped:
        tokens, kept = encoding.encode_ordinary(text), max_tokens
        if len(tokens) <= max_tokens:
            return Clipped(text, len(tokens))
        cut = tokens
        while len(cut) > max_tokens:  # a text cut within a character may have other tokens, and more of them
            text = encoding.decode_bytes(tokens[:kept]).decode(errors="ignore")
            cut, kept = encoding.encode_ordinary(text), kept - 1
        return Clipped(text, len(cut), cut=True)

    return clip


def _tokenizers(path: Path, max_tokens: int) -> Callable[[str], Clipped]:
    """Counts by a `tokenizer.json`, as on the Hugging Face hub; the special tokens that it adds to a text count too."""
    if not path.is_file():
        raise InputError(
            f"--tokenizer={path}: no such file; expected the tokenizer.json of the model, its folder, or one of: "
            f"{', '.join(_NAMES)}"
        )
    try:
        import tokenizers
    except ImportError as error:
        raise InputError("--tokenizer: the package tokenizers is not installed; run pip install tokenizers") from error
    try:
        tokenizer: Any = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise InputError(f"--tokenizer={path}: cannot be read ({reason}); expected a model's tokenizer.json") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    added = tokenizer.num_special_tokens_to_add(False)
    most = max_tokens - added
    if most < 1:
        raise InputError(
            f"--max_tokens={max_tokens}: the tokenizer adds {added} tokens to each text; expected a larger limit"
        )

    def clip(text: str) -> Clipped:
        found = tokenizer.encode(text, add_special_tokens=False)
        count = len(found.ids)
        if count <= most:
            return Clipped(text, count + added)
        kept = most
        while count > most:  # a cut text may have other tokens, and more of them
            text, kept = text[: found.offsets[kept - 1][1]], kept - 1
            count = len(tokenizer.encode(text, add_special_tokens=False).ids)
        return Clipped(text, count + added, cut=True)

    return clip


def pack(texts: Iterable[Text], most_texts: int, most_tokens: int) -> Iterator[list[Text]]:
    """Requests with as many texts, in order, as both limits allow; a text over the token limit is sent alone."""
    request, tokens_in = [], 0
    for text in texts:
        if request and (len(request) == most_texts or tokens_in + text.tokens > most_tokens):
            yield request
            request, tokens_in = [], 0
        request.append(text)
        tokens_in += text.tokens
    if request:
        yield request
