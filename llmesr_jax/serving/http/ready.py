"""A bundle that answers any request by programs of a few shapes, all compiled before the first request."""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import msgspec
import numpy as np

from llmesr_jax.serving import bundle, index
from llmesr_jax.serving.http import schema
from llmesr_jax.serving.http.titles import Titles
from llmesr_jax.serving.index import Hidden, Top
from llmesr_jax.serving.model import Allowed, Options, ServedModel
from llmesr_jax.serving.programs import Programs

BATCHES = (1, 4, 16, 64)
# Two kinds of search are compiled. The short one is for lists of up to 16 items without conditions, after histories of
# up to 64 items on average. The long one is for everything else.
SHORT, _SHORT_HIDDEN = 16, 64
_LONG, _LONG_HIDDEN = 1024, 1024
_LONG_BATCHES = BATCHES[:3]
_AT_ONCE = BATCHES[:2]  # batches of so few plain requests are answered by one program; larger ones gain nothing by it
_MOST_KEPT, _KEPT_BYTES = 128, 1 << 26  # limits of the cache of allowed items


class _Programs(Programs):
    """`Programs` that encode at most 64 histories at a time, so that no other size is ever compiled."""

    def users(self, views: Any, histories: Sequence[np.ndarray], most: int = BATCHES[-1]) -> np.ndarray:
        return super().users(views, histories, min(most, BATCHES[-1]))


@dataclasses.dataclass(frozen=True, eq=False)
class Ready(ServedModel):
    """A served model with the answers of `ServedModel`, whose programs are compiled beforehand: see `warmed`.

    Attributes:
      digest: of the bundle's manifest.
      titles: search of the catalogue.
      kept: a cache: digest of options -> the items that they allow; the most recently used one is the last.
    """

    digest: str = ""
    titles: Titles | None = None
    kept: collections.OrderedDict[bytes, Allowed] = dataclasses.field(default_factory=collections.OrderedDict)

    def about_it(self, name: str) -> schema.About:
        """Its entry in /bundles."""
        known = {key: str(self.about.get(key, "")) for key in ("method", "backbone", "dataset")}
        return schema.About(
            name,
            len(self.catalogue),
            **known,
            views=[*self.view_names, "both"] + (["embedding"] if self.embeddings_VxF is not None else []),
            longest=self.programs.longest,
            diversity=self.embeddings_VxF is not None,
        )

    def allowed(self, options: Options) -> tuple[Options, Allowed]:
        """As `check`, for options within the bounds of `schema`; results for the same lists and conditions are cached.

        Raises:
          InputError: see `check`.
        """
        limited = bool(options.where or options.deny or options.allow is not None)
        if not (limited or options.tail_share or options.diversity):
            return options, self._plain
        asked = [options.where, options.allow, options.deny, bool(options.tail_share), bool(options.diversity)]
        key = hashlib.sha256(msgspec.json.encode(asked)).digest()
        if key in self.kept:
            self.kept.move_to_end(key)
            return options, self.kept[key]
        self.kept[key] = found = self.check(options)[1]
        while len(self.kept) > min(_MOST_KEPT, max(4, _KEPT_BYTES // (4 * len(self.catalogue)))):
            self.kept.popitem(last=False)
        return options, found

    @functools.cached_property
    def _plain(self) -> Allowed:
        return self.check(Options())[1]

    def rank_batch(self, histories: Sequence[np.ndarray], options: Options, allowed: Allowed) -> Top:
        """As in `ServedModel`; for a few plain requests, encoding and search are one program instead of two."""
        hidden = sum(map(len, histories)) if options.hide_seen else 0
        size = next((size for size in _AT_ONCE if size >= len(histories)), 0)
        limited = allowed.items_V is not None or options.tail_share or options.diversity or self.graph is not None
        if not size or limited or options.k > SHORT or hidden > size * _SHORT_HIDDEN:
            return super().rank_batch(histories, options, allowed)
        longest = min(max(map(len, histories)), self.programs.longest)
        length = next(length for length in sorted(self.programs.encode) if length >= longest)
        ids_BxL, lengths_B = np.zeros((size, length), np.int32), np.ones(size, np.int32)
        seen_BxL = np.zeros((size, size * _SHORT_HIDDEN), np.int32)
        for row, history in enumerate(histories):
            newest = history[-self.programs.longest :]
            ids_BxL[row, : len(newest)], lengths_B[row] = newest, len(newest)
            if options.hide_seen:
                seen_BxL[row, : len(history)] = history
        found = jax.device_get(self._answer[length](self.views_WxVxD, self._items, ids_BxL, lengths_B, seen_BxL))
        return Top(*(x[: len(histories), : options.k] for x in found))

    @functools.cached_property
    def _answer(self) -> dict[int, Any]:
        """{length: (view rows, item vectors, ids (B, length), lengths (B,), seen ids (B, n)) -> the best items}."""

        def of(encode: Any) -> Any:
            def answer(views, items_VxE, ids_BxL, lengths_B, seen_BxN):
                users = len(ids_BxL)
                rows_BxN = jnp.where(seen_BxN > 0, jnp.arange(users, dtype=jnp.int32)[:, None], users)
                pairs = rows_BxN.ravel(), jnp.maximum(seen_BxN - 1, 0).ravel()
                return index.traced(encode(views, ids_BxL, lengths_B), items_VxE, *pairs, None, SHORT)

            return jax.jit(answer)

        return {length: of(encode) for length, encode in self.programs.encode.items()}

    def _search(self, users_BxE: np.ndarray, k: int, hidden: Hidden, allowed: tuple[Any, Any]) -> Top:
        """As in `ServedModel`, by a compiled search for more items and more pairs, whose results are cut."""
        users, pairs = len(users_BxE), len(hidden.rows_P)
        size = next(size for size in BATCHES if size >= users)
        if k <= SHORT and allowed[1] is None and pairs <= size * _SHORT_HIDDEN:
            found = index.search(users_BxE, self._items, SHORT, _filled(hidden, size, size * _SHORT_HIDDEN))
            return Top(found.rows_BxK[:, :k], found.scores_BxK[:, :k])
        every = self._all if allowed[1] is None else allowed[1]
        parts = []
        for start in range(0, users, _LONG_BATCHES[-1]):
            of = users_BxE[start : start + _LONG_BATCHES[-1]]
            size = next(size for size in _LONG_BATCHES if size >= len(of))
            mine = (hidden.rows_P >= start) & (hidden.rows_P < start + len(of))
            own = Hidden(hidden.rows_P[mine] - start, hidden.columns_P[mine])
            parts.append(index.search(of, self._items, _LONG, _filled(own, size, size * _LONG_HIDDEN), every))
        rows, scores = (np.concatenate(x) for x in zip(*parts, strict=True))
        return Top(rows[:, :k], scores[:, :k])

    @functools.cached_property
    def _all(self) -> Any:
        return jnp.ones(len(self.catalogue), bool)

    def warmed(self) -> Ready:
        """Compiles and reads everything that a request may need."""
        self.warm(BATCHES)
        some = np.zeros((BATCHES[-1], self.items_VxE.shape[1]), np.float32)
        for size in BATCHES:
            self._search(some[:size], SHORT, index.NOTHING, (None, None))
        for size, length in itertools.product(_AT_ONCE, sorted(self.programs.encode)):
            self.rank([np.ones(length, np.int32)] * size, *self.allowed(Options()))
        for size in _LONG_BATCHES:
            self._search(some[:size], _LONG, index.NOTHING, (None, None))
        item = self.catalogue.ids[0]
        self.explain([item], item)
        for view in self.about_it("").views:
            self.similar_items(item, 1, view)
        if self.catalogue.records is not None and len(self.catalogue.records):
            self.catalogue.records[0]  # reads and checks the file
        return self


def _filled(hidden: Hidden, size: int, pairs: int) -> Hidden:
    """The pairs, filled up to `pairs` with pairs of user `size`, who does not exist: the search ignores them."""
    rows_P, columns_P = np.full(pairs, size, np.int32), np.zeros(pairs, np.int32)
    rows_P[: len(hidden.rows_P)], columns_P[: len(hidden.columns_P)] = hidden
    return Hidden(rows_P, columns_P)


def load(folder: Path) -> Ready:
    """Loads a bundle and compiles its programs.

    Raises:
      InputError: see `bundle.load`.
    """
    folder = folder.resolve()  # a link may point to another bundle before loading ends
    digest = digest_of(folder)
    return of(bundle.load(folder), digest).warmed()


def of(model: ServedModel, digest: str = "") -> Ready:
    """A served model as a `Ready`, which still has to be `warmed`."""
    fields = {field.name: getattr(model, field.name) for field in dataclasses.fields(ServedModel)}
    fields["programs"] = _Programs(*model.programs)
    return Ready(**fields, digest=digest, titles=Titles(model.catalogue))


def digest_of(folder: Path) -> str:
    """The digest of a bundle's manifest, which has the digests of all its files.

    Raises:
      InputError: it is not a bundle.
    """
    bundle.read_manifest(folder)
    return hashlib.sha256((folder / bundle.MANIFEST).read_bytes()).hexdigest()
