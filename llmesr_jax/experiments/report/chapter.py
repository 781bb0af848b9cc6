"""Computes all results of one section; other modules write them to the page and the files."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from llmesr_jax.audit import audit as audit_lib
from llmesr_jax.audit.audit import Audit
from llmesr_jax.core.errors import InputError
from llmesr_jax.data import groups
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.experiments import drawing
from llmesr_jax.experiments.report import (
    best_other,
    compare,
    cost_figure,
    data_audit,
    encoder,
    figures,
    gradient_part,
    group_figures,
    item_map,
    rows,
    samples,
    setting_figures,
    tails,
    trained,
    two_views,
)
from llmesr_jax.experiments.report.compare import Comparison, Intervals
from llmesr_jax.experiments.report.figures import Figure
from llmesr_jax.experiments.report.palette import Palette
from llmesr_jax.experiments.report.planes import Planes
from llmesr_jax.experiments.report.rows import Row, Section
from llmesr_jax.experiments.report.samples import Sample
from llmesr_jax.experiments.report.settings import Options
from llmesr_jax.experiments.report.tables import Improvements
from llmesr_jax.experiments.report.two_views import Alike
from llmesr_jax.ranking import metrics


class Chapter(NamedTuple):
    """The results of a section.

    Attributes:
      section: its rows.
      palette: their colours.
      metric: the one that is tested and drawn.
      resamples: of the bootstrap.
      corpus: its interactions; None if they are not found.
      against: {index of a row: index of its baseline}; None if no row is the baseline.
      comparisons: {protocol: comparisons with the baseline}; empty without a baseline.
      intervals: of the means.
      figures: in the order of the page.
      samples: tail users and their lists.
      audit: of the data; None if they are not found.
      improved: {protocol: comparisons with the best other method}, see `best_other.against`.
      views: how similar the ID and the LLM view of each method are.
      encoders: the encoders of the texts, in words.
      gradients: results of studies, see `gradient_part.studies`.
    """

    section: Section
    palette: Palette
    metric: str
    resamples: int
    corpus: Corpus | None
    against: Mapping[int, int] | None
    comparisons: Mapping[str, Sequence[Comparison]]
    intervals: Intervals
    figures: tuple[Figure, ...]
    samples: tuple[Sample, ...]
    audit: Audit | None = None
    improved: Mapping[str, Improvements] = types.MappingProxyType({})
    views: tuple[Alike, ...] = ()
    encoders: tuple[str, ...] = ()
    gradients: tuple[gradient_part.Line, ...] = ()

    @property
    def baseline(self) -> str:
        """The baseline's name in the papers."""
        return self._baseline(self.section.title, lambda row: row.title)

    @property
    def baseline_name(self) -> str:
        """The baseline's name in the commands."""
        return self._baseline(self.section.label, lambda row: row.system)

    def _baseline(self, whole: Callable[[Row], str], of_system: Callable[[Row], str]) -> str:
        rows_ = [self.section.rows[j] for j in dict.fromkeys((self.against or {}).values())]
        if len(rows_) < 2:
            return whole(rows_[0]) if rows_ else ""
        return of_system(rows_[0]) if len({row.system for row in rows_}) == 1 else "its baseline"


def steps(section: Section, options: Options) -> Iterator[tuple[str, Chapter | None]]:
    """A generator of (name of the next step, None), for a progress bar, and at the end ("", the chapter)."""
    o = options
    yield "tests", None
    corpus, data_dir = trained.find_corpus(section, o.data_dir) or (None, "")
    section = _by_tail(section, corpus, o)
    members = compare.masks(corpus, section.users_E, section.stops_E, section.tail) if corpus else None
    against = compare.baselines(section, o.baseline) if o.baseline else compare.usual(section)
    made = compare.compare(section, against, members, o.metric, o.resamples) if against else {}
    improved = best_other.against(section, o.ours, members)
    intervals = compare.intervals(section, members, o.metric, o.resamples)
    palette = Palette(section)
    shown = rows.featured(section) if corpus and (o.users or o.items) else []
    places = samples.choose(section, shown, members, o.users) if shown else np.zeros(0, np.int64)
    chosen = item_map.choose(corpus, o.items) if shown else places
    lists, vectors = [], _Vectors({}, {}, None)
    for row in shown:  # one checkpoint at a time: tables may be large
        yield f"checkpoint of {section.title(row)}", None
        if (one := trained.load(row, corpus, data_dir)) is None:
            continue
        if len(places):
            lists.append(
                (row, samples.best(one, corpus, section.users_E[places], section.stops_E[places], section.seen))
            )
        vectors = vectors.plus(section, one, chosen)
        del one
    if o.items and vectors.items:
        found = trained.embeddings([row for row in shown if encoder.uses_texts(row)], corpus)
        vectors = vectors._replace(llm=None if found is None else found[chosen])
    found_users = samples.samples(section, places, lists, corpus) if lists else ()
    yield "audit of the data", None
    audit, encoders = _audit(corpus), encoder.told(section, corpus)
    views, alike = vectors.pairs(section), ()
    if o.items and len(chosen) >= 4:
        told = encoder.short(encoders[0]) if encoders else ""
        named = {section.title(row): row for row in shown}
        alike = tuple(two_views.alike(named[title], both, vectors.kind(title, told)) for title, both in views.items())
    drawn: list[Figure | None] = []
    if drawing.installed():
        yield "figures", None
        drawn += _figures(section, palette, intervals, corpus, audit, o.metric)
        if o.items and vectors.items:
            yield "item vectors", None
            planes, label = Planes(), encoder.short(encoders[0]) if encoders else ""
            sources = vectors.items | ({} if vectors.llm is None else {label: vectors.llm})
            drawn.append(item_map.draw(section, sources, corpus.item_counts_V[chosen], planes))
            drawn.append(two_views.draw(section, alike, views, planes))
    yield (
        "",
        Chapter(
            section,
            palette,
            o.metric,
            o.resamples,
            corpus,
            against,
            made,
            intervals,
            tuple(one for one in drawn if one is not None),
            found_users,
            audit,
            improved,
            alike,
            tuple(encoders),
            tuple(gradient_part.studies(section)),
        ),
    )


class _Vectors(NamedTuple):
    """Vectors of the chosen items.

    Attributes:
      items: {title of a row: item vectors}.
      views: {title: {"ID": vectors, "LLM": vectors if the method has such a view}}.
      llm: the frozen embeddings; None without.
    """

    items: dict[str, np.ndarray]
    views: dict[str, dict[str, np.ndarray]]
    llm: np.ndarray | None

    def plus(self, section: Section, one: trained.Trained, chosen: np.ndarray) -> _Vectors:
        title = section.title(one.row)
        views = {name: vectors[chosen] for name, vectors in one.views.items()}
        return _Vectors({**self.items, title: one.items_VxE[chosen]}, {**self.views, title: views}, self.llm)

    def pairs(self, section: Section) -> dict[str, dict[str, np.ndarray]]:
        """{title: {"ID", "LLM"}} of the methods that use embeddings of texts, and of the plain backbone for comparison.

        If a method has no LLM view, the frozen embeddings take its place.
        """
        raw = {} if self.llm is None else {"LLM": self.llm}
        rows_ = {section.title(row): row for row in section.rows}
        found = {}
        for title, views in self.views.items():
            both = raw | views
            if "LLM" in both and (rows_[title].method == "none" or encoder.uses_texts(rows_[title])):
                found[title] = {name: both[name] for name in ("ID", "LLM")}
        return found

    def kind(self, title: str, encoder: str) -> str:
        """What the LLM view of a method is, in words."""
        return "its own" if "LLM" in self.views[title] else f"the frozen embeddings ({encoder})"


def _by_tail(section: Section, corpus: Corpus | None, options: Options) -> Section:
    """The section with its targets' places, and with head and tail as the options define them."""
    if corpus and section.stops_E is None:  # runs of older versions, which are leave-one-out
        section = section._replace(stops_E=corpus.lengths_U[section.users_E - 1] - 1)
    dataset = section.rows[0].runs[0].config.dataset
    asked = groups.tail_of(options.tail, dataset, options.tail_user, options.tail_item)
    if asked == section.tail:
        return section
    if corpus is None:
        raise InputError(
            f"--tail={asked.by}: the data of {section.name} were not found; set --data_dir to their folder"
        )
    return tails.by(section, corpus, asked)


def _figures(
    section: Section,
    palette: Palette,
    intervals: Intervals,
    corpus: Corpus | None,
    audit: Audit | None,
    metric: str,
) -> list[Figure | None]:
    """All figures that need no checkpoint."""
    return [
        group_figures.tail(section, palette, corpus, metric) if corpus else None,
        *group_figures.groups(section, palette, intervals, metric),
        figures.trade_off(section, palette, metric),
        *(figures.lists(section, palette, name) for name in metrics.lists()),
        setting_figures.settings(section, metric),
        setting_figures.curves(section, palette),
        gradient_part.watched(section, palette),
        cost_figure.figure(section, palette, metric),
        data_audit.figure(section, audit) if audit else None,
    ]


def _audit(corpus: Corpus | None) -> Audit | None:
    """The audit of the data; None, with a warning, if a file of vectors cannot be read."""
    try:
        return audit_lib.of_corpus(corpus) if corpus else None
    except InputError as error:
        logging.warning("%s; the report has no audit of the data", str(error).partition(";")[0])
        return None
