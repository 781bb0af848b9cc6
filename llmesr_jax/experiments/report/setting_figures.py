"""The effect of a setting, figure 3 of LLM-ESR and FAERec, and learning curves."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from llmesr_jax.experiments.drawing import Entry, Panel, color, panel
from llmesr_jax.experiments.report import names
from llmesr_jax.experiments.report import rows as rows_lib
from llmesr_jax.experiments.report.figures import Figure, entries, lines, mean
from llmesr_jax.experiments.report.palette import Palette
from llmesr_jax.experiments.report.rows import Row, Section
from llmesr_jax.ranking import metrics


def settings(section: Section, metric: str) -> Figure | None:
    """Figure 3 of both papers: a panel for each protocol and each number that varies alone; None without such a one."""
    shown = {"overall": ("ink", "o", "-"), "tail_item": ("p2", "s", "--"), "tail_user": ("p3", "^", ":")}
    legend = [Entry(group.replace("_", " "), slot) for group, (slot, _, _) in shown.items()]
    panels, grids = [], _grids(section.rows)
    for key, rows in grids:
        at = [row.settings[key] for row in rows]
        named = rows_lib.short(key)
        title = f"{names.backbone(rows[0].backbone)}, {names.method(rows[0].method)}:"
        for protocol in metrics.PROTOCOLS:

            def draw(axes, tips, rows=rows, at=at, named=named, protocol=protocol, title=title):
                for k, (group, (slot, mark, style)) in enumerate(shown.items()):
                    values = [row.values(protocol, metric, group) for row in rows]
                    if any(None in v for v in values):
                        continue
                    means = [mean(v) for v in values]
                    spread = [np.std(v, ddof=1) if len(v) > 1 else 0 for v in values]
                    x = np.arange(len(at)) + 0.07 * (k - 1)
                    axes.errorbar(
                        x, means, spread, fmt=f"{mark}{style}", color=color(slot), markersize=5.5, elinewidth=1.3
                    )
                axes.set_xticks(range(len(at)), [f"{x:g}" for x in at])
                axes.set(title=f"{title} {named}, {protocol}", xlabel=named, ylabel=metric)
                axes.grid(visible=False, axis="x")

            alt = f"{metric} under {protocol} for {named} = {', '.join(f'{x:g}' for x in at)}"
            where = f"{rows[0].backbone}-{rows[0].method}"
            panels.append(panel(f"{section.slug}-{where}-{key.replace('.', '-')}-{protocol}", alt, draw, legend=legend))
    if not panels:
        return None
    several = any(len(row.seeds) > 1 for _, rows in grids for row in rows)
    spread = "Bars are standard deviations over seeds." if several else "One seed, so there are no bars of a deviation."
    caption = f"Only this setting varies. {spread}"
    colors = {group.replace("_", " "): slot for group, (slot, _, _) in shown.items()}
    return Figure("settings", "The effect of a setting", caption, (), tuple(panels), colors)


def _grids(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """(setting, rows in order of its value) for settings in which alone at least three rows differ."""
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
    """Validation NDCG@10 over epochs: a line per seed, with a mark at the epoch that was tested; each protocol apart."""
    panels = []
    for backbone in section.backbones:
        every = lines([row for row in section.rows if row.backbone == backbone])
        protocols = sorted({row.settings["train.valid_protocol"] for row in every})
        for protocol in protocols:  # numbers of two protocols do not belong on one axis
            rows = [row for row in every if row.settings["train.valid_protocol"] == protocol]
            for group in ("overall", "tail_item"):
                name = f"{backbone}-curve-{group.replace('_', '-')}" + (f"-{protocol}" if len(protocols) > 1 else "")
                panels += _curve(section, palette, rows, group, protocol, name)
    if not panels:
        return None
    caption = "Each line is a seed. Its mark is the epoch whose parameters were tested."
    rows = [row for b in section.backbones for row in lines([r for r in section.rows if r.backbone == b])]
    return Figure("curves", "Learning curves", caption, tuple(rows), tuple(panels))


def _curve(
    section: Section, palette: Palette, rows: Sequence[Row], group: str, protocol: str, name: str
) -> list[Panel]:
    """The panel of rows on one backbone that are validated by one protocol; none if no run has two epochs."""
    drawn = {
        (k, seed): [(c["epoch"], c[f"valid/{group}/N@10"]) for c in run.curves if c["seed"] == seed and _has(c, group)]
        for k, row in enumerate(rows)
        for seed, (run, _) in row.places.items()
    }
    if not any(len(points) > 1 for points in drawn.values()):
        return []

    def draw(axes, tips):
        for (k, seed), points in drawn.items():
            look, (run, place) = palette.look(rows[k]), rows[k].places[seed]
            axes.plot(*zip(*points), color=color(look.color), linewidth=1.3, alpha=0.8) if points else None
            for x, y in points:
                if x == run.best_epoch[place]:
                    tips[f"tip-{k}-{seed}"] = f"{section.title(rows[k])}, seed {seed}: best epoch {x}, {y:.4f}"
                    face = "none" if look.hollow else color(look.color)
                    gid = f"tip-{k}-{seed}"
                    axes.plot(x, y, look.mark, color=color(look.color), markerfacecolor=face, markersize=5, gid=gid)
        title = f"{names.backbone(rows[0].backbone)}, {group.replace('_item', ' items')}"
        axes.set(title=title, xlabel="epoch", ylabel=f"validation N@10, {protocol}")
        axes.set_ylim(0, None)
        axes.xaxis.get_major_locator().set_params(integer=True)

    alt = f"validation N@10 ({protocol}) over epochs, {group.replace('_', ' ')}, {', '.join(map(section.title, rows))}"
    return [panel(f"{section.slug}-{name}", alt, draw, legend=entries(section, palette, rows))]


def _has(line, group: str) -> bool:
    value = line.get(f"valid/{group}/N@10")
    return isinstance(value, (int, float)) and math.isfinite(value)
