"""The papers' smaller tables as Markdown and LaTeX: data sets, metrics of whole lists, similarity of two views."""

from __future__ import annotations

from collections.abc import Sequence

from llmesr_jax.experiments.report import names, tables
from llmesr_jax.experiments.report import rows as rows_lib
from llmesr_jax.experiments.report.chapter import Chapter
from llmesr_jax.ranking import metrics


def data_sets(chapters: Sequence[Chapter]) -> dict[str, str]:
    """{file: text} of LLM-ESR's table 3 and FAERec's table 1; {} if no data were found."""
    lines = data_set_rows(chapters)
    return _written("data-sets", ["Data set", "# Users", "# Items", "Sparsity", "Avg. length"], lines)


def data_set_rows(chapters: Sequence[Chapter]) -> list[list[str]]:
    """(name, users, items, sparsity, mean length) of each data set, once."""
    found: dict[str, list[str]] = {}
    for one in chapters:
        if one.audit:
            c = one.audit.facts["counts"]
            line = [f"{c['users']:,}", f"{c['items']:,}", sparsity(c["sparsity"]), f"{c['mean_length']:.2f}"]
            found.setdefault(one.section.interactions, [one.section.rows[0].runs[0].config.dataset, *line])
    return list(found.values())


def sparsity(share: float) -> str:
    """`99.95 %`, with more digits from 99.99 % on, so that it does not round to 100 %."""
    percents = 100 * share
    return f"{percents:.2f} %" if percents < 99.99 else f"{percents:.4f} %"


def list_columns(chapter: Chapter) -> list[tuple[str, str]]:
    """(metric, name) of the metrics of whole lists, such as coverage, that every run has."""
    rows = chapter.section.rows
    return [
        (metric, name)
        for metric, module in metrics.lists().items()
        if all(metric in run.results["full"] for row in rows for run in row.runs)
        for name in module.SHOWN
        if all(None not in row.values("full", name, metric) for row in rows)
    ]


def files(chapter: Chapter) -> dict[str, str]:
    """{file: text} of FAERec's table 5, and of the numbers of its figure 5."""
    section, columns = chapter.section, list_columns(chapter)
    head = [names.backbone(row.backbone) for row in section.rows]
    lists = [
        [head[i], row.title, *(rows_lib.cell(row.values("full", name, metric)) for metric, name in columns)]
        for i, row in enumerate(section.rows)
    ]
    found = _written(
        f"{section.slug}-lists", ["Backbone", "Method", *(name for _, name in columns)], lists if columns else []
    )
    views = [
        [names.backbone(one.row.backbone), one.row.title, f"{one.overlap:.3f}", f"{one.chance:.3f}", f"{one.cka:.3f}"]
        for one in chapter.views
    ]
    title = ["Backbone", "Method", "Overlap of neighbours", "By chance", "Linear CKA"]
    return found | _written(f"{section.slug}-views", title, views)


def _written(name: str, head: Sequence[str], lines: Sequence[Sequence[str]]) -> dict[str, str]:
    if not lines:
        return {}
    markdown = [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines)]
    escaped = [" & ".join(tables.escape_latex(x).replace("±", "$\\pm$") for x in line) + " \\\\" for line in lines]
    top = " & ".join(map(tables.escape_latex, head)) + " \\\\"
    text = ["% needs \\usepackage{booktabs}", f"\\begin{{tabular}}{{l{'c' * (len(head) - 1)}}}", "\\toprule", top]
    text += ["\\midrule", *escaped, "\\bottomrule", "\\end{tabular}"]
    return {f"{name}.md": "\n".join(markdown) + "\n", f"{name}.tex": "\n".join(text) + "\n"}
