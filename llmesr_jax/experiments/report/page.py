"""One self-contained page: no script, no request, light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from llmesr_jax.experiments.report import blocks, data_audit, drawing, rows, tiles
from llmesr_jax.experiments.report.chapter import Chapter
from llmesr_jax.experiments.report.templating import render
from llmesr_jax.ranking import metrics

_LINKS = {
    "results": "Results",
    "whom": "Groups",
    "users": "Users",
    "trade-off": "Trade-off",
    "items": "Items",
    "settings": "Settings",
    "curves": "Curves",
    "tests": "Tests",
    "data": "Data",
    "runs": "Runs",
}


class _Part(NamedTuple):
    """A section of the page: its anchor, its heading and its HTML."""

    name: str
    title: str
    body: Markup

    @property
    def link(self) -> str:
        return _LINKS.get(self.name) or self.name.replace("_", " ").capitalize()


def page(chapters: Sequence[Chapter], command: str) -> str:
    """The HTML text.

    Args:
      chapters: one a section.
      command: that made it, for the last line.
    """
    text = render(
        "page.html",
        chapters=chapters,
        light=drawing.variables(0),
        dark=drawing.variables(1),
        parts=[_chapter(chapter, len(chapters) > 1) for chapter in chapters],
        command=command,
        tails=_tails(chapters),
    )
    return f"{text}\n"


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


def _chapter(chapter: Chapter, several: bool) -> Markup:
    shown = rows.featured(chapter.section)
    return render(
        "chapter.html",
        chapter=chapter,
        prefix=f"{chapter.section.slug}-" if several else "",  # so that no two anchors are the same
        facts=_facts(chapter),
        tiles=tiles.all_of(chapter),
        backbone=shown[0].backbone if shown else "",
        warnings=len(chapter.audit.warnings) if chapter.audit else 0,
        parts=_parts(chapter),
    )


def _facts(chapter: Chapter) -> list[str]:
    """What the numbers rest on, for the line below the title."""
    section, corpus = chapter.section, chapter.corpus
    count = len({run.folder for row in section.rows for run in row.runs})
    facts = [f"{len(section.rows)} systems", f"{count} runs", f"seeds {', '.join(map(str, section.seeds))}"]
    if corpus:
        facts += [f"{corpus.num_users:,} users", f"{corpus.num_items:,} items", f"{len(corpus.items):,} interactions"]
    facts.append(f"{len(section.users_E):,} tested")
    facts.append(f"split: {section.split.replace('_', ' ')}")
    facts += [f"seen items {section.seen}"] if section.seen != "hidden" else []
    return facts


def _parts(chapter: Chapter) -> list[_Part]:
    """What there is to show, in the order of the page."""
    pictures = {one.name: one for one in chapter.figures}
    parts = [_Part("results", "Results", blocks.results(chapter))]
    if whom := [one for one in chapter.figures if one.name.startswith("groups-")]:
        parts.append(_Part("whom", "Whom it helps", blocks.groups(chapter, whom)))
    if chapter.samples:
        parts.append(_Part("users", "Tail users, one by one", blocks.users(chapter)))
    for name in ("trade-off", *metrics.lists(), "items", "settings", "curves"):
        if name in pictures:
            told = blocks.shapes(chapter) if name == "trade-off" else ""
            parts.append(_Part(name, pictures[name].title, blocks.figure(chapter, pictures[name], told)))
    if chapter.comparisons:
        parts.append(_Part("tests", "What the tests say", blocks.tests(chapter)))
    if chapter.audit:
        drawn = blocks.figure(chapter, pictures["data"]) if "data" in pictures else Markup()
        told = data_audit.warnings(chapter.audit) + drawn + data_audit.table(chapter.audit)
        parts.append(_Part("data", "The data", told))
    return [*parts, _Part("runs", "Where it comes from", blocks.runs(chapter))]
