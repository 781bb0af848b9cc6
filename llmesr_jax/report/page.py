"""One self-contained page: no script, no request, light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from llmesr_jax.report import blocks, drawing, rows, tables
from llmesr_jax.report.blocks import e
from llmesr_jax.report.chapter import Chapter
from llmesr_jax.report.rows import Row

# Nothing is fetched, whatever a title holds.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_ICON = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'/%3E"  # else a browser asks the server for one


def page(chapters: Sequence[Chapter], command: str) -> str:
    """The HTML text.

    Args:
      chapters: one a section.
      command: that made it, for the last line.
    """
    style = resources.files("llmesr_jax.report").joinpath("style.css").read_text()
    light, dark = drawing.variables(0), drawing.variables(1)
    theme = f":root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    names = ", ".join(chapter.section.name for chapter in chapters)
    body = "\n".join(_chapter(chapter, len(chapters) > 1) for chapter in chapters)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n<link rel="icon" href="{_ICON}">\n'
        f"<title>{e(names)}: recommendation report</title>\n<style>{theme}\n{style}</style>\n</head>\n<body>\n{body}\n"
        f"<footer><p>Made by <code>{e(command)}</code>. Head and tail: the 20 % of items (users) with most training "
        "interactions, and the rest. <b>full</b> ranks a test item among all items that the user has not met, "
        "<b>sampled</b> among 100 of them drawn at random. H@10: is it among the first ten? N@10: the same, weighted "
        "by place.</p></footer>\n</body>\n</html>\n"
    )


def _chapter(chapter: Chapter, several: bool) -> str:
    prefix = f"{chapter.section.slug}-" if several else ""
    pictures = {one.name: one for one in chapter.figures}
    parts: list[tuple[str, str, str]] = [("results", "Results", _results(chapter))]
    whom = [blocks.figure(chapter, pictures[name]) for name in pictures if name.startswith("groups-")]
    if whom:
        titles = [one.title.partition(": ")[2] for one in chapter.figures if one.name.startswith("groups-")]
        joined = "".join(f"<h3>{e(t)}</h3>{h}" if len(whom) > 1 else h for t, h in zip(titles, whom))
        parts.append(("whom", "Whom it helps", joined))
    if chapter.samples:
        parts.append(("users", "Tail users, one by one", _users(chapter)))
    for name, short in {"trade-off": "", "coverage": "", "items": "", "settings": "", "curves": ""}.items():
        if name in pictures:
            extra = f'<p class="caption">{blocks.shapes(chapter)}</p>' if name in ("trade-off", "curves") else ""
            parts.append((name, short or pictures[name].title, extra + blocks.figure(chapter, pictures[name])))
    if chapter.comparisons:
        parts.append(("tests", "What the tests say", _tests(chapter)))
    parts.append(("runs", "Where it comes from", blocks.runs(chapter)))
    links = "".join(f'<li><a href="#{prefix}{key}">{e(title)}</a></li>' for key, title, _ in parts)
    sections = "\n".join(
        f'<section id="{prefix}{key}"><h2>{e(title)}</h2>\n{text}\n</section>' for key, title, text in parts
    )
    return f"{_header(chapter)}\n<nav><ul>{links}</ul></nav>\n<main>\n{sections}\n</main>"


def _header(chapter: Chapter) -> str:
    section, corpus = chapter.section, chapter.corpus
    count = len({run.folder for row in section.rows for run in row.runs})
    facts = [f"{len(section.rows)} systems", f"{count} runs", f"seeds {', '.join(map(str, section.seeds))}"]
    if corpus:
        facts += [f"{corpus.num_users:,} users", f"{corpus.num_items:,} items", f"{len(corpus.items):,} interactions"]
    facts.append(f"{len(section.users_E):,} tested")
    tiles = "\n".join(
        [
            _tile(chapter, "overall", "All users"),
            _tile(chapter, "tail_user", "Tail users"),
            _tile(chapter, "tail_item", "Tail items"),
            _coverage_tile(chapter),
        ]
    )
    shown = rows.featured(section)
    which = f" on {e(shown[0].backbone)}" if shown else ""
    return (
        f'<header><p class="eyebrow">Long-tail sequential recommendation</p><h1>{e(section.name)}</h1>'
        f'<p class="soft">{e(" · ".join(facts))}</p><div class="tiles">{tiles}</div>'
        f'<p class="caption">Headline numbers: methods{which}, means over seeds. All rows are below.</p></header>'
    )


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


def _tile(chapter: Chapter, group: str, title: str) -> str:
    shown, metric = rows.featured(chapter.section), chapter.metric
    means = {
        protocol: [
            (row, mean) for row in shown if (mean := tables.mean(row.values(protocol, metric, group))) is not None
        ]
        for protocol in ("sampled", "full")
    }
    if not means["sampled"]:
        return ""
    row, value = max(means["sampled"], key=lambda pair: pair[1])
    other, full = max(means["full"], key=lambda pair: pair[1])
    one = blocks.led_by(chapter.comparisons.get("sampled", ()), row, group)
    if one is not None and one.relative is not None:
        base = one.difference / one.relative
        spread = (
            f", 95 % interval {100 * one.low / base:+.0f} to {100 * one.high / base:+.0f} %"
            if one.low is not None
            else ""
        )
        text = f"{100 * one.relative:+.1f} % on {e(one.baseline.system)}{spread}"
    else:
        text = f"none of the others is above {e(row.system)}" if chapter.against else ""
    return (
        f'<div class="tile"><h3>{e(title)} <small>{metric}, sampled</small></h3><div class="big">{value:.4f}</div>'
        f'<p>{blocks.dot(chapter, row)}<span class="who">{e(row.system)}</span></p>{_bars(chapter, means["sampled"])}'
        f'<p>{text}</p><p class="soft">full: {full:.4f}, {e(other.system)}</p></div>'
    )


def _coverage_tile(chapter: Chapter) -> str:
    shown = [r for r in rows.featured(chapter.section) if all("coverage" in run.results["full"] for run in r.runs)]
    if not shown:
        return ""
    both = {
        name: [(row, tables.mean(row.values("full", name, "coverage"))) for row in shown]
        for name in ("Coverage@10", "TailCoverage@10")
    }
    row, value = max(both["Coverage@10"], key=lambda pair: pair[1])
    other, tail = max(both["TailCoverage@10"], key=lambda pair: pair[1])
    return (
        f'<div class="tile"><h3>Catalogue seen <small>Coverage@10</small></h3>'
        f'<div class="big">{100 * value:.0f} %</div><p>{blocks.dot(chapter, row)}<span class="who">{e(row.system)}</span>'
        f"</p>{_bars(chapter, both['Coverage@10'])}"
        f'<p>of all items are in somebody\'s best ten</p><p class="soft">tail items: {100 * tail:.0f} %, '
        f"{e(other.system)}</p></div>"
    )


def _results(chapter: Chapter) -> str:
    tables_ = "".join(blocks.paper_table(chapter, protocol) for protocol in ("sampled", "full"))
    said = "Mean over seeds, deviation below; the best of each backbone is bold. " + blocks.marks_explained(chapter)
    return f'<p class="caption">{said}</p>{tables_}'


def _users(chapter: Chapter) -> str:
    cards = "\n".join(blocks.user(chapter, one) for one in chapter.samples)
    seeds = sorted({one.row.seeds[0] for one in chapter.samples[0].lists})
    return (
        f'<p class="caption">{len(chapter.samples)} tail users, drawn at random: the first half among those for whom '
        "some method had what came next in its first ten (as far as there are any), the rest among all. So a hit is "
        f'rarer than it looks here. Full ranking, seed {", ".join(map(str, seeds))}; <span class="rare">tail</span> '
        f'marks tail items.</p><div class="users">{cards}</div>'
    )


def _tests(chapter: Chapter) -> str:
    counts = [len(row.seeds) for row in chapter.section.rows]
    total = {protocol: len(made) for protocol, made in chapter.comparisons.items()}
    by_user = any(one.paired_t for one in chapter.comparisons["full"])
    text = (
        f"<p>{chapter.metric} of each row against {e(chapter.baseline)}. <b>Over seeds</b>, a paired t-test over the "
        "same seeds (Welch's where they differ) asks: trained again from other seeds, would it come out ahead on these "
        "users? <b>Over users</b>, a paired t-test and Wilcoxon's signed-rank test of each user's value, averaged over "
        "seeds, ask: are these trained models ahead on other users like these? All are two-sided; each kind is "
        f"Holm-corrected over the {max(total.values(), default=0)} comparisons of its table. Intervals are bootstrapped "
        f"over users, {chapter.resamples:,} times, and hold no variation between seeds.</p>"
        f"<p>{blocks.few_seeds(counts)}</p>"
    )
    if not by_user:
        text += "<p>The data were not found, so there are no tests over users but those of all users.</p>"
    for protocol in ("sampled", "full"):
        table = blocks.tests_table(chapter, protocol)
        text += f"<h3>{protocol}</h3>{blocks.findings(chapter, protocol)}"
        text += f"<details><summary>Every comparison under {protocol}, with its p values</summary>{table}</details>"
    return text
