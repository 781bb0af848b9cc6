"""A served model: raw histories of any users in, raw item ids out, with or without the run that trained it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.wording import counted
from llmesr_jax.serving import approximate, explain, index, new_items, replicas, rerank
from llmesr_jax.serving import options as options_lib
from llmesr_jax.serving.catalogue import Catalogue
from llmesr_jax.serving.index import Hidden
from llmesr_jax.serving.options import Allowed, Options
from llmesr_jax.serving.programs import BATCHES, Programs, view_names

_POOL = 10  # with diversity, a list of k items is chosen from the best 10 k
_LEAST_POOL = 100


class Recommendation(NamedTuple):
    """An item, its score, and its title ("" if it has none)."""

    item: str
    score: float
    title: str


class Answer(NamedTuple):
    """The recommendations for one user.

    Attributes:
      recommendations: best first; fewer than k if fewer items are allowed.
      source: "model"; or "popular" if no item of the history is known: then the items with the most training
        interactions are recommended, and scores are these counts.
      unknown: number of items of the history that are not in the catalogue and were left out.
    """

    recommendations: tuple[Recommendation, ...]
    source: str
    unknown: int


class Ranked(NamedTuple):
    """Lists of B users as arrays.

    Attributes:
      rows_BxK: int32 rows of items, -1 for none.
      scores_BxK: float32, -inf for none.
      popular_B: bool, users whose list has popular items, because no item of their history is known.
    """

    rows_BxK: np.ndarray
    scores_BxK: np.ndarray
    popular_B: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class ServedModel:
    """A trained model for recommendations.

    Attributes:
      about: method, backbone, data set, seed, versions.
      catalogue: the items.
      programs: the compiled functions of the model.
      views_WxVxD: float32 view rows (`Programs`), V + 2 in each of W views, on the device.
      items_VxE: float32 item vectors. A score is user vector . item vector.
      embeddings_VxF: float frozen embeddings of the items; None without.
      graph: approximate search (`approximate.build`); None for exact search.
      devices: devices that share the users of `rank`, each with a copy of the model; () for the default device.
    """

    about: Mapping[str, Any]
    catalogue: Catalogue
    programs: Programs
    views_WxVxD: Any
    items_VxE: np.ndarray
    embeddings_VxF: np.ndarray | None = None
    graph: Any = None
    devices: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        about = self.about
        what = f"{about['method']} on {about['backbone']}, {about['dataset']}"
        return f"<served model: {what}; {counted(len(self.catalogue), 'item')}>"

    def recommend(self, histories: Sequence[Sequence[Any]], k: int = 10, **options: Any) -> list[Answer]:
        """The k items of highest score for each history.

        Args:
          histories: for each user the raw ids of items, oldest first. Ids outside the catalogue are left out and
            counted; a history without any known item gets popular items, and its answer says so.
          k: number of items.
          **options: the other fields of `Options`.

        Raises:
          InputError: `histories` is not a list of lists of ids, or an option is wrong.
        """
        checked = self.check(options_lib.of_call(k, options))
        if isinstance(histories, (str, bytes, Mapping)) or not hasattr(histories, "__iter__"):
            raise InputError(f"histories: found {repr(histories)[:60]}; expected a list of lists of raw item ids")
        known = [self.catalogue.known(history, f"history {n}") for n, history in enumerate(histories)]
        ranked = self.rank([ids for ids, _ in known], *checked)
        title, ids = self.catalogue.title, self.catalogue.ids
        answers = []
        for (_, unknown), rows, scores, popular in zip(known, *(x.tolist() for x in ranked), strict=True):
            found = tuple(Recommendation(ids[r], s, title(r)) for r, s in zip(rows, scores) if r >= 0)
            answers.append(Answer(found, "popular" if popular else "model", unknown))
        return answers

    @property
    def view_names(self) -> tuple[str, ...]:
        """The names of the views that can be compared by themselves, in their order."""
        return view_names(self.programs.names, len(self.views_WxVxD))

    def check(self, options: Options) -> tuple[Options, Allowed]:
        """The options, and the items that they allow. See `options.check`."""
        return options_lib.check(options, self.catalogue, self.embeddings_VxF is not None)

    @functools.cached_property
    def _items(self) -> Any:
        """float32 (V, E), on the device."""
        return jax.device_put(self.items_VxE, self.devices[0] if self.devices else None)

    @functools.cached_property
    def _replicas(self) -> tuple[ServedModel, ...]:
        """The model on each of its devices alone."""
        if len(self.devices) <= 1:
            return (self,)
        views = {one: jax.device_put(self.views_WxVxD, one) for one in self.devices}
        return tuple(dataclasses.replace(self, views_WxVxD=views[one], devices=(one,)) for one in self.devices)

    def rank(self, histories: Sequence[np.ndarray], options: Options, allowed: Allowed) -> Ranked:
        """Lists for histories of item ids.

        Args:
          histories: int32 arrays of ids, oldest first; an empty one gets popular items.
          options, allowed: of `check`.
        """
        popular_B = np.array([len(ids) == 0 for ids in histories], bool)
        shape = (len(histories), options.k)
        rows, scores = np.full(shape, -1, np.int32), np.full(shape, -np.inf, np.float32)
        if popular_B.any():
            rows[popular_B], scores[popular_B] = self._popular(options, allowed)
        chosen = np.flatnonzero(~popular_B)
        batches = [chosen[start : start + BATCHES[-1]] for start in range(0, len(chosen), BATCHES[-1])]
        found = replicas.in_turns(
            self._replicas, [[histories[n] for n in batch] for batch in batches], options, allowed
        )
        for batch, top in zip(batches, found, strict=True):
            rows[batch], scores[batch] = top
        return Ranked(rows, scores, popular_B)

    def rank_batch(self, histories: Sequence[np.ndarray], options: Options, allowed: Allowed) -> index.Top:
        """Lists for at most `BATCHES[-1]` histories of item ids, none of them empty, on the model's first device."""
        users_BxE = self.programs.users(self.views_WxVxD, histories)
        hidden = index.NOTHING
        if options.hide_seen:
            places = np.repeat(np.arange(len(histories)), [len(ids) for ids in histories])
            hidden = Hidden(places, np.concatenate(histories) - 1)
        find = functools.partial(self._search, users_BxE, hidden=hidden)
        every, tail = ((x, y) for x, y in zip((allowed.items_V, allowed.tail_V), allowed.on_device, strict=True))
        if not (options.tail_share or options.diversity):
            return find(options.k, allowed=every)
        size = max(_POOL * options.k, _LEAST_POOL) if options.diversity else options.k
        pool = find(min(size, max(len(self.catalogue), options.k)), allowed=every)
        if wanted := rerank.least_tail(options.tail_share, options.k):
            pool = rerank.merged(pool, find(wanted, allowed=tail))
        return rerank.choose(
            pool,
            options.k,
            tail_V=self.catalogue.tail_V,
            tail_share=options.tail_share,
            diversity=options.diversity,
            vectors_VxF=self.embeddings_VxF,
        )

    def _search(self, users_BxE: np.ndarray, k: int, hidden: Hidden, allowed: tuple[Any, Any]) -> index.Top:
        """The best items; `allowed` is the same mask on the host and on the device."""
        exact = functools.partial(index.search, items_VxE=self._items, k=k, allowed_V=allowed[1])
        if self.graph is None:
            return exact(users_BxE, hidden=hidden)
        return approximate.search(self.graph, exact, users_BxE, self.items_VxE, k, hidden, allowed[0])

    def with_index(self, kind: str) -> ServedModel:
        """The model with another search: "exact"; or "faiss" or "usearch", approximate graphs for large catalogues.

        Raises:
          InputError: the kind is not known, or its package is not installed.
        """
        return dataclasses.replace(self, graph=None if kind == "exact" else approximate.build(kind, self.items_VxE))

    def _popular(self, options: Options, allowed: Allowed) -> tuple[np.ndarray, np.ndarray]:
        """(k,) rows and counts: the allowed items with the most training interactions, with enough tail items."""
        order = self.catalogue.by_popularity
        if allowed.items_V is not None:
            order = order[allowed.items_V[order]]
        need = min(rerank.least_tail(options.tail_share, options.k), int(allowed.tail_V.sum()))
        tail = order[self.catalogue.tail_V[order]][:need]
        others = order[~np.isin(order, tail)][: options.k - len(tail)]
        taken = order[np.isin(order, np.concatenate([tail, others]))]
        rows, scores = np.full(options.k, -1, np.int64), np.full(options.k, -np.inf, np.float32)
        rows[: len(taken)], scores[: len(taken)] = taken, self.catalogue.counts_V[taken]
        return rows, scores

    def scores(self, history: Sequence[Any], items: Sequence[Any]) -> np.ndarray:
        """float32 (n,): the scores of items for one history, both by raw ids.

        Raises:
          InputError: an item is not in the catalogue, or no item of the history is.
        """
        rows = np.array([self.catalogue.number(item) for item in items], np.int64) - 1
        ids, _ = self.catalogue.known(history)
        if not len(ids):
            raise InputError(
                "history: none of its items is in the catalogue, so the model has no score; expected at least one "
                "known item"
            )
        return self.items_VxE[rows] @ self.programs.users(self.views_WxVxD, [ids])[0]

    def similar_items(self, item: Any, k: int = 10, view: str = "both") -> list[Recommendation]:
        """The k items most similar to one, by cosine, most similar first; scores are the cosines.

        Args:
          item: a raw id of the catalogue.
          k: number of items.
          view: "both" compares item vectors, "id" or "semantic" the vectors of one view, "embedding" the frozen
            embeddings.

        Raises:
          InputError: the item is not in the catalogue, k is not valid, or the model has no such view.
        """
        row = self.catalogue.number(item) - 1
        options_lib.check_whole("k", k)
        unit_VxD = self._unit(view)
        cosine_V = unit_VxD @ unit_VxD[row]
        cosine_V[row] = -np.inf
        order = np.lexsort((np.arange(len(cosine_V)), -cosine_V))[: min(k, len(cosine_V) - 1)]
        return [Recommendation(self.catalogue.ids[r], float(cosine_V[r]), self.catalogue.title(r)) for r in order]

    @functools.cached_property
    def _units(self) -> dict[str, np.ndarray]:
        return {}

    def _unit(self, view: str) -> np.ndarray:
        """float32 (V, ...): the vectors of a view, scaled to length 1; cached after the first use."""
        if view not in self._units:
            self._units[view] = self._brought_to_length_1(view)
        return self._units[view]

    def _brought_to_length_1(self, view: str) -> np.ndarray:
        views = self.view_names
        if view == "both":
            x = self.items_VxE
        elif view in views:
            x = np.asarray(self.views_WxVxD[views.index(view)])[1:-1]
        elif view == "embedding" and self.embeddings_VxF is not None:
            x = np.asarray(self.embeddings_VxF, np.float32)
        else:
            there = [*views, "both", *(["embedding"] if self.embeddings_VxF is not None else [])]
            raise InputError(f"view={view!r}: this model has no such view; expected one of: {', '.join(there)}")
        return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)

    def explain(self, history: Sequence[Any], item: Any) -> explain.Explanation:
        """The parts of a score: shares of the views, and of the items of the history. See `explain.explain`."""
        return explain.explain(self, history, item)

    def with_items(
        self, items: Sequence[Any], embeddings: np.ndarray, titles: Sequence[str] | None = None, **more: Any
    ) -> ServedModel:
        """The model with new items, on which it was not trained. See `new_items.with_items`."""
        return new_items.with_items(self, items, embeddings, titles, **more)

    def history(self, user: Any) -> list[str]:
        """Always raises InputError, because only a run has users: see `Run.history`."""
        raise InputError(
            f"history({repr(user)[:40]}): a bundle has no users; pass the raw ids of the user's items to recommend, "
            f"oldest first, as in model.recommend([[{repr(self.catalogue.ids[0])[:40]}]]), or load the run with "
            "load_run"
        )

    def warm(self, batches: int | Sequence[int] = 1) -> None:
        """Compiles the encoder for batches of these sizes, at all lengths, before the first request.

        Args:
          batches: numbers of histories; each is rounded up to one of `programs.BATCHES`.
        Raises:
          InputError: a batch size is not a whole number from 1.
        """
        sizes = [batches] if isinstance(batches, int) else batches
        if isinstance(sizes, str) or not all(isinstance(size, (int, np.integer)) and size > 0 for size in sizes):
            raise InputError(
                f"warm({repr(batches)[:40]}): is not valid; expected batch sizes from 1, as in warm(64) or warm((1, "
                "64))"
            )
        shortest = 1
        for length in sorted(self.programs.encode):
            for batch in sizes:
                self.programs.users(self.views_WxVxD, [np.ones(shortest, np.int32)] * batch)
            shortest = length + 1
