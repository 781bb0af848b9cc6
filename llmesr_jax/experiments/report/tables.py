"""The papers' table, one row per system, as Markdown, CSV and LaTeX; finer groups and tests as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from llmesr_jax.experiments.report import names
from llmesr_jax.experiments.report import rows as rows_lib
from llmesr_jax.experiments.report.compare import Comparison, Intervals
from llmesr_jax.experiments.report.rows import Row, Section
from llmesr_jax.ranking import evaluate, metrics

METRICS = ("H@10", "N@10")
Improvements = Mapping[tuple[str, str, str], Comparison]  # by (backbone, group, metric), see `best_other.against`
COLUMNS = tuple((group, metric) for group in evaluate.GROUPS for metric in METRICS)
MARKS = {("shown", True): "▲", ("shown", False): "▼", ("users", True): "△", ("users", False): "▽"}


def mean(values: Sequence[float | None]) -> float | None:
    """The mean over seeds; None for an empty group."""
    return None if None in values else math.fsum(values) / len(values)


def deviation(values: Sequence[float | None]) -> float | None:
    """The sample standard deviation over seeds (ddof = 1); None for one seed or an empty group."""
    return None if None in values or len(values) < 2 else float(np.std(values, ddof=1))


def places(section: Section, protocol: str) -> dict[tuple[int, str, str], int]:
    """{(index of the row, group, metric): 1 or 2} for the largest and second largest mean of a column on a backbone.

    Equal means share a place. A backbone with one row has no places.
    """
    found = {}
    for backbone in section.backbones:
        rows = [i for i, row in enumerate(section.rows) if row.backbone == backbone]
        for group, metric in COLUMNS if len(rows) > 1 else ():
            means = {i: mean(section.rows[i].values(protocol, metric, group)) for i in rows}
            top = sorted({value for value in means.values() if value is not None}, reverse=True)[:2]
            found |= {(i, group, metric): top.index(value) + 1 for i, value in means.items() if value in top}
    return found


def marks(made: Sequence[Comparison]) -> dict[tuple[str, str, str], str]:
    """{(backbone, system, group): sign} of the significant comparisons, see `Comparison.verdict`."""
    return {
        (one.row.backbone, one.row.system, one.group): MARKS[one.verdict, one.difference > 0]
        for one in made
        if one.verdict
    }


def markdown(section: Section, protocol: str, improved: Improvements | None = None) -> str:
    """Means ± deviations; on each backbone the best is bold, the second best underlined, and a row has improvements."""
    top = places(section, protocol)
    lines = [f"**{section.name}, {protocol}**", ""]
    lines.append("| backbone | method | seeds | " + " | ".join(f"{g.replace('_', ' ')} {m}" for g, m in COLUMNS) + " |")
    lines.append("| --- " * (len(COLUMNS) + 3) + "|")
    for i, row in enumerate(section.rows):
        cells = [rows_lib.cell(row.values(protocol, metric, group)) for group, metric in COLUMNS]
        styles = {1: "**{}**", 2: "<u>{}</u>", None: "{}"}
        cells = [styles[top.get((i, *column))].format(text) for text, column in zip(cells, COLUMNS)]
        name = names.backbone(row.backbone)
        lines.append("| " + " | ".join([name, _pipe(_marked(row)), str(len(row.seeds)), *cells]) + " |")
        if _is_last(section, i) and (found := impr(improved, row.backbone)):
            lines.append("| " + " | ".join([name, f"Impr. of {_pipe(found.title)}", "", *found.cells]) + " |")
    lines += ["", STARS] if improved else []
    lines += ["", CUT] if any(row.cut for row in section.rows) else []
    lines += [f"\n{line}" for line in rows_lib.failures(section)]
    return "\n".join(lines) + "\n"


STARS = (
    "Impr.: against the best of the other methods in each column; * if significant over users and over seeds, "
    "(*) if only over users (p < .05, two-sided, Holm over the columns)."
)


CUT = (
    "†: training was ended by the limit of epochs while a seed was still improving or waiting; more epochs may change "
    "this row."
)


def _marked(row: Row) -> str:
    return row.title + " †" * row.cut


class Impr(NamedTuple):
    """The row of improvements of a backbone: the method's title, and a text for each of `COLUMNS`."""

    title: str
    cells: list[str]


def impr(improved: Improvements | None, backbone: str) -> Impr | None:
    """The row "Impr." of a backbone; None if nothing is compared."""
    made = {column: (improved or {}).get((backbone, *column)) for column in COLUMNS}
    first = next((one for one in made.values() if one), None)
    return first and Impr(_marked(first.row), [one_impr(one) if one else "" for one in made.values()])


def one_impr(one: Comparison) -> str:
    """`+10.6 %*`."""
    star = {"shown": "*", "users": "(*)", "": ""}[one.verdict]
    return ("–" if one.relative is None else f"{100 * one.relative:+.1f} %") + star


def _is_last(section: Section, i: int) -> bool:
    """Whether a row is the last one of its backbone."""
    return i + 1 == len(section.rows) or section.rows[i + 1].backbone != section.rows[i].backbone


def _pipe(text: str) -> str:
    return text.replace("|", "\\|")


def paper_csv(section: Section, protocol: str) -> str:
    """A line per row, with mean and deviation of each column in separate fields."""
    names = [f"{g} {m} {what}" for g, m in COLUMNS for what in ("mean", "deviation")]
    lines = [["backbone", "method", "variant", "seeds", *names]]
    for row in section.rows:
        numbers = []
        for group, metric in COLUMNS:
            values = row.values(protocol, metric, group)
            numbers += [_number(mean(values)), _number(deviation(values))]
        lines.append([row.backbone, row.method, row.variant, " ".join(map(str, row.seeds)), *numbers])
    return _csv(lines)


def latex(section: Section, protocol: str, improved: Improvements | None = None) -> str:
    """A tabular for booktabs, with small deviations; bold and underlined as in `markdown`."""
    top, groups = places(section, protocol), evaluate.GROUPS
    lines = [
        f"% {section.name}, {protocol}; needs \\usepackage{{booktabs}}",
        f"\\begin{{tabular}}{{ll{'c' * len(COLUMNS)}}}",
    ]
    lines.append("\\toprule")
    heads = " & ".join(f"\\multicolumn{{{len(METRICS)}}}{{c}}{{{group.replace('_', ' ').title()}}}" for group in groups)
    lines.append(f"Backbone & Model & {heads} \\\\")
    width = len(METRICS)
    lines.append(" ".join(f"\\cmidrule(lr){{{3 + width * i}-{2 + width * (i + 1)}}}" for i in range(len(groups))))
    lines.append(" & & " + " & ".join(metric for _, metric in COLUMNS) + " \\\\")
    before = None
    for i, row in enumerate(section.rows):
        if row.backbone != before:
            lines.append("\\midrule")
        name = escape_latex(names.backbone(row.backbone)) if row.backbone != before else ""
        before = row.backbone
        cells = []
        for column in COLUMNS:
            values = row.values(protocol, column[1], column[0])
            text = "--" if mean(values) is None else f"{mean(values):.4f}"
            command = {1: "textbf", 2: "underline"}.get(top.get((i, *column)))
            text = f"\\{command}{{{text}}}" if command else text
            spread = deviation(values)
            cells.append(text if spread is None else f"{text} {{\\scriptsize$\\pm${spread:.4f}}}")
        title = escape_latex(row.title) + r"$^\dagger$" * row.cut
        lines.append(" & ".join([name, title, *cells]) + " \\\\")
        if _is_last(section, i) and (found := impr(improved, row.backbone)):
            told = [escape_latex(text).replace("–", "--") for text in found.cells]
            lines.append(" & ".join(["", "Impr.", *told]) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def escape_latex(text: str) -> str:
    """The text with LaTeX's special characters escaped."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {char: f"\\{char}" for char in "&%$#_{}"}
    return "".join(special.get(char, char) for char in text)


def groups_csv(section: Section, intervals: Intervals, metric: str) -> str:
    """A line for each row, protocol, group and metric, with the interval for `metric`; and the metrics of lists."""
    lines = [["protocol", "backbone", "method", "variant", "division", "group", "users", "metric", "mean", "deviation"]]
    lines[0] += ["low", "high"]
    for protocol in metrics.PROTOCOLS:
        for i, row in enumerate(section.rows):
            results = row.runs[0].results[protocol]
            for division, label in _labels(results):
                for name in _names(results):
                    path = (division, label) if label else (division,)
                    values, count = row.values(protocol, name, *path), row.values(protocol, "count", *path)[0]
                    low_high = intervals.means.get((i, protocol, division, label), (None, None, None))[1:]
                    numbers = [_number(mean(values)), _number(deviation(values))]
                    numbers += [_number(x) for x in low_high] if name == metric else ["", ""]
                    lines.append(
                        [protocol, row.backbone, row.method, row.variant, division, label, count, name, *numbers]
                    )
            for group in [name for name in metrics.lists() if name in results]:
                for name in results[group]:
                    values = row.values(protocol, name, group)
                    numbers = [_number(mean(values)), _number(deviation(values)), "", ""]
                    lines.append([protocol, row.backbone, row.method, row.variant, group, "", "", name, *numbers])
    return _csv(lines)


def _names(results: Mapping) -> list[str]:
    """The metrics that the run has, which may differ from those that are installed now."""
    return [name for name in results["overall"] if name != "count"]


def _labels(results: Mapping) -> list[tuple[str, str]]:
    divisions = ("user_length", "item_popularity")
    return [(g, "") for g in evaluate.GROUPS] + [(d, label) for d in divisions for label in results[d]]


_TESTS = (
    "protocol backbone system baseline group users metric difference relative low high seeds_test seeds_n seeds_p "
    "seeds_p_holm users_t_p users_t_p_holm users_wilcoxon_n users_wilcoxon_p users_wilcoxon_p_holm"
).split()


def tests_csv(made: Mapping[str, Sequence[Comparison]], metric: str) -> str:
    """Every comparison with its tests; p values as computed, and Holm-corrected."""
    return _csv([_TESTS, *(_test(protocol, one, metric) for protocol, every in made.items() for one in every)])


def improvements_csv(improved: Mapping[str, Improvements]) -> str:
    """Every comparison with the best of the other methods, as `tests_csv`."""
    lines = [_test(p, one, metric) for p, made in improved.items() for (_, _, metric), one in made.items()]
    return _csv([_TESTS, *lines])


def _test(protocol: str, one: Comparison, metric: str) -> list:
    base = f"{one.baseline.backbone} {one.baseline.system}"
    line = [protocol, one.row.backbone, one.row.system, base, one.group, one.users, metric]
    line += [_number(x) for x in (one.difference, one.relative, one.low, one.high)]
    line += ["", "", ""] if one.seeds is None else [one.seeds.name, one.seeds.count, _number(one.seeds.p)]
    line += [_number(one.p_seeds)]
    line += ["", ""] if one.paired_t is None else [_number(one.paired_t.p), _number(one.p_t)]
    rank = one.wilcoxon
    return line + (["", "", ""] if rank is None else [rank.count, _number(rank.p), _number(one.p_wilcoxon)])


def text(section: Section, protocol: str) -> str:
    """For a terminal: `evaluate.results_table` with this section's rows."""
    results = {
        section.label(row): {protocol: {g: {m: row.values(protocol, m, g) for m in METRICS} for g in evaluate.GROUPS}}
        for row in section.rows
    }
    return evaluate.results_table(results, protocol, METRICS)


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(float(value))


def _csv(lines: Sequence[Sequence]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(lines)
    return file.getvalue()
