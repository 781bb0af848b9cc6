"""The parts of the page, as HTML; every word that comes from a file is escaped."""

from __future__ import annotations

import html
import math
import shlex
from collections.abc import Sequence

from llmesr_jax.experiments.report import collect, rows, tables
from llmesr_jax.experiments.report.chapter import Chapter
from llmesr_jax.experiments.report.compare import Comparison
from llmesr_jax.experiments.report.figures import Figure
from llmesr_jax.experiments.report.rows import Row
from llmesr_jax.experiments.report.samples import Item, Sample
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


def e(text: object) -> str:
    return html.escape(str(text))


def dot(chapter: Chapter, row: Row) -> str:
    """The row's colour as a mark."""
    look = chapter.palette.look(row)
    fill = "transparent" if look.hollow else f"var(--{look.color})"
    return f'<span class="dot" style="background:{fill};border-color:var(--{look.color})"></span>'


def paper_table(chapter: Chapter, protocol: str) -> str:
    """Mean, deviation below it, best of a backbone in bold, and a mark for what the tests show."""
    section = chapter.section
    top, marks = tables.best(section, protocol), tables.marks(chapter.comparisons.get(protocol, ()))
    several = len(section.backbones) > 1
    heads = "".join(f'<th colspan="2" scope="colgroup">{_TITLES[group]}</th>' for group in evaluate.GROUPS)
    lines = [
        f'<div class="scroll" tabindex="0" role="region" aria-label="results, {protocol}"><table>'
        f'<thead><tr><th class="name" rowspan="2">{protocol}</th>{heads}</tr><tr>'
        + "".join(f'<th scope="col">{metric}</th>' for _, metric in tables.COLUMNS)
        + "</tr></thead><tbody>"
    ]
    before = None
    for i, row in enumerate(section.rows):
        first = ' class="first"' if before not in (None, row.backbone) else ""
        before = row.backbone
        over = f"<small class='soft'>{e(row.backbone)}</small> " if several else ""
        name = f'<th class="name" scope="row">{over}{dot(chapter, row)}{e(row.system)}</th>'
        cells = []
        for group, metric in tables.COLUMNS:
            values = row.values(protocol, metric, group)
            sign = marks.get((row.backbone, row.system, group), "") if metric == chapter.metric else ""
            spread = tables.deviation(values)
            small = "" if spread is None else f"<small>±{spread:.4f}</small>"
            text = "–" if tables.mean(values) is None else f"{tables.mean(values):.4f}"
            bold = ' class="best"' if (i, group, metric) in top else ""
            cells.append(f"<td{bold}>{text}{f' {sign}' if sign else ''}{small}</td>")
        lines.append(f"<tr{first}>{name}{''.join(cells)}</tr>")
    return "\n".join([*lines, "</tbody></table></div>"])


def marks_explained(chapter: Chapter) -> str:
    if not chapter.comparisons:
        return ""
    return (
        f"▲ above, ▼ below {e(chapter.baseline)} in {chapter.metric} over users and over seeds; △ ▽ over users only "
        "(p &lt; .05, two-sided, Holm-corrected)."
    )


def p_value(p: float) -> str:
    if math.isnan(p):
        return "–"
    return "&lt; .001" if p < 0.001 else f"{p:.3f}".lstrip("0") if p < 1 else "1"


def verdicts(chapter: Chapter, protocol: str) -> str:
    """Every row and group in one look: relative difference, and what the tests say of it."""
    heads = "".join(f"<th>{title}</th>" for title in _TITLES.values())
    body, before = [], None
    for row in chapter.section.rows:
        made = {one.group: one for one in chapter.comparisons[protocol] if one.row is row}
        if not made:
            continue
        first = ' class="first"' if before not in (None, row.backbone) else ""
        before = row.backbone
        cells = "".join(_verdict(made.get(group)) for group in _TITLES)
        base = chapter.section.label(next(iter(made.values())).baseline)
        body.append(
            f'<tr{first}><th class="name" scope="row">{dot(chapter, row)}{e(chapter.section.label(row))} '
            f'<small class="soft">against {e(base)}</small></th>{cells}</tr>'
        )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="verdicts, {protocol}">'
        f'<table class="verdicts"><thead><tr><th class="name">{protocol}</th>{heads}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _verdict(one: Comparison | None) -> str:
    if one is None:
        return "<td>–</td>"
    size = f"{one.difference:+.4f}" if one.relative is None or one.relative > 2 else f"{100 * one.relative:+.1f} %"
    if not one.verdict:
        return f"<td><span class='soft'>{size}</span></td>"
    up = one.difference > 0
    return f'<td class="{"up" if up else "down"} v-{one.verdict}">{tables.MARKS[one.verdict, up]} {size}</td>'


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


def tests_table(chapter: Chapter, protocol: str) -> str:
    head = (
        f"<tr><th class='name'>{protocol}</th><th>group</th><th>users</th><th>difference</th><th>95 % interval</th>"
        "<th>relative</th><th>over seeds</th><th>p</th><th>users, t: p</th><th>Wilcoxon: p</th></tr>"
    )
    body = []
    before = None
    for one in chapter.comparisons[protocol]:
        first = ' class="first"' if one.row is not before and before is not None else ""
        before = one.row
        label = f"{dot(chapter, one.row)}{e(chapter.section.label(one.row))}"
        seeds = "–" if one.seeds is None else f"{one.seeds.name}, n = {one.seeds.count}"
        spread = "–" if one.low is None else f"{one.low:+.4f} to {one.high:+.4f}"
        relative = "–" if one.relative is None else f"{100 * one.relative:+.1f} %"
        body.append(
            f"<tr{first}><th class='name' scope='row'>{label}</th><td>{_TITLES[one.group].lower()}</td>"
            f"<td>{one.users:,}</td><td>{one.difference:+.4f}</td><td>{spread}</td><td>{relative}</td><td>{seeds}</td>"
            f"<td>{p_value(one.p_seeds)}</td><td>{p_value(one.p_t)}</td><td>{p_value(one.p_wilcoxon)}</td></tr>"
        )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="tests, {protocol}"><table><thead>{head}</thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def figure(chapter: Chapter, one: Figure) -> str:
    names = [f"<li>{dot(chapter, row)}{e(text)}</li>" for row, text in _legend(one)]
    names += [
        f'<li><span class="dot" style="background:var(--{name});border-color:var(--{name})"></span>{e(label)}</li>'
        for label, name in one.colors.items()
    ]
    legend = f'<ul class="legend">{"".join(names)}</ul>' if names else ""
    panels = "\n".join(panel.svg for panel in one.panels)
    caption = f'<figcaption class="caption">{e(one.caption)}</figcaption>'
    return f'<figure>{legend}<div class="panels">{panels}</div>{caption}</figure>'


def _legend(one: Figure) -> list[tuple[Row, str]]:
    """A name a colour; which shape is which backbone is told by `shapes`."""
    found: dict[str, Row] = {}
    for row in one.rows:
        found.setdefault(row.system, row)
    return [(row, system) for system, row in found.items()]


def shapes(chapter: Chapter) -> str:
    """Which mark stands for which backbone."""
    signs = {row.backbone: chapter.palette.look(row).sign for row in chapter.section.rows}
    return " · ".join(f"{sign} {e(name)}" for name, sign in signs.items()) if len(signs) > 1 else ""


def user(chapter: Chapter, one: Sample) -> str:
    """A tail user: bought, came next, and a list a method."""
    bought = "".join(f"<li>{_item(item)}</li>" for item in one.bought[-_BOUGHT_SHOWN:])
    hidden = len(one.bought) - _BOUGHT_SHOWN
    start = max(hidden, 0) + 1
    cut = f' <small class="soft">the newest {_BOUGHT_SHOWN} of {len(one.bought)}</small>' if hidden > 0 else ""
    lists = [f'<div><h4>Bought{cut}</h4><ol start="{start}">{bought}</ol></div>']
    for of in one.lists:
        hit = ' class="hit"'
        place = f"{of.rank:,}" if not of.tied else f"{of.rank:,} to {of.rank + of.tied:,}"
        entries = "".join(f"<li{hit * (item.id == one.target.id)}>{_item(item)}</li>" for item in of.items)
        lists.append(
            f"<div><h4>{dot(chapter, of.row)}{e(of.row.system)} "
            f'<small class="soft">ranks it no. {place}</small></h4><ol>{entries}</ol></div>'
        )
    return (
        f'<article class="user"><h3>User {one.user}</h3><p>Came next: <span class="next">{_item(one.target)}</span></p>'
        f'<div class="lists">{"".join(lists)}</div></article>'
    )


def _item(item: Item) -> str:
    return e(item.title) + (' <span class="rare">tail</span>' if item.tail else "")


def runs(chapter: Chapter) -> str:
    """Which folders the numbers come from, with digests, versions, dates and commands."""
    section = chapter.section
    body, commands = [], []
    for row in section.rows:
        for run in row.runs:
            best = ", ".join(map(str, run.best_epoch))
            about = ", ".join(f"{key} {value}" for key, value in run.about.items() if key != "command") or "–"
            body.append(
                f"<tr><th class='name' scope='row'>{dot(chapter, row)}{e(section.label(row))}</th>"
                f"<td class='name'><code>{e(run.folder)}</code></td>"
                f"<td class='name'>{e(', '.join(map(str, run.seeds)))}</td><td class='name'>{best} of {run.epochs}</td>"
                f"<td>{run.parameters:,}</td><td class='name'>{run.date}</td>"
                f"<td class='name'><code>{config_lib.digest(run.config)}</code></td>"
                f"<td class='name wrap'>{e(about)}</td></tr>"
            )
            made = collect.command(run.config)
            commands.append(run.about.get("command") or f"{made} {shlex.quote(f'--workdir={run.folder}')}")
    head = "row|folder|seeds|best epoch|parameters|date|config|made with".split("|")
    heads = "".join(f"<th class='name'>{name}</th>" for name in head)
    table = (
        f'<div class="scroll" tabindex="0" role="region" aria-label="runs"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )
    differing = rows.trained_alike(section.rows)
    lines = "".join(f"<li><code>{e(key)}</code>: {e(', '.join(dict.fromkeys(v)))}</li>" for key, v in differing.items())
    told = f"<p>Rows also differ in:</p><ul>{lines}</ul>" if differing else ""
    listed = "".join(f"<li><code>{e(text)}</code></li>" for text in dict.fromkeys(commands))
    return table + told + f"<details><summary>Commands</summary><ol>{listed}</ol></details>"


def led_by(made: Sequence[Comparison], row: Row, group: str) -> Comparison | None:
    return next((one for one in made if one.row is row and one.group == group), None)
