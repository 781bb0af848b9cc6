"""Recomputes a section's groups by another definition of head and tail, from the runs' ranks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import logging

from llmesr_jax.data import groups
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.experiments.report import compare
from llmesr_jax.experiments.report.collect import Run
from llmesr_jax.experiments.report.rows import Section
from llmesr_jax.ranking import evaluate, metrics


def by(section: Section, corpus: Corpus, tail: groups.Tail) -> Section:
    """The section with results for head and tail as `tail` defines them, which its name says."""
    masks = compare.masks(corpus, section.users_E, section.stops_E, tail)
    tail_V = ~groups.head_items(corpus, tail)
    made: dict[int, Run] = {}
    for row in section.rows:
        for run in row.runs:
            if id(run) not in made:
                made[id(run)] = run._replace(results=_results(run, masks, tail_V, corpus.item_counts_V))
    rows = tuple(
        row._replace(
            runs=tuple(made[id(run)] for run in row.runs),
            places={seed: (made[id(run)], place) for seed, (run, place) in row.places.items()},
        )
        for row in section.rows
    )
    name, slug = f"{section.name}, head and tail: {tail}", f"{section.slug}-{tail.by}"
    return section._replace(name=name, slug=slug, rows=rows, tail=tail)


def _results(run: Run, masks: Mapping[str, Any], tail_V: np.ndarray, counts_V: np.ndarray) -> dict[str, Any]:
    """As `Run.results`. Metrics of lists remain by training counts if the run did not store what they need."""
    found = {}
    for protocol, of_seed in run.ranks.items():
        summaries = [metrics.summarise(metrics.from_ranks(*of_seed[seed]), masks) for seed in run.seeds]
        found[protocol] = evaluate.stack(summaries)
    found["full"] |= {name: run.results["full"][name] for name in metrics.lists() if name in run.results["full"]}
    if run.best_V:
        given = [metrics.Lists(run.best_V[seed], tail_V, counts_V, None) for seed in run.seeds]
        again = evaluate.stack([metrics.from_lists(one) for one in given])
        found["full"] |= {name: {**found["full"].get(name, {}), **values} for name, values in again.items() if values}
    else:
        logging.warning(
            "%s: was tested by an older version, which stored no lists, so metrics of lists remain by training counts",
            run.folder,
        )
    return found
