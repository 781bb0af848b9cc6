"""Reduces requests that are too large for a server.

Servers count tokens by their own vocabularies, which are not known here. So texts are sent as they are. If a server
refuses a request for its size, the request is halved, down to a single text that is too long. That text is shortened by
the numbers in the refusal, or else by half, until the server accepts it. Refusals cost nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from llmesr_jax.core.errors import ServerError
from llmesr_jax.semantic.encoders import Text

_STATUSES = frozenset({400, 413, 422, 500})  # llama.cpp says 500
_MOST_CUTS = 12  # of one text
_PATIENT_CUTS = 6  # by the numbers in the refusal; further cuts are to a half or less
_FILE = "shortened"

_TOO_MUCH = re.compile(
    r"context[ _-]?(length|size|window)|too (long|large|big|many)|batch[ _]size|reduce the (length|input)|exceed"
    r"|(less|fewer|longer|larger|greater) than|max(imum)?[ _](allowed|number|input|length|token|sequence)"
    r"|(token|length|size) limit",
    re.IGNORECASE,
)
_SENT = re.compile(r"token|context|input|text|prompt|length|batch|payload|entity|array", re.IGNORECASE)
_OTHER = re.compile(
    r"dimension|quota|rate.?limit|per (minute|day)|deadline|time.?out|timed|memory|concurren|credit|billing|budget",
    re.IGNORECASE,
)
_OF_TEXTS = re.compile(r"batch[ _]size|number of (inputs|texts)|too many inputs|array", re.IGNORECASE)
_ASIDE = re.compile(r"<\d+>|\((?![^()]*(?:token|size|length))[^()]*\)", re.IGNORECASE)  # "(0 for the completion)"
_NUMBER = re.compile(r"(?<![\w.\[-])\d[\d,]*(?![\w\]-]|\.\d)")
_LEAST = 16  # tokens: no model's limit is lower


class TooMuch(ServerError):
    """The server refuses a request for its size.

    Attributes:
      said: the server's own sentence.
    """

    def __init__(self, message: str, said: str):
        super().__init__(message)
        self.said = said


def is_too_much(status: int, said: str) -> bool:
    """Whether a refusal with this status and sentence is about the size of the request."""
    if status not in _STATUSES or _OTHER.search(said):
        return False
    return status == 413 or bool(_TOO_MUCH.search(said) and _SENT.search(said))


def counts(said: str) -> list[int]:
    """The counts in a refusal; numbers in names, indices in brackets and asides are left out."""
    return [int(match[0].replace(",", "")) for match in _NUMBER.finditer(_ASIDE.sub("", said))]


def kept_share(said: str, most_tokens: int, size: int) -> float:
    """The share of a text that a server accepts, by the counts in its refusal; a half if there are none.

    Args:
      said: the refusal, as "maximum context length is 512 tokens, however you requested 1630 tokens".
      most_tokens: the user's own limit.
      size: bytes of the text; a token has at least one, so a higher count is not that of the text.
    """
    found = [count for count in counts(said) if count >= _LEAST]
    limit, requested = min(found, default=0), max(found, default=0)
    if not limit < requested <= size + _LEAST:  # servers add a few tokens to a text
        return 0.5
    return (min(limit, most_tokens) if "token" in said.lower() else limit) / requested


class Room:
    """The limits found for a server, and the texts that were shortened for it.

    Attributes:
      most_texts: maximum number of texts in one request.
    """

    def __init__(self, folder: Path, most_texts: int, most_tokens: int):
        self.most_texts = most_texts
        self._file, self._most_tokens = folder / _FILE, most_tokens
        self._refused: float = float("inf")  # tokens, as counted here, of the shortest text that was refused
        self._cuts: dict[bytes, tuple[int, int]] = {}  # how often a text was cut, and its bytes since

    def split(self, request: list[Text]) -> list[list[Text]]:
        """The request in parts of at most `most_texts`; texts as long as one that was refused are sent alone."""
        if len(request) == 1:
            return [request]
        long = [text.tokens >= self._refused for text in request]
        others = [text for text, is_long in zip(request, long) if not is_long]
        parts = [others[i : i + self.most_texts] for i in range(0, len(others), self.most_texts)]
        return [*parts, *([text] for text, is_long in zip(request, long) if is_long)]

    def less(self, request: list[Text], refusal: TooMuch) -> list[list[Text]]:
        """What to send instead of a request that was refused.

        Raises:
          ServerError: nothing less can be sent.
        """
        if len(request) > 1:
            named = [count for count in counts(refusal.said) if 0 < count < len(request)]
            if named and _OF_TEXTS.search(refusal.said):
                self.most_texts = min(self.most_texts, max(named))
                return self.split(request)
            by_length = sorted(request, key=lambda text: text.tokens)
            half = len(request) // 2
            return [by_length[:half], by_length[half:]]
        (text,) = request
        content = text.text.encode()
        cuts, size = self._cuts.get(text.key, (0, 0))
        if len(content) != size:  # the text was not cut before
            cuts, self._refused = 0, min(self._refused, text.tokens)
        # In bytes: in a text with several scripts, they are closer to tokens than characters are.
        share = kept_share(refusal.said, self._most_tokens, len(content))
        share = min(share, 0.98 if cuts < _PATIENT_CUTS else 0.5)
        shorter = content[: int(len(content) * share)].decode(errors="ignore")
        if cuts == _MOST_CUTS or not shorter.strip():
            raise ServerError(
                f"{refusal}: the server refuses even a text cut to {len(text.text):,} characters "
                f"({text.text[:40]!r}); check --model and the server's own limits"
            )
        self._cuts[text.key] = cuts + 1, len(shorter.encode())
        return [[text._replace(text=shorter)]]

    def taken(self, request: Sequence[Text]) -> None:
        """Notes the texts of an answered request that were shortened."""
        if short := [text.key.hex() for text in request if text.key in self._cuts]:
            with self._file.open("a") as file:
                file.writelines(f"{key}\n" for key in short)


def shortened(folder: Path) -> set[str]:
    """Keys, in hex, of the texts that were shortened for the server, in this run and the runs that it continues.

    Args:
      folder: of the store.
    """
    try:
        return set((folder / _FILE).read_text().split())
    except FileNotFoundError:
        return set()
