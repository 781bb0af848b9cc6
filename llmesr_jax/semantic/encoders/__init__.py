"""Encoders, which make vectors of texts: one file per encoder, found by its name (`--encoder=tfidf`).

Such a file has the members of `OfTexts` or `OfCorpus`.

If `TAKES` is "texts", the caller (`llmesr_jax.semantic.embed`) sends each non-empty text once, stores vectors as they
arrive, continues after an interruption, and writes the files. If it is "corpus", all vectors are made at once. Both
raise `InputError` if the user must act. Modules that take long to import are imported inside functions, so that
`--help` lists the flags of all encoders quickly.
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
    """Thrown into an `Encode` generator that must send nothing more.

    The generator may yield pending answers, and then ends; a generator that does not catch `Stop` ends at once.
    """


class Text(NamedTuple):
    """A text to encode; `key` identifies it in the store, `tokens` is their number or an estimate, for the limits."""

    key: bytes
    text: str
    tokens: int


class Clipped(NamedTuple):
    """A text as it is sent to the encoder.

    Attributes:
      text: as it is sent.
      tokens: number of its tokens, or an estimate if they cannot be counted here.
      cut: whether the text was cut.
    """

    text: str
    tokens: int = 0
    cut: bool = False


class Cost(NamedTuple):
    """What an encoder reports before it spends money.

    Attributes:
      text: one line: the cost, and the prices.
      ask: whether to ask the user.
    """

    text: str
    ask: bool


class Answer(NamedTuple):
    """Vectors that arrived.

    Attributes:
      keys: of their texts, in any order.
      vectors: (len(keys), F) float32.
      failed: key -> reason, for texts that have no usable vector and will get none.
    """

    keys: list[bytes]
    vectors: np.ndarray
    failed: Mapping[bytes, str] = MappingProxyType({})


NOTHING = Answer([], np.empty((0, 0), np.float32))
# (pending texts, a folder for the encoder's own files, F or None if it is not known) -> answers, in any order. While it
# waits for a server, it yields `NOTHING` from time to time, so that the caller can throw `Stop`.
Encode = Callable[[Iterable[Text], Path, int | None], Generator[Answer, None, None]]


class TextEncoder(NamedTuple):
    """A running encoder.

    Attributes:
      identity: what the vectors depend on besides the text, for the manifest; equal identities give equal vectors.
      ready: called with F, or None if it is not known, before anything is sent, but not in a dry run; raises InputError
        if something is missing, such as a key.
      source: where the vectors come from, such as a server's address. It is recorded, and a run continues only vectors
        of the same source.
      encode: see `Encode`. It may leave texts out, and is then called again with those; a call that leaves all of them
        out ends the run with an error. Rows of zeros, NaN or infinity count as failed.
      width: F if it is known before the first vector, else None.
      clip: a text -> the part of it that is sent.
      most_tokens: the limit of `clip`, if any, and how tokens are counted, if not by the model's own vocabulary.
      shortened: the store's folder -> keys, in hex, of the texts that were cut because the server refused them whole.
      cost: (number of texts, number of their tokens) -> the report before anything is sent; None: it costs nothing.
      notes: () -> entries for the manifest, after the run, on which the vectors do not depend.
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
    """What the file of an encoder must have if a text's vector depends on that text alone."""

    @property
    def Config(self) -> type:
        """Frozen dataclass of knobs; each field is a flag of `launch.embed` by its name."""
        ...

    @property
    def TAKES(self) -> str:
        """What the encoder takes: "texts"."""
        ...

    def load(self, config: Any, /) -> TextEncoder:
        """The running encoder; raises InputError if the user must act."""
        ...


class OfCorpus(Protocol):
    """What the file of an encoder must have if its vectors depend on all texts, or on none.

    It may also have `UNKNOWN_WORDS = True` if a text without known words gets a vector of zeros: then such vectors are
    not an error.
    """

    @property
    def Config(self) -> type:
        """As that of `OfTexts`."""
        ...

    @property
    def TAKES(self) -> str:
        """What the encoder takes: "corpus"."""
        ...

    def identity(self, config: Any, /) -> dict[str, Any]:
        """What the vectors depend on besides the corpus, for the manifest."""
        ...

    def embed(self, corpus: Corpus, texts_V: Iterable[str], config: Any, /) -> tuple[np.ndarray, np.ndarray | None]:
        """Float vectors (V, F) of the items, and (U, F) of the users; None for users who are means of their items.

        Args:
          corpus: the interactions.
          texts_V: the text of each item, "" without one, in order of id; reading raises InputError if there are none.
          config: the encoder's `Config`.
        """
        ...


PLUGINS: Plugins[Any] = Plugins("encoder", __name__, form="TAKES", forms={"texts": OfTexts, "corpus": OfCorpus})
