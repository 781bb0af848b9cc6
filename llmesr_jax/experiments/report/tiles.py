"""The headline numbers: a tile each, sampled ranking first, the full one below."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from llmesr_jax.experiments.report import blocks, rows, tables
from llmesr_jax.experiments.report.chapter import Chapter
from llmesr_jax.experiments.report.compare import Comparison
from llmesr_jax.experiments.report.rows import Row
from llmesr_jax.experiments.report.templating import render
from llmesr_jax.ranking import metrics


def all_of(chapter: Chapter) -> list[Markup]:
    """The tiles of a section, in the order of the page."""
    titles = {"overall": "All users", "tail_user": "Tail users", "tail_item": "Tail items"}
    of_groups = [group(chapter, name, title) for name, title in titles.items()]
    return [*of_groups, *(lists(chapter, metric) for metric in metrics.lists())]


def group(chapter: Chapter, name: str, title: str) -> Markup:
    """The best method in one group of users, beside the others; empty where none has a number."""
    shown, metric = rows.featured(chapter.section), chapter.metric
    means = {
        protocol: [
            (row, mean) for row in shown if (mean := tables.mean(row.values(protocol, metric, name))) is not None
        ]
        for protocol in ("sampled", "full")
    }
    if not means["sampled"]:
        return Markup()
    row, value = max(means["sampled"], key=lambda pair: pair[1])
    other, full = max(means["full"], key=lambda pair: pair[1])
    text = _lead(chapter, blocks.led_by(chapter.comparisons.get("sampled", ()), row, name))
    if not text and chapter.against:
        text = f"none of the others is above {row.system}"
    last = f"full: {full:.4f}, {other.system}"
    return _tile(chapter, title, f"{metric}, sampled", f"{value:.4f}", row, means["sampled"], text, last)


def _tile(
    chapter: Chapter,
    title: str,
    metric: str,
    value: str,
    row: Row,
    bars: Sequence[tuple[Row, float]],
    text: str,
    last: str,
) -> Markup:
    """One tile: the number of the best row, a bar a row, and two lines below."""
    return render(
        "tile.html",
        chapter=chapter,
        title=title,
        metric=metric,
        value=value,
        row=row,
        bars=bars,
        most=max((length for _, length in bars), default=0) or 1,
        text=text,
        last=last,
    )


def _lead(chapter: Chapter, one: Comparison | None) -> str:
    """How far ahead of its baseline, in words."""
    if one is None or not one.relative:
        return ""
    elsewhere = one.baseline.backbone != one.row.backbone  # so it is not among the bars
    name = chapter.section.label(one.baseline) if elsewhere else one.baseline.system
    if one.relative > 2:  # a per cent of next to nothing says nothing
        return f"against {one.difference / one.relative:.4f} of {name}"
    text = f"{100 * one.relative:+.1f} % on {name}"
    if one.relative_low is None:
        return text
    return f"{text}; 95 % interval {100 * one.relative_low:+.0f} to {100 * one.relative_high:+.0f} %"


def lists(chapter: Chapter, metric: str) -> Markup:
    """The method that is best by a metric of all lists together; empty where the runs do not tell."""
    module = metrics.lists()[metric]
    shown = [r for r in rows.featured(chapter.section) if all(metric in run.results["full"] for run in r.runs)]
    found = {
        name: [(r, value) for r in shown if (value := tables.mean(r.values("full", name, metric))) is not None]
        for name in module.SHOWN
    }
    first, *others = module.SHOWN
    if not found[first]:
        return Markup()
    text = lambda value: f"{100 * value:.0f} %" if module.SHARE else f"{value:.4f}"  # noqa: E731
    best = {name: max(values, key=lambda pair: pair[1]) for name, values in found.items() if values}
    last = "; ".join(f"{module.SHOWN[n]}: {text(best[n][1])}, {best[n][0].system}" for n in others if n in best)
    row, value = best[first]
    title = metric.replace("_", " ").capitalize()
    return _tile(chapter, title, f"{first}, full", text(value), row, found[first], module.SHOWN[first], last)
