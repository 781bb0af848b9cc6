"""Search of a catalogue by words, fast enough for every key that the user types."""

from __future__ import annotations

import bisect
import itertools
import unicodedata

from llmesr_jax.serving.catalogue import Catalogue

_MOST_WORDS = 10
_BETWEEN = "\0"


class Titles:
    """The items' titles and ids as one text, in which a word is found without a loop over the items."""

    def __init__(self, catalogue: Catalogue):
        self._rows = catalogue.by_popularity.tolist()
        self._texts = [_folded(f"{catalogue.title(row)} {catalogue.ids[row]}") for row in self._rows]
        self._numbers = catalogue.numbers
        self._whole = _BETWEEN.join(self._texts)
        self._starts = list(itertools.accumulate((len(text) + 1 for text in self._texts), initial=0))

    def find(self, query: str, most: int) -> list[int]:
        """Rows of items whose title or id has all words, most training interactions first, at most so many.

        An item whose id is the whole query comes first.
        """
        words = _folded(query).split()[:_MOST_WORDS]
        if not words:
            return self._rows[:most]
        number = self._numbers.get(query.strip())
        found = [] if number is None else [number - 1]
        rarest = max(words, key=len)
        place = self._whole.find(rarest)
        while place >= 0 and len(found) < most:
            n = bisect.bisect_right(self._starts, place) - 1
            if self._rows[n] not in found and all(word in self._texts[n] for word in words):
                found.append(self._rows[n])
            place = self._whole.find(rarest, self._starts[n + 1])
        return found


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().replace(_BETWEEN, " ")
