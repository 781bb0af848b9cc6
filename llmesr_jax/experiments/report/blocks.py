"""The parts of the page: the values of each template, as plain text; the templates escape every word."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from llmesr_jax.experiments.report import (
    collect,
    cost_figure,
    names,
    rows,
    small_tables,
    tables,
)
from llmesr_jax.experiments.report.chapter import Chapter
from llmesr_jax.experiments.report.compare import Comparison
from llmesr_jax.experiments.report.figures import Figure
from llmesr_jax.experiments.report.rows import Row
from llmesr_jax.experiments.report.templating import render
from llmesr_jax.ranking import evaluate, metrics
from llmesr_jax.training import config as config_lib

_TITLES = {
    "overall": "Overall",
    "tail_item": "Tail items",
    "head_item": "Head items",
    "tail_user": "Tail users",
    "head_user": "Head users",
}
_BOUGHT_SHOWN = 8


class _Cell(NamedTuple):
    """A cell of the papers' table: mean and deviation (None if there is none), the sign of the tests, and its place.

    `place` is 1 for the best of a backbone, 2 for the second best, else None.
    """

    metric: str
    mean: float | None
    deviation: float | None
    sign: str
    place: int | None


def results(chapter: Chapter) -> Markup:
    """The tables of both protocols, and the seeds that failed."""
    return render(
        "results.html",
        marks=marks_explained(chapter),
        stars=tables.STARS if any(chapter.improved.values()) else "",
        cut=tables.CUT if any(row.cut for row in chapter.section.rows) else "",
        basis=basis(chapter.section.rows),
        failures=rows.failures(chapter.section),
        tables=[paper_table(chapter, protocol, shown) for protocol in metrics.PROTOCOLS for shown in _LAYOUTS],
    )


def basis(shown: Sequence[Row]) -> str:
    """What the numbers of a table are, by how many seeds its rows have."""
    if all(len(row.seeds) == 1 for row in shown):
        return "One seed each, so there is no standard deviation."
    some = " (none for rows with one seed)" if any(len(row.seeds) == 1 for row in shown) else ""
    return f"Mean over seeds, standard deviation below{some}."


_LAYOUTS = {("H@10", "N@10"): "wide", ("N@10",): "narrow", ("H@10",): "narrow"}  # metrics of a table: screens


def paper_table(chapter: Chapter, protocol: str, shown: Sequence[str] = tables.METRICS) -> Markup:
    """Means with deviations, the best two of each backbone, marks for the results of the tests, and the row "Impr."."""
    section = chapter.section
    top, marks = tables.places(section, protocol), tables.marks(chapter.comparisons.get(protocol, ()))
    columns = [column for column in tables.COLUMNS if column[1] in shown]

    def cell(i: int, row: Row, group: str, metric: str) -> _Cell:
        values = row.values(protocol, metric, group)
        sign = marks.get((row.backbone, row.system, group), "") if metric == chapter.metric else ""
        return _Cell(metric, tables.mean(values), tables.deviation(values), sign, top.get((i, group, metric)))

    def improved(backbone: str) -> tuple[Row, list[str]] | None:
        made = {c: chapter.improved.get(protocol, {}).get((backbone, *c)) for c in columns}
        first = next((one for one in made.values() if one), None)
        return first and (first.row, [tables.one_impr(one) if one else "" for one in made.values()])

    blocks = [(name, [(i, r) for i, r in enumerate(section.rows) if r.backbone == name]) for name in section.backbones]
    return render(
        "paper_table.html",
        chapter=chapter,
        protocol=protocol,
        screens=_LAYOUTS.get(tuple(shown), "wide"),
        titles=[_TITLES[group] for group in evaluate.GROUPS],
        shown=shown,
        several=len(section.backbones) > 1,
        blocks=[
            (names.backbone(name), [(row, [cell(i, row, *c) for c in columns]) for i, row in of], improved(name))
            for name, of in blocks
        ],
    )


def marks_explained(chapter: Chapter) -> str:
    """What the marks of the tests mean; "" if nothing is tested."""
    if not chapter.comparisons:
        return ""
    return (
        f"▲ above, ▼ below {chapter.baseline} in {chapter.metric} over users and over seeds; △ ▽ over users only "
        "(p < .05, two-sided, Holm-corrected over all rows and groups)."
    )


def p_value(p: float) -> str:
    """`.012`, `< .001`, or a dash for NaN."""
    if math.isnan(p):
        return "–"
    return "< .001" if p < 0.001 else f"{p:.3f}".lstrip("0") if p < 1 else "1"


def tests(chapter: Chapter) -> Markup:
    """An explanation of the tests, and their results under each protocol."""
    return render(
        "tests.html",
        chapter=chapter,
        most=max(map(len, chapter.comparisons.values()), default=0),
        few_seeds=few_seeds([len(row.seeds) for row in chapter.section.rows]),
        marks=marks_explained(chapter),
        by_user=any(one.paired_t for one in chapter.comparisons["full"]),
        protocols=[(one, verdicts(chapter, one), tests_table(chapter, one)) for one in metrics.PROTOCOLS],
    )


def verdicts(chapter: Chapter, protocol: str) -> Markup:
    """A table of all rows and groups: the difference from the baseline, and the result of the tests."""
    lines = []
    for row in chapter.section.rows:
        made = {one.group: one for one in chapter.comparisons[protocol] if one.row is row}
        if made:
            lines.append((row, next(iter(made.values())).baseline, [made.get(group) for group in _TITLES]))
    return render(
        "verdicts.html", chapter=chapter, protocol=protocol, titles=_TITLES.values(), signs=tables.MARKS, lines=lines
    )


def few_seeds(counts: Sequence[int]) -> str:
    """What so many seeds can and cannot show, in words."""
    least = min(counts)
    if least == 1:
        return (
            "Some rows have one seed: they have no test over seeds, so this page cannot say what another seed would "
            "give."
        )
    if least < 5:
        return (
            f"{least} seeds are few: the test over seeds has {least - 1} degree{'s' * (least > 2)} of freedom, finds "
            f"only large and steady differences, and assumes a normal distribution, which {least} numbers cannot "
            "confirm. Not significant does not mean equal."
        )
    return f"The test over seeds uses at least {least} seeds per row, and assumes that they are normally distributed."


def tests_table(chapter: Chapter, protocol: str) -> Markup:
    """One line per comparison, with its p values."""
    made = chapter.comparisons[protocol]
    return render("tests_table.html", chapter=chapter, protocol=protocol, titles=_TITLES, made=made, p_value=p_value)


def groups(chapter: Chapter, found: Sequence[Figure]) -> Markup:
    """The figures by group of users and items; each under its backbone's name if there are several."""
    figures = [(one.title.partition(": ")[2], figure(chapter, one)) for one in found]
    return render("groups.html", figures=figures)


def figure(chapter: Chapter, one: Figure, shapes: str = "") -> Markup:
    """Panels between a legend and a caption.

    Args:
      shapes: a line above it; "" for none.
    """
    named: dict[str, Row] = {}  # one name per colour; `shapes` explains which shape is which backbone
    for row in one.rows:
        named.setdefault(row.title, row)
    return render("figure.html", chapter=chapter, figure=one, named=named, shapes=shapes)


def shapes(chapter: Chapter) -> str:
    """The mark of each backbone; "" if there is only one."""
    signs = {row.backbone: chapter.palette.look(row).sign for row in chapter.section.rows}
    return " · ".join(f"{sign} {names.backbone(name)}" for name, sign in signs.items()) if len(signs) > 1 else ""


def users(chapter: Chapter) -> Markup:
    """Tail users: items bought, the next item, and one list per method."""
    seeds = sorted({one.row.seeds[0] for one in chapter.samples[0].lists})
    return render("users.html", chapter=chapter, seeds=seeds, most=_BOUGHT_SHOWN)


def views(chapter: Chapter, drawn: Figure | None) -> Markup:
    """How similar the ID and the LLM view of each method are: a table, and the pictures if there are any."""
    return render("views.html", chapter=chapter, drawn=figure(chapter, drawn) if drawn else Markup())


def whole_lists(chapter: Chapter, metric: str, drawn: Figure) -> Markup:
    """A metric of all users' lists together: the table, and bars."""
    columns = [(of, name) for of, name in small_tables.list_columns(chapter) if of == metric]
    lines = [
        (row, [rows.cell(row.values("full", name, metric)) for _, name in columns]) for row in chapter.section.rows
    ]
    picture = figure(chapter, drawn)
    return render("lists.html", chapter=chapter, names=[name for _, name in columns], lines=lines, figure=picture)


def runs(chapter: Chapter) -> Markup:
    """The folders of the runs, with digests, versions, dates and commands."""
    section = chapter.section
    found = [(row, run) for row in section.rows for run in row.runs]
    commands = [run.about.get("command") or _command(run) for _, run in found]
    return render(
        "runs.html",
        chapter=chapter,
        runs=[(row, run, config_lib.digest(run.config), _about(run)) for row, run in found],
        commands=list(dict.fromkeys(commands)),
    )


def costs(chapter: Chapter) -> Markup:
    """The cost of training, one line per row."""
    return render("costs.html", chapter=chapter, lines=[(row, *_cost(row)) for row in chapter.section.rows])


def _cost(row: Row) -> tuple[int, str, str, str, str]:
    """(parameters, epochs, best epochs, time per epoch, time per seed) of a row; times are dashes if not recorded."""
    seeds = sum(len(run.seeds) for run in row.runs)
    best = ", ".join(str(run.best_epoch[i]) for run, i in row.places.values())
    trained = f"{sum(run.epochs * len(run.seeds) for run in row.runs) / seeds:.0f}" + (" (limit)" if row.cut else "")
    if (a_seed := cost_figure.seconds(row)) is None:
        return row.runs[0].parameters, trained, best, "–", "–"
    known = [run for run in row.runs if run.seconds is not None]
    epochs = sum(run.epochs * len(run.seeds) for run in known)
    total = sum(run.seconds for run in known)
    return row.runs[0].parameters, trained, best, _time(total / epochs), _time(a_seed)


def _time(seconds: float) -> str:
    return (
        f"{seconds:.1f} s"
        if seconds < 100
        else f"{seconds / 60:.1f} min"
        if seconds < 6000
        else f"{seconds / 3600:.1f} h"
    )


def _about(run: collect.Run) -> str:
    return ", ".join(f"{key} {value}" for key, value in run.about.items() if key != "command") or "–"


def _command(run: collect.Run) -> str:
    """A command that makes such a run, for a folder that does not record its own."""
    return f"{collect.command(run.config)} {shlex.quote(f'--workdir={run.folder}')}"


def led_by(made: Sequence[Comparison], row: Row, group: str) -> Comparison | None:
    """The comparison of a row with its baseline in a group; None if there is none."""
    return next((one for one in made if one.row is row and one.group == group), None)
