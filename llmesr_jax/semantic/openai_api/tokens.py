"""Counting tokens, and cutting texts that have too many.

With tiktoken, if it is installed and its vocabulary is on this machine (it would be fetched from the network, which is
not done here unasked), counts of OpenAI's models are exact. Else only the server can count. A text is sent as it is, up
to eight characters for each token that is allowed, more than any language has; where that is too much, the server says
so (`limits`). A batch is answered hours later, so there the UTF-8 bytes of a text stand for its tokens: every token of
the usual vocabularies covers at least one byte, so no limit is ever passed. English has about four bytes a token, which
is what the price is estimated by.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from llmesr_jax.semantic.encoders import Clipped, Text

_BYTES_A_TOKEN = 4
_CHARACTERS_A_TOKEN = 8
# Of all of OpenAI's embedding models; tiktoken keeps the file under the SHA-1 of its address.
_VOCABULARY = "cl100k_base"
_ADDRESS = f"https://openaipublic.blob.core.windows.net/encodings/{_VOCABULARY}.tiktoken"


def clipper(max_tokens: int, exact: bool, refusable: bool = True) -> Callable[[str], Clipped]:
    """A function that cuts a text to `max_tokens`.

    Args:
      exact: the model's vocabulary is tiktoken's; it counts where `vocabulary_is_here()`.
      refusable: a text that turns out too long can be shortened and sent again.
    """
    if exact and vocabulary_is_here():
        import tiktoken

        return _exact(tiktoken.get_encoding(_VOCABULARY), max_tokens)
    if refusable:
        return lambda text: _by_characters(text, max_tokens)
    return lambda text: _by_bytes(text, max_tokens)


def vocabulary_is_here() -> bool:
    """tiktoken is installed, and so is its vocabulary."""
    try:
        import tiktoken  # noqa: F401
    except ImportError:
        return False
    places = [os.environ[name] for name in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR") if name in os.environ]
    places.append(os.path.join(tempfile.gettempdir(), "data-gym-cache"))
    return bool(places[0]) and Path(places[0], hashlib.sha1(_ADDRESS.encode()).hexdigest()).is_file()


def _by_characters(text: str, max_tokens: int) -> Clipped:
    sent = text[: max_tokens * _CHARACTERS_A_TOKEN]
    size = len(sent.encode())
    return Clipped(sent, size, min(size / _BYTES_A_TOKEN, max_tokens), cut=len(sent) < len(text))


def _by_bytes(text: str, max_tokens: int) -> Clipped:
    content = text.encode()
    if len(content) <= max_tokens:
        return Clipped(text, len(content), len(content) / _BYTES_A_TOKEN)
    text = content[:max_tokens].decode(errors="ignore")
    return Clipped(text, max_tokens, max_tokens / _BYTES_A_TOKEN, cut=True)


def _exact(encoding, max_tokens: int) -> Callable[[str], Clipped]:
    def clip(text: str) -> Clipped:
        tokens, kept = encoding.encode_ordinary(text), max_tokens
        if len(tokens) <= max_tokens:
            return Clipped(text, len(tokens), len(tokens))
        cut = tokens
        while len(cut) > max_tokens:  # a cut within a character may make other tokens, and one more of them
            text = encoding.decode_bytes(tokens[:kept]).decode(errors="ignore")
            cut, kept = encoding.encode_ordinary(text), kept - 1
        return Clipped(text, len(cut), len(cut), cut=True)

    return clip


def pack(texts: Iterable[Text], most_texts: int, most_tokens: int) -> Iterator[list[Text]]:
    """Requests: as many texts, in order, as both limits allow; a text over the limit of tokens goes alone."""
    request, tokens_in = [], 0
    for text in texts:
        if request and (len(request) == most_texts or tokens_in + text.tokens > most_tokens):
            yield request
            request, tokens_in = [], 0
        request.append(text)
        tokens_in += text.tokens
    if request:
        yield request
