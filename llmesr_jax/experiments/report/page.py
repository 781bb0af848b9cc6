"""One self-contained page: no script, no request, light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from llmesr_jax.experiments.report import blocks, data_audit, drawing, rows, tiles
from llmesr_jax.experiments.report.blocks import e
from llmesr_jax.experiments.report.chapter import Chapter

# Nothing is fetched, whatever a title holds.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_LINKS = {
    "results": "Results",
    "whom": "Groups",
    "users": "Users",
    "trade-off": "Trade-off",
    "coverage": "Coverage",
    "items": "Items",
    "settings": "Settings",
    "curves": "Curves",
    "tests": "Tests",
    "data": "Data",
    "runs": "Runs",
}
_ICON = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'/%3E"  # else a browser asks the server for one


def page(chapters: Sequence[Chapter], command: str) -> str:
    """The HTML text.

    Args:
      chapters: one a section.
      command: that made it, for the last line.
    """
    style = resources.files("llmesr_jax.experiments.report").joinpath("style.css").read_text()
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
        f"<footer><p>Made by <code>{e(command)}</code>. {_tails(chapters)} <b>full</b> ranks a test item among all items that the user has not met, "
        "<b>sampled</b> among 100 of them drawn at random. H@10: is it among the first ten? N@10: the same, weighted "
        "by place.</p></footer>\n</body>\n</html>\n"
    )


def _tails(chapters: Sequence[Chapter]) -> str:
    """What head and tail are, in a sentence."""
    tail = chapters[0].section.tail
    if tail.by == "release":
        thresholds = dict.fromkeys(f"{one.section.tail.item} and {one.section.tail.user}" for one in chapters)
        return (
            "Tail, as in LLM-ESR's code: items with fewer interactions, and users with a shorter input, than "
            f"{', '.join(thresholds)}."
        )
    counts = "training interactions" if tail.by == "training" else "interactions in all, as in the papers"
    return f"Head and tail: the 20 % of items (users) with most {counts}, and the rest."


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
    for name in ("trade-off", "coverage", "items", "settings", "curves"):
        if name in pictures:
            extra = f'<p class="caption">{blocks.shapes(chapter)}</p>' if name == "trade-off" else ""
            parts.append((name, pictures[name].title, extra + blocks.figure(chapter, pictures[name])))
    if chapter.comparisons:
        parts.append(("tests", "What the tests say", _tests(chapter)))
    if chapter.audit:
        drawn = blocks.figure(chapter, pictures["data"]) if "data" in pictures else ""
        told = data_audit.warnings(chapter.audit) + drawn + data_audit.table(chapter.audit)
        parts.append(("data", "The data", told))
    parts.append(("runs", "Where it comes from", blocks.runs(chapter)))
    links = "".join(f'<li><a href="#{prefix}{key}">{_LINKS[key]}</a></li>' for key, _, _ in parts)
    sections = "\n".join(
        f'<section id="{prefix}{key}"><h2>{e(title)}</h2>\n{text}\n</section>' for key, title, text in parts
    )
    return f"{_header(chapter, prefix)}\n<nav><ul>{links}</ul></nav>\n<main>\n{sections}\n</main>"


def _header(chapter: Chapter, prefix: str) -> str:
    section, corpus = chapter.section, chapter.corpus
    count = len({run.folder for row in section.rows for run in row.runs})
    facts = [f"{len(section.rows)} systems", f"{count} runs", f"seeds {', '.join(map(str, section.seeds))}"]
    if corpus:
        facts += [f"{corpus.num_users:,} users", f"{corpus.num_items:,} items", f"{len(corpus.items):,} interactions"]
    facts.append(f"{len(section.users_E):,} tested")
    facts.append(f"split: {section.split.replace('_', ' ')}")
    facts += [f"seen items {section.seen}"] if section.seen != "hidden" else []
    shown_tiles = "\n".join(
        [
            tiles.group(chapter, "overall", "All users"),
            tiles.group(chapter, "tail_user", "Tail users"),
            tiles.group(chapter, "tail_item", "Tail items"),
            tiles.coverage(chapter),
        ]
    )
    shown = rows.featured(section)
    which = f" on {e(shown[0].backbone)}" if shown else ""
    return (
        f'<header><p class="eyebrow">Long-tail sequential recommendation</p><h1>{e(section.name)}</h1>'
        f'<p class="soft">{e(" · ".join(facts))}</p><div class="tiles">{shown_tiles}</div>'
        f'<p class="caption">Headline numbers: methods{which}, means over seeds. All rows are below.</p>{_warned(chapter, prefix)}</header>'
    )


def _warned(chapter: Chapter, prefix: str) -> str:
    """A line that leads to what would mislead in the data; "" where nothing would."""
    if chapter.audit is None or not (count := len(chapter.audit.warnings)):
        return ""
    what = "1 thing in the data" if count == 1 else f"{count} things in the data"
    return f'<p class="caption"><a href="#{prefix}data">{what} would mislead</a>: read that first.</p>'


def _results(chapter: Chapter) -> str:
    tables_ = "".join(blocks.paper_table(chapter, protocol) for protocol in ("sampled", "full"))
    said = "Mean over seeds, deviation below; the best of each backbone is bold. " + blocks.marks_explained(chapter)
    failed = "".join(f'<p class="caption">{e(line)}</p>' for line in rows.failures(chapter.section))
    return f'<p class="caption">{said}</p>{failed}{tables_}'


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
        f"Holm-corrected over the {max(total.values(), default=0)} comparisons of its table. Intervals are "
        f"bootstrapped over users, {chapter.resamples:,} times, and hold no variation between seeds.</p>"
        f"<p>{blocks.few_seeds(counts)}</p><p>{blocks.marks_explained(chapter)} Without a sign: not told "
        "apart. Differences are relative, or the plain ones where they are more than twice the baseline.</p>"
    )
    if not by_user:
        text += "<p>The data were not found, so there are no tests over users but those of all users.</p>"
    for protocol in ("sampled", "full"):
        table = blocks.tests_table(chapter, protocol)
        text += blocks.verdicts(chapter, protocol)
        text += f"<details><summary>Every comparison under {protocol}, with its p values</summary>{table}</details>"
    return text
