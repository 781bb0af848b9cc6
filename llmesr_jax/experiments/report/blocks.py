"""The parts of the page: what each template shows. Nothing here is HTML; the templates escape every word."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from llmesr_jax.experiments.report import collect, rows, tables
from llmesr_jax.experiments.report.chapter import Chapter
from llmesr_jax.experiments.report.compare import Comparison
from llmesr_jax.experiments.report.figures import Figure
from llmesr_jax.experiments.report.rows import Row
from llmesr_jax.experiments.report.templating import render
from llmesr_jax.ranking import evaluate
from llmesr_jax.training import config as config_lib

_TITLES = {
    "overall": "Overall",
    "tail_item": "Tail items",
    "head_item": "Head items",
    "tail_user": "Tail users",
    "head_user": "Head users",
}
_BOUGHT_SHOWN = 8
_PROTOCOLS = ("sampled", "full")  # in the order of the page


class _Cell(NamedTuple):
    """A number of the papers' table; None where there is none."""

    mean: float | None
    deviation: float | None
    sign: str
    best: bool


def results(chapter: Chapter) -> Markup:
    """Both tables, and which seeds failed."""
    return render(
        "results.html",
        marks=marks_explained(chapter),
        failures=rows.failures(chapter.section),
        tables=[paper_table(chapter, protocol) for protocol in _PROTOCOLS],
    )


def paper_table(chapter: Chapter, protocol: str) -> Markup:
    """Mean, deviation below it, best of a backbone in bold, and a mark for what the tests show."""
    section = chapter.section
    top, marks = tables.best(section, protocol), tables.marks(chapter.comparisons.get(protocol, ()))

    def cell(i: int, row: Row, group: str, metric: str) -> _Cell:
        values = row.values(protocol, metric, group)
        sign = marks.get((row.backbone, row.system, group), "") if metric == chapter.metric else ""
        return _Cell(tables.mean(values), tables.deviation(values), sign, (i, group, metric) in top)

    return render(
        "paper_table.html",
        chapter=chapter,
        protocol=protocol,
        titles=[_TITLES[group] for group in evaluate.GROUPS],
        metrics=[metric for _, metric in tables.COLUMNS],
        lines=[(row, [cell(i, row, *column) for column in tables.COLUMNS]) for i, row in enumerate(section.rows)],
    )


def marks_explained(chapter: Chapter) -> str:
    if not chapter.comparisons:
        return ""
    return (
        f"▲ above, ▼ below {chapter.baseline} in {chapter.metric} over users and over seeds; △ ▽ over users only "
        "(p < .05, two-sided, Holm-corrected)."
    )


def p_value(p: float) -> str:
    if math.isnan(p):
        return "–"
    return "< .001" if p < 0.001 else f"{p:.3f}".lstrip("0") if p < 1 else "1"


def tests(chapter: Chapter) -> Markup:
    """What was tested and how, and for each protocol what came out."""
    return render(
        "tests.html",
        chapter=chapter,
        most=max(map(len, chapter.comparisons.values()), default=0),
        few_seeds=few_seeds([len(row.seeds) for row in chapter.section.rows]),
        marks=marks_explained(chapter),
        by_user=any(one.paired_t for one in chapter.comparisons["full"]),
        protocols=[(one, verdicts(chapter, one), tests_table(chapter, one)) for one in _PROTOCOLS],
    )


def verdicts(chapter: Chapter, protocol: str) -> Markup:
    """Every row and group in one look: relative difference, and what the tests say of it."""
    lines = []
    for row in chapter.section.rows:
        made = {one.group: one for one in chapter.comparisons[protocol] if one.row is row}
        if made:
            cells = [(one, _size(one) if one else "") for one in map(made.get, _TITLES)]
            lines.append((row, next(iter(made.values())).baseline, cells))
    return render(
        "verdicts.html", chapter=chapter, protocol=protocol, titles=_TITLES.values(), signs=tables.MARKS, lines=lines
    )


def _size(one: Comparison) -> str:
    """The relative difference, or the plain one where the relative one says little."""
    plain = one.relative is None or one.relative > 2
    return f"{one.difference:+.4f}" if plain else f"{100 * one.relative:+.1f} %"


def few_seeds(counts: Sequence[int]) -> str:
    """What so many seeds can say, plainly."""
    least = min(counts)
    if least == 1:
        return (
            "There are rows of one seed: no test over seeds can be made for them, and nothing here says what another "
            "seed would give."
        )
    if least < 5:
        return (
            f"{least} seeds are few: the test over seeds has {least - 1} degree{'s' * (least > 2)} of freedom, sees "
            f"only large and steady differences, and assumes a normal spread, which {least} numbers cannot show. "
            "Not told apart does not mean equal."
        )
    return f"The test over seeds rests on {least} seeds a row or more, and assumes that their means are normal."


def tests_table(chapter: Chapter, protocol: str) -> Markup:
    """A line a comparison, with its p values."""
    made = chapter.comparisons[protocol]
    return render("tests_table.html", chapter=chapter, protocol=protocol, titles=_TITLES, made=made, p_value=p_value)


def groups(chapter: Chapter, found: Sequence[Figure]) -> Markup:
    """The figures of whom it helps; each under its backbone's name, where there are several."""
    figures = [(one.title.partition(": ")[2], figure(chapter, one)) for one in found]
    return render("groups.html", figures=figures)


def figure(chapter: Chapter, one: Figure, shapes: str = "") -> Markup:
    """Panels between a legend and a caption.

    Args:
      shapes: a line above it; "" for none.
    """
    named: dict[str, Row] = {}  # a name a colour; which shape is which backbone is told by `shapes`
    for row in one.rows:
        named.setdefault(row.system, row)
    return render("figure.html", chapter=chapter, figure=one, named=named, shapes=shapes)


def shapes(chapter: Chapter) -> str:
    """Which mark stands for which backbone."""
    signs = {row.backbone: chapter.palette.look(row).sign for row in chapter.section.rows}
    return " · ".join(f"{sign} {name}" for name, sign in signs.items()) if len(signs) > 1 else ""


def users(chapter: Chapter) -> Markup:
    """Tail users: bought, came next, and a list a method."""
    seeds = sorted({one.row.seeds[0] for one in chapter.samples[0].lists})
    return render("users.html", chapter=chapter, seeds=seeds, most=_BOUGHT_SHOWN)


def runs(chapter: Chapter) -> Markup:
    """Which folders the numbers come from, with digests, versions, dates and commands."""
    section = chapter.section
    found = [(row, run) for row in section.rows for run in row.runs]
    commands = [run.about.get("command") or _command(run) for _, run in found]
    differing = rows.trained_alike(section.rows)
    return render(
        "runs.html",
        chapter=chapter,
        runs=[(row, run, config_lib.digest(run.config), _about(run)) for row, run in found],
        differing={key: list(dict.fromkeys(values)) for key, values in differing.items()},
        commands=list(dict.fromkeys(commands)),
    )


def _about(run: collect.Run) -> str:
    return ", ".join(f"{key} {value}" for key, value in run.about.items() if key != "command") or "–"


def _command(run: collect.Run) -> str:
    """The command that makes such a run, where the folder does not say which one did."""
    return f"{collect.command(run.config)} {shlex.quote(f'--workdir={run.folder}')}"


def led_by(made: Sequence[Comparison], row: Row, group: str) -> Comparison | None:
    return next((one for one in made if one.row is row and one.group == group), None)
