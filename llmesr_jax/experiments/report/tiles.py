"""The headline numbers: a tile each, sampled ranking first, the full one below."""

from __future__ import annotations

from collections.abc import Sequence

from llmesr_jax.experiments.report import blocks, rows, tables
from llmesr_jax.experiments.report.blocks import e
from llmesr_jax.experiments.report.chapter import Chapter
from llmesr_jax.experiments.report.compare import Comparison
from llmesr_jax.experiments.report.rows import Row


def _bars(chapter: Chapter, values: Sequence[tuple[Row, float]]) -> str:
    most = max((value for _, value in values), default=0) or 1
    return (
        '<ul class="bars">'
        + "".join(
            f'<li><span>{e(row.system)}</span><span class="bar" style="width:{100 * value / most:.1f}%;'
            f'background:var(--{chapter.palette.look(row).color})"></span><span>{value:.4f}</span></li>'
            for row, value in values
        )
        + "</ul>"
    )


def group(chapter: Chapter, name: str, title: str) -> str:
    """The best method in one group of users, beside the others."""
    shown, metric = rows.featured(chapter.section), chapter.metric
    means = {
        protocol: [
            (row, mean) for row in shown if (mean := tables.mean(row.values(protocol, metric, name))) is not None
        ]
        for protocol in ("sampled", "full")
    }
    if not means["sampled"]:
        return ""
    row, value = max(means["sampled"], key=lambda pair: pair[1])
    other, full = max(means["full"], key=lambda pair: pair[1])
    text = _lead(chapter, blocks.led_by(chapter.comparisons.get("sampled", ()), row, name))
    if not text and chapter.against:
        text = f"none of the others is above {e(row.system)}"
    return (
        f'<div class="tile"><h3>{e(title)} <small>{metric}, sampled</small></h3><div class="big">{value:.4f}</div>'
        f'<p>{blocks.dot(chapter, row)}<span class="who">{e(row.system)}</span></p>{_bars(chapter, means["sampled"])}'
        f'<p>{text}</p><p class="soft">full: {full:.4f}, {e(other.system)}</p></div>'
    )


def _lead(chapter: Chapter, one: Comparison | None) -> str:
    """How far ahead of its baseline, in words."""
    if one is None or not one.relative:
        return ""
    elsewhere = one.baseline.backbone != one.row.backbone  # so it is not among the bars
    name = e(chapter.section.label(one.baseline) if elsewhere else one.baseline.system)
    if one.relative > 2:  # a per cent of next to nothing says nothing
        return f"against {one.difference / one.relative:.4f} of {name}"
    text = f"{100 * one.relative:+.1f} % on {name}"
    if one.relative_low is None:
        return text
    return f"{text}; 95 % interval {100 * one.relative_low:+.0f} to {100 * one.relative_high:+.0f} %"


def coverage(chapter: Chapter) -> str:
    """The method that shows most of the catalogue."""
    shown = [r for r in rows.featured(chapter.section) if all("coverage" in run.results["full"] for run in r.runs)]
    if not shown:
        return ""
    both = {
        share: [(row, tables.mean(row.values("full", share, "coverage"))) for row in shown]
        for share in ("Coverage@10", "TailCoverage@10")
    }
    row, value = max(both["Coverage@10"], key=lambda pair: pair[1])
    in_tail = [pair for pair in both["TailCoverage@10"] if pair[1] is not None]
    of_tail = ""
    if in_tail:
        other, tail = max(in_tail, key=lambda pair: pair[1])
        of_tail = f'<p class="soft">tail items: {100 * tail:.0f} %, {e(other.system)}</p>'
    return (
        '<div class="tile"><h3>Catalogue seen <small>Coverage@10, full</small></h3>'
        f'<div class="big">{100 * value:.0f} %</div><p>{blocks.dot(chapter, row)}'
        f'<span class="who">{e(row.system)}</span></p>{_bars(chapter, both["Coverage@10"])}'
        f"<p>of all items are in somebody's best ten</p>{of_tail}</div>"
    )
