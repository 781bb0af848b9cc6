"""What makes vectors of texts: one file an encoder, found by its name (`--encoder=tfidf`).

What such a file has is `OfTexts` or `OfCorpus`.

With "texts", the caller (`llmesr_jax.semantic.embed`) sends each text once and no empty one, stores vectors as they
come, continues after an interruption, and writes the files. With "corpus", the vectors are made in one go.
Both raise `InputError` where the user has to do something. Modules beside them that are heavy to import are imported
inside of functions, so that the flags of all encoders are known quickly.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from llmesr_jax.core.plugins import Plugins

if TYPE_CHECKING:
    from llmesr_jax.data.corpus import Corpus


class Stop(Exception):
    """Thrown into an `Encode` generator that is to send nothing more.

    It may give the answers that are under way, and then ends; one that knows nothing of it ends at once.
    """


class Text(NamedTuple):
    """A text on its way: `key` names it in the store, `tokens` is what it counts towards the encoder's limits."""

    key: bytes
    text: str
    tokens: int


class Clipped(NamedTuple):
    """A text as the encoder takes it.

    Attributes:
      text: as it is sent.
      tokens: that it has, or has about, where they cannot be counted here.
      cut: something was cut off.
    """

    text: str
    tokens: int = 0
    cut: bool = False


class Cost(NamedTuple):
    """What an encoder asks before it spends.

    Attributes:
      text: one line: how much, by which prices.
      ask: a question is due.
    """

    text: str
    ask: bool


class Answer(NamedTuple):
    """Vectors that came.

    Attributes:
      keys: of their texts, in any order.
      vectors: (len(keys), F) float32.
      failed: key -> reason, of texts that have no usable vector and will have none.
    """

    keys: list[bytes]
    vectors: np.ndarray
    failed: Mapping[bytes, str] = MappingProxyType({})


NOTHING = Answer([], np.empty((0, 0), np.float32))
# Pending texts, a folder for the encoder's own files, F if it is known -> answers in any order. `NOTHING` may come as
# well, while a server is waited for: the caller then looks whether it is to `Stop`.
Encode = Callable[[Iterable[Text], Path, int | None], Generator[Answer, None, None]]


class TextEncoder(NamedTuple):
    """An encoder at work.

    Attributes:
      identity: what the vectors depend on besides the text, for the manifest; equal identities give equal vectors.
      ready: called with F, where it is known, before anything is sent, but not before a dry run; raises InputError for
        what is missing for it.
      source: where they come from, such as a server's address: for the record, and to tell interrupted runs apart.
      encode: see `Encode`. It may leave texts out, and is then called again with those; a call that gives none at all
        ends the run. Rows of zeros, NaN or infinity are taken for failed.
      width: F where it is known before the first vector, else None.
      clip: a text -> what is sent of it.
      most_tokens: what `clip` cuts at, if it does; with the way of counting, where that is not by a vocabulary.
      shortened: the store's folder -> keys, in hex, of the texts whose end the server had no room for.
      cost: (texts, their tokens) -> what is said before anything is sent; None: it costs nothing.
      notes: for the manifest, after the run; nothing that decides about the vectors.
    """

    identity: dict[str, str | int | None]
    encode: Encode
    ready: Callable[[int | None], None] = lambda width: None
    source: str = ""
    width: int | None = None
    clip: Callable[[str], Clipped] = Clipped
    most_tokens: int | str | None = None
    shortened: Callable[[Path], set[str]] = lambda folder: set()
    cost: Callable[[int, int], Cost | None] = lambda texts, tokens: None
    notes: Callable[[], dict[str, Any]] = dict


class OfTexts(Protocol):
    """What the file of an encoder has whose vector of a text depends on that text alone."""

    @property
    def Config(self) -> type:
        """Frozen dataclass; every field a `knob(default, help)`, a flag of `launch.embed` by its name."""
        ...

    @property
    def TAKES(self) -> str:
        """ "texts"."""
        ...

    def load(self, config: Any, /) -> TextEncoder:
        """The encoder at work; raises InputError where the user has to do something."""
        ...


class OfCorpus(Protocol):
    """What the file of an encoder has whose vectors depend on all texts, or on none.

    It may also have `UNKNOWN_WORDS = True`, where a text without known words has a vector of zeros: then these are
    counted, not refused.
    """

    @property
    def Config(self) -> type:
        """As that of `OfTexts`."""
        ...

    @property
    def TAKES(self) -> str:
        """ "corpus"."""
        ...

    def identity(self, config: Any, /) -> dict[str, Any]:
        """What the vectors depend on besides the corpus, for the manifest."""
        ...

    def embed(self, corpus: Corpus, texts_V: Iterable[str], config: Any, /) -> tuple[np.ndarray, np.ndarray | None]:
        """(V, F) of the items and (U, F) of the users, or None: then a user is the mean of the items."""
        ...


PLUGINS: Plugins[Any] = Plugins("encoder", __name__, form="TAKES", forms={"texts": OfTexts, "corpus": OfCorpus})
