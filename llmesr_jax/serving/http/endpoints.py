"""The endpoints: they turn requests of `schema` into answers of `schema`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.serving.http import schema
from llmesr_jax.serving.http.bundles import Bundles
from llmesr_jax.serving.http.measures import Measures
from llmesr_jax.serving.http.ready import SHORT, Ready
from llmesr_jax.serving.http.worker import Worker
from llmesr_jax.serving.model import Allowed, Options


class _Wanted(NamedTuple):
    """One request for recommendations, as the thread for lists gets it."""

    ids: np.ndarray
    options: Options
    allowed: Allowed


class Service:
    """Bundles and two threads: one for lists, one for requests that may take longer, or need no model.

    Args:
      bundles: the served bundles.
      measures: counts requests.
      most_waiting: number of requests that may wait for each thread.
      deadline: seconds after which a request without an answer is refused.
    """

    def __init__(self, bundles: Bundles, measures: Measures, most_waiting: int = 1000, deadline: float = 1.0):
        self.bundles, self.measures = bundles, measures
        self.lists = Worker("lists", most_waiting, deadline, measures.batch)
        self.others = Worker("others", most_waiting, deadline)

    def close(self) -> None:
        """Ends the threads, after the waiting requests are done."""
        self.lists.close()
        self.others.close()

    async def recommend(self, asked: schema.RecommendRequest) -> schema.RecommendAnswer:
        """See `schema.RecommendRequest`.

        Raises:
          UnknownBundle, InputError, Overloaded.
        """
        until = self.lists.end()
        name, model = self.bundles.get(asked.bundle)
        options = Options(
            asked.k, asked.hide_seen, asked.allow, asked.deny, tuple(asked.where), asked.tail_share, asked.diversity
        )
        ids, unknown = model.catalogue.known(asked.history)
        plain = not (options.where or options.deny or options.allow is not None or asked.tail_share or asked.diversity)
        # Lists that depend on the score alone are computed together: shorter ones are the beginnings of the longest.
        size = options.k > SHORT if plain else options.k
        if plain:
            options, allowed = model.allowed(options)
        else:
            options, allowed = await self._alone(lambda: model.allowed(options), until)
        key = (id(model), id(allowed), options.hide_seen, size, options.tail_share, options.diversity)
        rows, scores, popular = await self.lists.ask(
            key, functools.partial(_recommended, model), _Wanted(ids, options, allowed), until
        )
        if unknown:
            self.measures.unknown.inc(unknown)
        if popular:
            self.measures.popular.inc()
        found, title = model.catalogue.ids, model.catalogue.title
        listed = [schema.Scored(found[row], score, title(row)) for row, score in zip(rows, scores) if row >= 0]
        return schema.RecommendAnswer(name, "popular" if popular else "model", unknown, listed)

    async def similar(self, asked: schema.SimilarRequest) -> schema.SimilarAnswer:
        """See `schema.SimilarRequest`. Raises as `recommend`."""
        name, model = self.bundles.get(asked.bundle)
        found = await self._alone(lambda: model.similar_items(asked.item, asked.k, asked.view))
        return schema.SimilarAnswer(name, [schema.Scored(*one) for one in found])

    async def explain(self, asked: schema.ExplainRequest) -> schema.ExplainAnswer:
        """See `schema.ExplainRequest`. Raises as `recommend`."""
        name, model = self.bundles.get(asked.bundle)
        row = model.catalogue.number(asked.item) - 1
        found = await self._alone(lambda: model.explain(asked.history, asked.item))
        return schema.ExplainAnswer(
            name,
            model.catalogue.ids[row],
            model.catalogue.title(row),
            found.score,
            found.views,
            [schema.Influence(*one) for one in found.history],
            found.unknown,
            found.cut,
        )

    async def items(self, asked: schema.ItemsRequest) -> schema.ItemsAnswer:
        """See `schema.ItemsRequest`. Raises as `recommend`."""
        name, model = self.bundles.get(asked.bundle)
        titles, catalogue = model.titles, model.catalogue
        rows = await self._alone(lambda: titles.find(asked.query, asked.k) if titles else [])
        return schema.ItemsAnswer(
            name,
            [
                schema.Found(
                    catalogue.ids[r], catalogue.title(r), int(catalogue.counts_V[r]), bool(catalogue.tail_V[r])
                )
                for r in rows
            ],
        )

    async def about(self, _: Any = None) -> schema.BundlesAnswer:
        """See `schema.BundlesAnswer`."""
        return schema.BundlesAnswer([model.about_it(name) for name, model in self.bundles.all().items()])

    async def _alone(self, function: Callable[[], Any], until: float | None = None) -> Any:
        return await self.others.ask(None, lambda payloads: [_caught(function) for _ in payloads], None, until)


def _recommended(model: Ready, wanted: list[_Wanted]) -> list[tuple[list[int], list[float], bool]]:
    """Lists for requests that may differ only in k."""
    longest = max(wanted, key=lambda one: one.options.k)
    ranked = model.rank([one.ids for one in wanted], longest.options, longest.allowed)
    lists = zip(wanted, *(x.tolist() for x in ranked), strict=True)
    return [(rows[: one.options.k], scores[: one.options.k], popular) for one, rows, scores, popular in lists]


def _caught(function: Callable[..., Any], *args: Any) -> Any:
    """The result of one request, or its InputError as a value."""
    try:
        return function(*args)
    except InputError as error:
        return error
