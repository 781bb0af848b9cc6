"""All that is shown of one section, computed; the page and the files only write it down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from llmesr_jax.audit import audit as audit_lib
from llmesr_jax.audit.audit import Audit
from llmesr_jax.core.errors import InputError
from llmesr_jax.data import groups
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.experiments.report import (
    compare,
    data_audit,
    drawing,
    figures,
    item_map,
    rows,
    samples,
    tails,
    trained,
)
from llmesr_jax.experiments.report.compare import Comparison, Intervals
from llmesr_jax.experiments.report.figures import Figure
from llmesr_jax.experiments.report.palette import Palette
from llmesr_jax.experiments.report.rows import Section
from llmesr_jax.experiments.report.samples import Sample
from llmesr_jax.ranking import metrics


class Chapter(NamedTuple):
    """Attributes:
    section: its rows.
    palette: their colours.
    metric: that is tested and drawn.
    resamples: of the bootstrap.
    corpus: its interactions; None where they are not found.
    against: {place of a row: place of its baseline}; None where no row is the baseline.
    comparisons: {protocol: ...}, empty without a baseline.
    intervals: of the means.
    figures: in the order to show.
    samples: tail users.
    audit: of the data; None where they are not found.
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

    @property
    def baseline(self) -> str:
        """What is compared with, in words."""
        if not self.against:
            return ""
        baselines = [self.section.rows[j] for j in dict.fromkeys(self.against.values())]
        if len(baselines) == 1:
            return self.section.label(baselines[0])
        return baselines[0].system if len({row.system for row in baselines}) == 1 else "its baseline"


def steps(
    section: Section,
    baseline: str,
    data_dirs: Sequence[str],
    metric: str,
    resamples: int,
    users: int,
    items: int,
    tail: tuple[str, int, int],
):
    """A generator of (what comes next, None), and last ("", the chapter): so that a bar can show where it stands.

    Args: those of `make.Options`.
    """
    yield "tests", None
    found = trained.find_corpus(section, data_dirs)
    corpus, data_dir = found or (None, "")
    if corpus and section.stops_E is None:  # runs of older versions, which are leave-one-out
        section = section._replace(stops_E=corpus.lengths_U[section.users_E - 1] - 1)
    asked = groups.tail_of(tail[0], section.rows[0].runs[0].config.dataset, *tail[1:])
    if asked != section.tail:
        if corpus is None:
            raise InputError(
                f"--tail={asked.by}: the data of {section.name} were not found; name their folder with --data_dir"
            )
        section = tails.by(section, corpus, asked)
    members = compare.masks(corpus, section.users_E, section.stops_E, section.tail) if corpus else None
    against = compare.baselines(section, baseline)
    made = compare.compare(section, against, members, metric, resamples) if against else {}
    intervals = compare.intervals(section, members, metric, resamples)
    palette = Palette(section)
    shown = rows.featured(section) if corpus and (users or items) else []
    places = samples.choose(section, shown, members, users) if shown else np.zeros(0, np.int64)
    chosen = item_map.choose(corpus, items) if shown else places
    lists, vectors, llm = [], {}, {}
    for row in shown:  # one checkpoint at a time: tables may be large
        yield f"checkpoint of {section.label(row)}", None
        if (one := trained.load(row, corpus, data_dir)) is None:
            continue
        if len(places):
            lists.append(
                (row, samples.best(one, corpus, section.users_E[places], section.stops_E[places], section.seen))
            )
        vectors[section.label(row)] = one.items_VxE[chosen]
        if "item_llm" in one.run.tables and not llm:
            llm = {"LLM embeddings": np.asarray(one.run.experiment.tables["item_llm"][chosen + 1], np.float32)}
        del one
    found_users = samples.samples(section, places, lists, corpus) if lists else ()
    yield "audit of the data", None
    audit = _audit(corpus)
    drawn: list[Figure | None] = []
    if drawing.installed():
        yield "figures", None
        drawn += figures.groups(section, palette, intervals, metric)
        drawn.append(figures.trade_off(section, palette, metric))
        drawn += [figures.lists(section, palette, name) for name in metrics.lists()]
        drawn += [figures.settings(section, metric), figures.curves(section, palette)]
        drawn.append(data_audit.figure(section, audit) if audit else None)
        if items and vectors:
            yield "item vectors", None
            drawn.append(item_map.draw(section, vectors | llm, corpus.item_counts_V[chosen]))
    pictures = tuple(one for one in drawn if one is not None)
    yield (
        "",
        Chapter(section, palette, metric, resamples, corpus, against, made, intervals, pictures, found_users, audit),
    )


def _audit(corpus: Corpus | None) -> Audit | None:
    """The audit of the data; None, with a line, where a file of vectors cannot be read."""
    try:
        return audit_lib.of_corpus(corpus) if corpus else None
    except InputError as error:
        logging.warning("%s; the report has no audit of the data", str(error).partition(";")[0])
        return None
