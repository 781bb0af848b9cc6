"""The papers' table, a row a system, as Markdown, CSV and LaTeX; the finer groups and the tests as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence

import numpy as np

from llmesr_jax.experiments.report import rows as rows_lib
from llmesr_jax.experiments.report.compare import Comparison, Intervals
from llmesr_jax.experiments.report.rows import Section
from llmesr_jax.ranking import evaluate, metrics

METRICS = ("H@10", "N@10")
COLUMNS = tuple((group, metric) for group in evaluate.GROUPS for metric in METRICS)
MARKS = {("shown", True): "▲", ("shown", False): "▼", ("users", True): "△", ("users", False): "▽"}


def mean(values: Sequence[float | None]) -> float | None:
    return None if None in values else math.fsum(values) / len(values)


def deviation(values: Sequence[float | None]) -> float | None:
    """Of a sample (ddof = 1); None for one seed or an empty group."""
    return None if None in values or len(values) < 2 else float(np.std(values, ddof=1))


def best(section: Section, protocol: str) -> set[tuple[int, str, str]]:
    """(row's place, group, metric) of the largest mean of each column within a backbone of several rows."""
    found = set()
    for backbone in section.backbones:
        places = [i for i, row in enumerate(section.rows) if row.backbone == backbone]
        for group, metric in COLUMNS if len(places) > 1 else ():
            means = {i: mean(section.rows[i].values(protocol, metric, group)) for i in places}
            top = max((value for value in means.values() if value is not None), default=None)
            found |= {(i, group, metric) for i, value in means.items() if value is not None and value == top}
    return found


def marks(made: Sequence[Comparison]) -> dict[tuple[str, str, str], str]:
    """{(backbone, system, group): a sign} for what the tests show, see `Comparison.verdict`."""
    return {
        (one.row.backbone, one.row.system, one.group): MARKS[one.verdict, one.difference > 0]
        for one in made
        if one.verdict
    }


def markdown(section: Section, protocol: str) -> str:
    """Mean ± deviation; the best of each backbone in bold."""
    top = best(section, protocol)
    lines = [f"**{section.name}, {protocol}**", ""]
    lines.append("| backbone | method | seeds | " + " | ".join(f"{g.replace('_', ' ')} {m}" for g, m in COLUMNS) + " |")
    lines.append("| --- " * (len(COLUMNS) + 3) + "|")
    for i, row in enumerate(section.rows):
        cells = [rows_lib.cell(row.values(protocol, metric, group)) for group, metric in COLUMNS]
        cells = [f"**{text}**" if (i, *column) in top else text for text, column in zip(cells, COLUMNS)]
        lines.append("| " + " | ".join([row.backbone, _pipe(row.system), str(len(row.seeds)), *cells]) + " |")
    lines += [f"\n{line}" for line in rows_lib.failures(section)]
    return "\n".join(lines) + "\n"


def _pipe(text: str) -> str:
    return text.replace("|", "\\|")


def paper_csv(section: Section, protocol: str) -> str:
    """A line a row, mean and deviation of each column apart."""
    names = [f"{g} {m} {what}" for g, m in COLUMNS for what in ("mean", "deviation")]
    lines = [["backbone", "method", "variant", "seeds", *names]]
    for row in section.rows:
        numbers = []
        for group, metric in COLUMNS:
            values = row.values(protocol, metric, group)
            numbers += [_number(mean(values)), _number(deviation(values))]
        lines.append([row.backbone, row.method, row.variant, " ".join(map(str, row.seeds)), *numbers])
    return _csv(lines)


def latex(section: Section, protocol: str) -> str:
    """A tabular for booktabs; deviations small, the best of each backbone in bold."""
    top, groups = best(section, protocol), evaluate.GROUPS
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
        name = escape_latex(row.backbone) if row.backbone != before else ""
        before = row.backbone
        cells = []
        for column in COLUMNS:
            values = row.values(protocol, column[1], column[0])
            text = "--" if mean(values) is None else f"{mean(values):.4f}"
            text = f"\\textbf{{{text}}}" if (i, *column) in top else text
            spread = deviation(values)
            cells.append(text if spread is None else f"{text} {{\\scriptsize$\\pm${spread:.4f}}}")
        lines.append(" & ".join([name, escape_latex(row.system), *cells]) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def escape_latex(text: str) -> str:
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
    """The metrics that the run was measured by, which may be others than are installed now."""
    return [name for name in results["overall"] if name != "count"]


def _labels(results: Mapping) -> list[tuple[str, str]]:
    divisions = ("user_length", "item_popularity")
    return [(g, "") for g in evaluate.GROUPS] + [(d, label) for d in divisions for label in results[d]]


def tests_csv(made: Mapping[str, Sequence[Comparison]], metric: str) -> str:
    """Every comparison with its tests; p as computed and Holm-corrected."""
    head = (
        "protocol backbone system baseline group users metric difference relative low high seeds_test seeds_n seeds_p"
    )
    head += " seeds_p_holm users_t_p users_t_p_holm users_wilcoxon_n users_wilcoxon_p users_wilcoxon_p_holm"
    lines = [head.split()]
    for protocol, comparisons in made.items():
        for one in comparisons:
            base = f"{one.baseline.backbone} {one.baseline.system}"
            line = [protocol, one.row.backbone, one.row.system, base, one.group, one.users, metric]
            line += [_number(x) for x in (one.difference, one.relative, one.low, one.high)]
            line += ["", "", ""] if one.seeds is None else [one.seeds.name, one.seeds.count, _number(one.seeds.p)]
            line += [_number(one.p_seeds)]
            line += ["", ""] if one.paired_t is None else [_number(one.paired_t.p), _number(one.p_t)]
            rank = one.wilcoxon
            line += ["", "", ""] if rank is None else [rank.count, _number(rank.p), _number(one.p_wilcoxon)]
            lines.append(line)
    return _csv(lines)


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
