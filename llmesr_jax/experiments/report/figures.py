"""Figures, and the two that show every row: head against tail items, and metrics of whole lists."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from llmesr_jax.experiments.drawing import Entry, Panel, color, panel
from llmesr_jax.experiments.report.palette import Palette
from llmesr_jax.experiments.report.rows import Row, Section
from llmesr_jax.ranking import metrics

MOST_LINES = 9


class Figure(NamedTuple):
    """A figure of one or more panels.

    Attributes:
      name: of the figure, for anchors.
      title, caption: plain text.
      rows: rows whose colours the legend shows; () for none.
      panels: its pictures.
      colors: {label: variable of `drawing.THEME`}, for a legend of other things than rows.
    """

    name: str
    title: str
    caption: str
    rows: tuple[Row, ...]
    panels: tuple[Panel, ...]
    colors: Mapping[str, str] = {}


def lines(rows: Sequence[Row]) -> list[Row]:
    """At most `MOST_LINES` rows for a figure with a line per row, in the table's order: methods without variants, or,
    if there is only one method, its variants too."""
    plain = [row for row in rows if not row.variant]
    chosen = (plain if len(plain) > 1 else list(rows))[:MOST_LINES]
    return [row for row in rows if row in chosen]


def entries(section: Section, palette: Palette, rows: Sequence[Row]) -> tuple[Entry, ...]:
    """The lines of a legend: one for each system, or, if there are several backbones, one for each row."""
    looks = {
        section.title(row) if len({r.backbone for r in rows}) > 1 else row.title: palette.look(row) for row in rows
    }
    return tuple(Entry(name, look.color, look.hollow) for name, look in looks.items())


def trade_off(section: Section, palette: Palette, metric: str) -> Figure:
    """Every row: head items on the x axis, tail items on the y axis; small marks are single seeds."""

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
                tips[f"tip-{k}"] = f"{section.title(row)}: head {mean(head):.4f}, tail {mean(tail):.4f}"
                axes.plot(
                    mean(head),
                    mean(tail),
                    look.mark,
                    color=color(look.color),
                    markersize=9,
                    markerfacecolor=face,
                    gid=f"tip-{k}",
                )
            axes.set(
                title=f"Head against tail items, {protocol}",
                xlabel=f"{metric} on head items",
                ylabel=f"{metric} on tail items",
            )
            axes.margins(0.08)

        alt = f"{metric} on tail items against head items under {protocol}, every run"
        return panel(f"{section.slug}-trade-off-{protocol}", alt, on, legend=entries(section, palette, section.rows))

    panels = tuple(draw(protocol) for protocol in metrics.PROTOCOLS)
    caption = "Up and to the right is better. Large marks are means over seeds, small ones single seeds."
    if len(section.backbones) > 1:
        caption += " A shape is a backbone, a colour a method."
    named = tuple(row for row in section.rows if not palette.look(row).hollow)
    if len(named) < len(section.rows):
        caption += " Hollow marks are further variants, in their method's colour; hover over a mark to see its name."
    return Figure("trade-off", "Head items against tail items", caption, named, panels)


def lists(section: Section, palette: Palette, metric: str) -> Figure | None:
    """Bars of a metric of all users' lists together, such as coverage; None if a run does not have it."""
    if any(metric not in run.results["full"] for row in section.rows for run in row.runs):
        return None
    module, names = metrics.lists()[metric], []
    for name in module.SHOWN:  # there may be no tail items, if tail is defined by thresholds
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
                tips[f"tip-{k}"] = f"{section.title(row)}: {mean(values):.4f}"
                face = "none" if look.hollow else edge
                axes.barh(k, mean(values), color=face, edgecolor=edge, height=0.62)[0].set_gid(f"tip-{k}")
                axes.plot(values, [k] * len(values), "|", color=color("ink"), markersize=6, alpha=0.7)
                at = max(values) + 0.025 * most
                axes.text(at, k, f"{mean(values):.2f}", va="center", fontsize=10, color=color("soft"))
            axes.set_yticks(range(len(section.rows)), [_cut(section.title(row)) for row in section.rows])
            axes.invert_yaxis()
            axes.tick_params(axis="y", length=0)
            axes.grid(visible=False, axis="y")
            axes.spines["left"].set_visible(False)
            axes.set(title=name, xlabel=module.SHOWN[name], xlim=(0, 1.1 * most))

        height = max(150, 70 + 22 * len(section.rows))
        alt = f"{name}, full ranking: " + ", ".join(
            f"{section.title(row)} {mean(row.values('full', name, metric)):.2f}" for row in section.rows
        )
        return panel(f"{section.slug}-{name.lower().replace('@', '-')}", alt, on, height)

    return Figure(metric, module.TITLE, module.CAPTION, (), tuple(draw(name) for name in names))


def _cut(label: str, most: int = 30) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
