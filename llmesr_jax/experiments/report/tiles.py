"""The headline numbers of the page, each in a tile: the full ranking, and below it the sampled one."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from llmesr_jax.experiments.report import blocks, names, rows, sentences, tables
from llmesr_jax.experiments.report.chapter import Chapter
from llmesr_jax.experiments.report.rows import Row
from llmesr_jax.experiments.report.templating import render
from llmesr_jax.ranking import metrics

_BARS = 12


def all_of(chapter: Chapter) -> list[Markup]:
    """The tiles of a section, in the order of the page."""
    titles = {"overall": "All users", "tail_user": "Tail users", "tail_item": "Tail items"}
    of_groups = [group(chapter, name, title) for name, title in titles.items()]
    return [*of_groups, *(lists(chapter, metric) for metric in metrics.lists())]


def group(chapter: Chapter, name: str, title: str) -> Markup:
    """A tile with the best method in one group of users, and a bar per method; empty if none has a number.

    Its lines have the differences from the baseline and from the best other method under full ranking, and the leader
    under sampled ranking.
    """
    means = {protocol: _means(chapter, protocol, name) for protocol in metrics.PROTOCOLS}
    if not means["full"]:
        return Markup()
    row, value = max(means["full"], key=lambda pair: pair[1])
    lines = [_delta(chapter, "full", row, name), _other(chapter, row, name), _sampled(chapter, means["sampled"], name)]
    heading = f"{names.metric(chapter.metric)}, full"
    return _tile(chapter, title, heading, f"{value:.4f}", row, means["full"], [one for one in lines if one])


def _means(chapter: Chapter, protocol: str, name: str) -> list[tuple[Row, float]]:
    """(row, mean) of the rivals that have a number."""
    shown = rows.rivals(chapter.section)
    found = [(row, tables.mean(row.values(protocol, chapter.metric, name))) for row in shown]
    return [(row, mean) for row, mean in found if mean is not None]


def _tile(
    chapter: Chapter,
    title: str,
    metric: str,
    value: str,
    row: Row,
    bars: Sequence[tuple[Row, float]],
    lines: Sequence[str],
) -> Markup:
    """One tile: the number of the best row, a bar per row, and lines of text below.

    A bar has little room for a name: variants of one method have the variant's alone. The `_BARS` longest are shown.
    """
    variants = rows.are_variants([of for of, _ in bars])
    least = sorted(length for _, length in bars)[-_BARS:][0] if bars else 0
    named = [(of, of.variant or of.title if variants else of.title, length) for of, length in bars if length >= least]
    return render(
        "tile.html",
        chapter=chapter,
        title=title,
        metric=metric,
        value=value,
        row=row,
        bars=named,
        most=max((length for _, length in bars), default=0) or 1,
        lines=lines,
    )


def _delta(chapter: Chapter, protocol: str, row: Row, group: str) -> str:
    """The difference of a row from its baseline, and the result of the tests."""
    one = blocks.led_by(chapter.comparisons.get(protocol, ()), row, group)
    if one is None:
        is_base = any(c.baseline is row for c in chapter.comparisons.get(protocol, ()))
        kind = "variant" if rows.are_variants(rows.rivals(chapter.section)) else "method"
        return f"no {kind} is above {row.title} here" if is_base and protocol == "full" else ""
    elsewhere = one.baseline.backbone != one.row.backbone  # so it is not among the bars
    name = chapter.section.title(one.baseline) if elsewhere else one.baseline.title
    interval = ""
    if one.relative_low is not None:
        interval = f", 95 % interval {100 * one.relative_low:+.0f} to {100 * one.relative_high:+.0f} %"
    return f"{sentences.size(one)} on {name}{interval}: {sentences.verdict(one)}"


def _other(chapter: Chapter, row: Row, group: str) -> str:
    """The difference of a row from the best of the other methods; "" if that is the baseline."""
    one = chapter.improved.get("full", {}).get((row.backbone, group, chapter.metric))
    if one is None or one.row is not row or one.baseline.method == "none":
        return ""
    return f"{sentences.size(one)} on {one.baseline.title}, the best of the others: {sentences.verdict(one)}"


def _sampled(chapter: Chapter, means: Sequence[tuple[Row, float]], group: str) -> str:
    """A line on the best row under sampled ranking."""
    row, value = max(means, key=lambda pair: pair[1])
    delta = _delta(chapter, "sampled", row, group)
    return f"sampled: {row.title} leads with {value:.4f}" + (f", {delta}" if delta else "")


def lists(chapter: Chapter, metric: str) -> Markup:
    """A tile with the best method by a metric of all lists together; empty if the runs do not have the metric."""
    module = metrics.lists()[metric]
    shown = [r for r in rows.rivals(chapter.section) if all(metric in run.results["full"] for run in r.runs)]
    found = {
        name: [(r, value) for r in shown if (value := tables.mean(r.values("full", name, metric))) is not None]
        for name in module.SHOWN
    }
    first, *others = module.SHOWN
    if not found[first]:
        return Markup()
    text = lambda value: f"{100 * value:.0f} %" if module.SHARE else f"{value:.4f}"  # noqa: E731
    best = {name: max(values, key=lambda pair: pair[1]) for name, values in found.items() if values}
    more = [f"{module.SHOWN[n]}: {text(best[n][1])}, {best[n][0].title}" for n in others if n in best]
    row, value = best[first]
    title = metric.replace("_", " ").capitalize()
    return _tile(chapter, title, f"{first}, full", text(value), row, found[first], [module.SHOWN[first], *more])
