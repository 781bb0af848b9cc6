"""The figures of one section: groups, trade-off, coverage, settings and learning curves, each as small panels."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from llmesr_jax.experiments.report import rows as rows_lib
from llmesr_jax.experiments.report.compare import Intervals
from llmesr_jax.experiments.report.drawing import Panel, color, panel
from llmesr_jax.experiments.report.palette import Palette
from llmesr_jax.experiments.report.rows import Row, Section
from llmesr_jax.ranking import metrics

MOST_LINES = 8
_POPULARITY = ("0", "0-9", "10-29", "30-59", "60-99", "100+")  # LLM-ESR's bounds; FAERec's are in the CSV file
_GROUPS = {
    "user_length": ("by user length", "training items of the user"),
    "item_popularity": ("by item popularity", "training interactions of the item"),
}


class Figure(NamedTuple):
    """Attributes:
    name: of the figure, for anchors.
    title, caption: plain text.
    rows: whose colours the legend shows; empty for none.
    panels: its pictures.
    colors: {label: variable of `drawing.THEME`} of a legend that is not of rows.
    """

    name: str
    title: str
    caption: str
    rows: tuple[Row, ...]
    panels: tuple[Panel, ...]
    colors: Mapping[str, str] = {}


def lines(rows: Sequence[Row]) -> list[Row]:
    """Those that a figure with a line for each can show: whole methods first, then variants, in the table's order."""
    plain = [row for row in rows if not row.variant]
    chosen = (plain if len(plain) > 1 else list(rows))[:MOST_LINES]
    return [row for row in rows if row in chosen]


def groups(section: Section, palette: Palette, intervals: Intervals, metric: str) -> list[Figure]:
    """Figures 4, 6 and 7 of LLM-ESR: one for each backbone, a panel for each division and protocol."""
    found = []
    for backbone in section.backbones:
        rows = lines([row for row in section.rows if row.backbone == backbone])
        panels = [
            _group_panel(section, palette, intervals, metric, rows, division, protocol)
            for protocol in metrics.PROTOCOLS[::-1]
            for division in _GROUPS
        ]
        caption = "Mean over seeds" + (
            "; whiskers are 95 % intervals by bootstrap over the group's users." if intervals.means else "."
        )
        caption += " Items that were never trained on stand alone as 0, and are among 0-9 too."
        found.append(Figure(f"groups-{backbone}", f"Whom it helps: {backbone}", caption, tuple(rows), tuple(panels)))
    return found


def _group_panel(section, palette, intervals, metric, rows, division, protocol) -> Panel:
    title, axis = _GROUPS[division]
    of_labels = rows[0].runs[0].results[protocol][division]
    labels = [k for k in of_labels if of_labels[k]["count"][0] and (division == "user_length" or k in _POPULARITY)]

    def draw(axes, tips):
        top = 0.0
        for k, row in enumerate(rows):
            look, i = palette.look(row), section.rows.index(row)
            shift = (k - (len(rows) - 1) / 2) * min(0.16, 0.7 / len(rows))
            at = np.arange(len(labels)) + shift
            means = [_mean(row.values(protocol, metric, division, label)) for label in labels]
            axes.plot(at, means, color=color(look.color), linewidth=1.1, alpha=0.55)
            for x, mean, label in zip(at, means, labels):
                spread = intervals.means.get((i, protocol, division, label))
                whisker = None if spread is None else [[max(0, mean - spread[1])], [max(0, spread[2] - mean)]]
                top = max(top, mean, spread[2] if spread else 0)
                tip = f"{division}-{k}-{label}"
                tips[tip] = f"{section.label(row)}, {label}: {mean:.4f}"
                axes.errorbar(x, mean, whisker, color=color(look.color), linewidth=1.6)
                face = "none" if look.hollow else color(look.color)
                axes.plot(x, mean, look.mark, color=color(look.color), markerfacecolor=face, markersize=5.5, gid=tip)
        counts = [of_labels[label]["count"][0] for label in labels]
        axes.set_xticks(range(len(labels)), [f"{label}\n{count:,}" for label, count in zip(labels, counts)])
        axes.tick_params(axis="x", length=0, labelsize=10)
        axes.set(title=f"{metric} {title}, {protocol}", xlabel=f"{axis}; test users below", ylim=(0, 1.06 * top or 1))
        axes.grid(visible=False, axis="x")

    alt = f"{metric} {title} under {protocol}, {', '.join(map(section.label, rows))}"
    return panel(f"{section.slug}-{rows[0].backbone}-{division}-{protocol}", alt, draw)


def trade_off(section: Section, palette: Palette, metric: str) -> Figure:
    """Every row: head items along, tail items up; small marks are single seeds."""

    def draw(protocol):
        def on(axes, tips):
            for k, row in enumerate(section.rows):
                look = palette.look(row)
                head, tail = (row.values(protocol, metric, group) for group in ("head_item", "tail_item"))
                if None in (*head, *tail):
                    continue
                face = "none" if look.hollow else color(look.color)
                axes.plot(
                    head, tail, look.mark, color=color(look.color), markersize=3.2, alpha=0.45, markerfacecolor=face
                )
                tips[f"tip-{k}"] = f"{section.label(row)}: head {_mean(head):.4f}, tail {_mean(tail):.4f}"
                axes.plot(
                    _mean(head),
                    _mean(tail),
                    look.mark,
                    color=color(look.color),
                    markersize=9,
                    markerfacecolor=face,
                    gid=f"tip-{k}",
                )
            axes.set(title=f"{metric}, {protocol}", xlabel="head items", ylabel="tail items")
            axes.margins(0.08)

        alt = f"{metric} on tail items against head items under {protocol}, every run"
        return panel(f"{section.slug}-trade-off-{protocol}", alt, on)

    panels = tuple(draw(protocol) for protocol in metrics.PROTOCOLS[::-1])
    caption = "Up and to the right is better. Large marks are means over seeds, small ones single seeds."
    if len(section.backbones) > 1:
        caption += " A shape is a backbone, a colour a method."
    named = tuple(row for row in section.rows if not palette.look(row).hollow)
    if len(named) < len(section.rows):
        caption += " Hollow marks are further variants, in their method's colour; resting on one tells which."
    return Figure("trade-off", "Head against tail", caption, named, panels)


def lists(section: Section, palette: Palette, metric: str) -> Figure | None:
    """Bars of a metric of all users' lists together, such as coverage; None where a run was not measured by it."""
    if any(metric not in run.results["full"] for row in section.rows for run in row.runs):
        return None
    module, names = metrics.lists()[metric], []
    for name in module.SHOWN:  # by thresholds, no item may be tail
        if all(None not in row.values("full", name, metric) for row in section.rows):
            names.append(name)
    if not names:
        return None

    def draw(name):
        every = [value for row in section.rows for value in row.values("full", name, metric)]
        most = 1.0 if module.SHARE else max(every) or 1.0

        def on(axes, tips):
            for k, row in enumerate(section.rows):
                look, values = palette.look(row), row.values("full", name, metric)
                edge = color(look.color)
                tips[f"tip-{k}"] = f"{section.label(row)}: {_mean(values):.4f}"
                face = "none" if look.hollow else edge
                axes.barh(k, _mean(values), color=face, edgecolor=edge, height=0.62)[0].set_gid(f"tip-{k}")
                axes.plot(values, [k] * len(values), "|", color=color("ink"), markersize=6, alpha=0.7)
                at = max(values) + 0.025 * most
                axes.text(at, k, f"{_mean(values):.2f}", va="center", fontsize=10, color=color("soft"))
            axes.set_yticks(range(len(section.rows)), [_cut(section.label(row)) for row in section.rows])
            axes.invert_yaxis()
            axes.tick_params(axis="y", length=0)
            axes.grid(visible=False, axis="y")
            axes.spines["left"].set_visible(False)
            axes.set(title=f"{name}: {module.SHOWN[name]}", xlim=(0, 1.1 * most))

        height = max(150, 70 + 22 * len(section.rows))
        alt = f"{name}, full ranking: " + ", ".join(
            f"{section.label(row)} {_mean(row.values('full', name, metric)):.2f}" for row in section.rows
        )
        return panel(f"{section.slug}-{name.lower().replace('@', '-')}", alt, on, height)

    return Figure(metric, module.TITLE, module.CAPTION, (), tuple(draw(name) for name in names))


def settings(section: Section, metric: str) -> Figure | None:
    """Figure 3 of LLM-ESR: a panel for each number that varies while all else stays, and each protocol."""
    shown = {"overall": ("ink", "o", "-"), "tail_item": ("p2", "s", "--"), "tail_user": ("p3", "^", ":")}
    panels = []
    for key, rows in _grids(section.rows):
        at = [row.settings[key] for row in rows]
        named = rows_lib.short(key)
        for protocol in metrics.PROTOCOLS[::-1]:

            def draw(axes, tips, rows=rows, at=at, named=named, protocol=protocol):
                for k, (group, (slot, mark, style)) in enumerate(shown.items()):
                    values = [row.values(protocol, metric, group) for row in rows]
                    if any(None in v for v in values):
                        continue
                    means = [_mean(v) for v in values]
                    spread = [np.std(v, ddof=1) if len(v) > 1 else 0 for v in values]
                    x = np.arange(len(at)) + 0.07 * (k - 1)
                    axes.errorbar(
                        x, means, spread, fmt=f"{mark}{style}", color=color(slot), markersize=5.5, elinewidth=1.3
                    )
                axes.set_xticks(range(len(at)), [f"{x:g}" for x in at])
                axes.set(title=f"{named}: {metric}, {protocol}", xlabel=named)
                axes.grid(visible=False, axis="x")

            alt = f"{metric} under {protocol} for {named} = {', '.join(f'{x:g}' for x in at)}"
            where = f"{rows[0].backbone}-{rows[0].method}"
            panels.append(panel(f"{section.slug}-{where}-{key.replace('.', '-')}-{protocol}", alt, draw))
    if not panels:
        return None
    caption = "One number varies, all else is the same. Bars are deviations over seeds."
    colors = {group.replace("_", " "): slot for group, (slot, _, _) in shown.items()}
    return Figure("settings", "What a setting does", caption, (), tuple(panels), colors)


def _grids(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """(setting, rows by its value): at least three rows that differ in this number alone."""
    found = []
    by_system = defaultdict(list)
    for row in rows:
        by_system[row.backbone, row.method].append(row)
    for same in by_system.values():
        for key in rows_lib.varying([row.settings for row in same]):
            if not all(type(row.settings[key]) in (int, float) for row in same):
                continue
            grids = defaultdict(list)
            for row in same:
                grids[str(sorted((k, str(v)) for k, v in row.settings.items() if k != key))].append(row)
            longest = max(grids.values(), key=len)
            if len(longest) > 2:
                found.append((key, sorted(longest, key=lambda row: row.settings[key])))
    return found


def curves(section: Section, palette: Palette) -> Figure | None:
    """Validation NDCG@10 over epochs: a line a seed, a mark at the epoch that was tested."""
    panels = []
    for backbone in section.backbones:
        rows = lines([r for r in section.rows if r.backbone == backbone])
        protocols = {row.settings["train.valid_protocol"] for row in rows}
        monitored = f", {protocols.pop()}" if len(protocols) == 1 else ""
        for group in ("overall", "tail_item"):
            drawn = {
                (k, seed): [
                    (c["epoch"], c[f"valid/{group}/N@10"]) for c in run.curves if c["seed"] == seed and _has(c, group)
                ]
                for k, row in enumerate(rows)
                for seed, (run, _) in row.places.items()
            }
            if not any(len(points) > 1 for points in drawn.values()):
                continue

            def draw(axes, tips, rows=rows, drawn=drawn, backbone=backbone, group=group, monitored=monitored):
                for (k, seed), points in drawn.items():
                    look, (run, place) = palette.look(rows[k]), rows[k].places[seed]
                    axes.plot(*zip(*points), color=color(look.color), linewidth=1.3, alpha=0.8) if points else None
                    for x, y in points:
                        if x == run.best_epoch[place]:
                            tips[f"tip-{k}-{seed}"] = f"{section.label(rows[k])}, seed {seed}: best epoch {x}, {y:.4f}"
                            face = "none" if look.hollow else color(look.color)
                            axes.plot(
                                x,
                                y,
                                look.mark,
                                color=color(look.color),
                                markerfacecolor=face,
                                markersize=5,
                                gid=f"tip-{k}-{seed}",
                            )
                axes.set(
                    title=f"{backbone}, {group.replace('_', ' ')}", xlabel="epoch", ylabel=f"validation N@10{monitored}"
                )
                axes.set_ylim(0, None)
                axes.xaxis.get_major_locator().set_params(integer=True)

            alt = f"validation N@10 over epochs, {group.replace('_', ' ')}, {', '.join(map(section.label, rows))}"
            panels.append(panel(f"{section.slug}-{backbone}-curve-{group.replace('_', '-')}", alt, draw))
    if not panels:
        return None
    caption = "A line is a seed, its mark the epoch whose parameters were tested."
    rows = [row for b in section.backbones for row in lines([r for r in section.rows if r.backbone == b])]
    return Figure("curves", "Learning curves", caption, tuple(rows), tuple(panels))


def _has(line, group: str) -> bool:
    value = line.get(f"valid/{group}/N@10")
    return isinstance(value, (int, float)) and math.isfinite(value)


def _cut(label: str, most: int = 30) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
