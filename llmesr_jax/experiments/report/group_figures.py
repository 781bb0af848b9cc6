"""Which users a method helps: metrics by user length and item popularity, and the sizes of these groups."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from llmesr_jax.data import groups as groups_lib
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.experiments.drawing import Panel, color, panel
from llmesr_jax.experiments.report import names
from llmesr_jax.experiments.report.compare import Intervals
from llmesr_jax.experiments.report.figures import Figure, entries, lines, mean
from llmesr_jax.experiments.report.palette import Palette
from llmesr_jax.experiments.report.rows import Row, Section
from llmesr_jax.ranking import metrics

_LENGTHS, _POPULARITY = "user_length", "item_popularity"
_OF_USERS = "training interactions of the user"
_OF_ITEMS = "training interactions of the target item"
# Divisions that are drawn: title, axis, the group of results.json, and its labels in order. None overlap.
DIVISIONS = {
    "user-length": ("by user length", _OF_USERS, _LENGTHS, ("0", "1-4", "5-9", "10-14", "15-19", "20+")),
    "item-popularity": (
        "by item popularity, LLM-ESR's groups",
        _OF_ITEMS,
        _POPULARITY,
        ("0-9", "10-29", "30-59", "60-99", "100+"),
    ),
    "item-popularity-faerec": (
        "by item popularity, FAERec's groups",
        _OF_ITEMS,
        _POPULARITY,
        ("0", "1-4", "5-9", "10-19", "20-49", "50+"),
    ),
}


def groups(section: Section, palette: Palette, intervals: Intervals, metric: str) -> list[Figure]:
    """LLM-ESR's figures 4, 6, 7 and FAERec's figure 4: one per backbone, with a panel per division and protocol."""
    found = []
    for backbone in section.backbones:
        rows = lines([row for row in section.rows if row.backbone == backbone])
        panels = [
            _group_panel(section, palette, intervals, metric, rows, division, protocol)
            for protocol in metrics.PROTOCOLS
            for division in DIVISIONS
        ]
        caption = f"{metric}, mean over seeds. Below each group: its number of test targets."
        if intervals.means:
            caption += " Whiskers are 95 % intervals, bootstrapped over the users of the group."
        if rows and rows[0].runs[0].results["full"][_POPULARITY]["0"]["count"][0]:
            caption += " Items of group 0 never occur in training: only texts or chance can put them on a list."
        title = f"Whom it helps: {names.backbone(backbone)}"
        found.append(Figure(f"groups-{backbone}", title, caption, tuple(rows), tuple(panels)))
    return found


def _group_panel(
    section: Section,
    palette: Palette,
    intervals: Intervals,
    metric: str,
    rows: list[Row],
    name: str,
    protocol: str,
) -> Panel:
    title, axis, division, wanted = DIVISIONS[name]
    of_labels = rows[0].runs[0].results[protocol][division]
    labels = [label for label in wanted if label in of_labels and of_labels[label]["count"][0]]

    def draw(axes, tips):
        top = 0.0
        for k, row in enumerate(rows):
            look, i = palette.look(row), section.rows.index(row)
            shift = (k - (len(rows) - 1) / 2) * min(0.16, 0.7 / len(rows))
            at = np.arange(len(labels)) + shift
            means = [mean(row.values(protocol, metric, division, label)) for label in labels]
            axes.plot(at, means, color=color(look.color), linewidth=1.1, alpha=0.55)
            for x, y, label in zip(at, means, labels):
                spread = intervals.means.get((i, protocol, division, label))
                whisker = None if spread is None else [[max(0, y - spread[1])], [max(0, spread[2] - y)]]
                top = max(top, y, spread[2] if spread else 0)
                tip = f"{division}-{k}-{label}"
                tips[tip] = f"{section.title(row)}, {label}: {y:.4f}"
                axes.errorbar(x, y, whisker, color=color(look.color), linewidth=1.6)
                face = "none" if look.hollow else color(look.color)
                axes.plot(x, y, look.mark, color=color(look.color), markerfacecolor=face, markersize=5.5, gid=tip)
        counts = [of_labels[label]["count"][0] for label in labels]
        axes.set_xticks(range(len(labels)), [f"{label}\n{count:,}" for label, count in zip(labels, counts)])
        axes.tick_params(axis="x", length=0, labelsize=10)
        axes.set(title=f"{metric} {title}, {protocol}", xlabel=axis, ylabel=metric, ylim=(0, 1.06 * top or 1))
        axes.grid(visible=False, axis="x")

    alt = f"{metric} {title} under {protocol}, {', '.join(map(section.title, rows))}"
    legend = entries(section, palette, rows)
    return panel(f"{section.slug}-{rows[0].backbone}-{name}-{protocol}", alt, draw, legend=legend)


def tail(section: Section, palette: Palette, corpus: Corpus, metric: str, protocol: str = "full") -> Figure | None:
    """Figure 1 of both papers: how many users and items have few interactions, and how the plain backbone serves them.

    None if no row is a plain backbone.
    """
    plain = [row for row in section.rows if row.method == "none" and not row.variant]
    if not plain:
        return None
    sizes = groups_lib.sizes(corpus)
    panels = tuple(
        _tail_panel(section, palette, plain, name, sizes[division][0], sizes[division][1], metric, protocol)
        for name, (_, _, division, _) in DIVISIONS.items()
    )
    caption = (
        "Bars: the share of all users (items) by their training interactions. Lines: how the plain backbone "
        f"ranks the test items of such users (such test items), {metric} under {protocol}."
    )
    return Figure("tail", "Why the tail matters", caption, tuple(plain), panels)


def _tail_panel(
    section: Section,
    palette: Palette,
    plain: list[Row],
    name: str,
    counts: Mapping[str, int],
    total: int,
    metric: str,
    protocol: str,
) -> Panel:
    title, _, division, wanted = DIVISIONS[name]
    kind = "users" if division == _LENGTHS else "items"
    labels = [label for label in wanted if counts[label]]
    shares = [counts[label] / total for label in labels]

    def draw(axes, tips):
        for k, (label, share) in enumerate(zip(labels, shares)):
            tips[f"bar-{k}"] = f"{label}: {counts[label]:,} {kind}, {100 * share:.1f} %"
            axes.bar(k, 100 * share, color=color("line"), width=0.78)[0].set_gid(f"bar-{k}")
        right = axes.twinx()
        top = 0.0
        for i, row in enumerate(plain):
            look, of_labels = palette.look(row), row.runs[0].results[protocol][division]
            at = [k for k, label in enumerate(labels) if of_labels[label]["count"][0]]
            means = [mean(row.values(protocol, metric, division, labels[k])) for k in at]
            top = max([top, *means])
            right.plot(at, means, color=color(look.color), linewidth=1.4)
            for k, y in zip(at, means):
                tips[f"mark-{i}-{k}"] = f"{section.title(row)}, {labels[k]}: {y:.4f}"
                right.plot(k, y, look.mark, color=color(look.color), markersize=6, gid=f"mark-{i}-{k}")
        right.set_ylim(0, 1.08 * top or 1)
        right.set_ylabel(f"{metric}, {protocol}")
        right.grid(visible=False)
        right.spines["right"].set_visible(True)
        axes.set_xticks(range(len(labels)), labels)
        axes.tick_params(axis="x", length=0, labelsize=10)
        axes.grid(visible=False)
        axes.set(
            title=f"{kind.capitalize()} {title}",
            xlabel=f"training interactions of the {kind[:-1]}",
            ylabel=f"% of all {kind}",
        )

    told = ", ".join(f"{label}: {100 * share:.0f} %" for label, share in zip(labels, shares))
    return panel(
        f"{section.slug}-tail-{name}", f"{kind} {title}: {told}", draw, legend=entries(section, palette, plain)
    )
