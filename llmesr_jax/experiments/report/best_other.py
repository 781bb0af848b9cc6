"""One method against the best of the others, column by column: the papers' stars and the row "Impr."."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llmesr_jax.experiments.report import compare, names, tables
from llmesr_jax.experiments.report.rows import Section
from llmesr_jax.ranking import evaluate, metrics


def choose(section: Section, asked: str = "") -> dict[str, int]:
    """{backbone: index of the row whose improvement is shown}, for backbones that have another method to compare with.

    The row is that of the method `asked`, without variants; if `asked` is "", that of the method which comes last in
    the papers' tables: FAERec if it is there, but a method of your own takes precedence.
    """
    found = {}
    for backbone in section.backbones:
        rows = [(i, row) for i, row in enumerate(section.rows) if row.backbone == backbone and not row.variant]
        methods = {row.method for _, row in rows}
        ours = asked or max(methods - {"none"}, key=lambda name: (names.place(name), name), default="")
        place = next((i for i, row in rows if row.method == ours), None)
        if place is not None and len(methods) > 1:
            found[backbone] = place
    return found


def against(section: Section, asked: str, members: Mapping[str, Any] | None) -> dict[str, tables.Improvements]:
    """{protocol: comparisons with the best other method, one for each backbone and column of the papers' table}.

    The best other method is chosen for each column by the same numbers; variants are left out. Holm's correction is
    over all columns and backbones of a protocol.

    Args:
      section: the rows.
      asked: as in `choose`.
      members: see `compare.masks`; None without the data.
    """
    found: dict[str, tables.Improvements] = {}
    for protocol in metrics.PROTOCOLS:
        made = {}
        for metric in tables.METRICS:
            per_user = {}
            for backbone, i in choose(section, asked).items():
                others = [
                    j
                    for j, row in enumerate(section.rows)
                    if row.backbone == backbone and not row.variant and row.method != section.rows[i].method
                ]
                for j in (i, *others):
                    per_user[j] = section.rows[j].per_user(protocol, metric)
                for group in evaluate.GROUPS:
                    means = {j: tables.mean(section.rows[j].values(protocol, metric, group)) for j in others}
                    best = max((j for j in others if means[j] is not None), key=lambda j: means[j], default=None)
                    if best is None:
                        continue
                    one = compare.one(section, i, best, protocol, metric, group, per_user, members)
                    if one is not None:
                        made[backbone, group, metric] = one
        found[protocol] = dict(zip(made, compare.corrected(list(made.values()))))
    return found
