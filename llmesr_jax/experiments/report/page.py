"""One self-contained page: no script, no request, light and dark, wide and narrow."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from llmesr_jax.core.wording import listed
from llmesr_jax.data.corpus import Corpus
from llmesr_jax.experiments import drawing
from llmesr_jax.experiments.report import (
    blocks,
    data_audit,
    gradient_part,
    names,
    rows,
    sentences,
    setting_table,
    small_tables,
    tiles,
)
from llmesr_jax.experiments.report.chapter import Chapter
from llmesr_jax.experiments.report.figures import Figure
from llmesr_jax.experiments.report.templating import render
from llmesr_jax.ranking import metrics

_EXAMPLES, _TITLE = 3, 60  # items that are named, and the longest title, in characters


class _Part(NamedTuple):
    """A section of the page: its anchor, its heading and its HTML."""

    name: str
    title: str
    body: Markup


def page(chapters: Sequence[Chapter], command: str) -> str:
    """The HTML text of the page.

    Args:
      chapters: one per section.
      command: the command that makes the page, for the last line.
    """
    text = render(
        "page.html",
        chapters=chapters,
        light=drawing.variables(0),
        dark=drawing.variables(1),
        parts=[_chapter(chapter, len(chapters) > 1) for chapter in chapters],
        command=command,
        sets=small_tables.data_set_rows(chapters) if len(chapters) > 1 else [],
    )
    return text.replace(" %", "\u00a0%") + "\n"  # no line begins with a %


def _tails(section: rows.Section) -> str:
    """The definition of head and tail, in a sentence."""
    tail = section.tail
    if tail.by == "release":
        return (
            f"as in LLM-ESR's code, tail are items with fewer than {tail.item} interactions, and users whose input is "
            f"shorter than {tail.user}"
        )
    counts = "training interactions" if tail.by == "training" else "interactions in all, as in the papers"
    return f"head are the 20 % of items (users) with most {counts}; tail are the other 80 %"


def _chapter(chapter: Chapter, several: bool) -> Markup:
    shown = rows.rivals(chapter.section)
    return render(
        "chapter.html",
        chapter=chapter,
        prefix=f"{chapter.section.slug}-" if several else "",  # makes anchors unique
        facts=_facts(chapter),
        summary=sentences.summary(chapter),
        terms=sentences.terms(chapter, _tails(chapter.section)),
        methods=sentences.methods(chapter),
        tiles=tiles.all_of(chapter),
        backbone=names.backbone(shown[0].backbone) if shown else "",
        variants=rows.are_variants(shown),
        warnings=len(chapter.audit.warnings) if chapter.audit else 0,
        parts=_parts(chapter),
    )


def _facts(chapter: Chapter) -> list[str]:
    """Facts about runs and data, for the line below the title."""
    section, corpus = chapter.section, chapter.corpus
    count = len({run.folder for row in section.rows for run in row.runs})
    seeds = f"seed{'s' * (len(section.seeds) > 1)} {', '.join(map(str, section.seeds))}"
    facts = [f"{len(section.rows)} systems, {count} runs, {seeds}"]
    if corpus:
        facts += [f"items such as {listed(some)}"] if (some := _best_known(corpus)) else []
        facts += [f"{corpus.num_users:,} users", f"{corpus.num_items:,} items", f"{len(corpus.items):,} interactions"]
    if chapter.audit:
        facts.append(f"sparsity {small_tables.sparsity(chapter.audit.facts['counts']['sparsity'])}")
    facts.append(f"{len(section.users_E):,} test targets")
    facts.append(f"split: {section.split.replace('_', ' ')}")
    facts += [f"seen items {section.seen}"] if section.seen != "hidden" else []
    facts += [f"texts embedded by {one}" for one in chapter.encoders]
    return facts


def _best_known(corpus: Corpus) -> list[str]:
    """Titles of the items with most training interactions, shortened; [] if items have no titles."""
    best = np.argsort(-corpus.item_counts_V, kind="stable")[:_EXAMPLES]
    titles = [corpus.item_titles[i].strip() for i in best] if corpus.item_titles else []
    return [f"“{textwrap.shorten(title, _TITLE, placeholder='…')}”" for title in titles if title]


def _parts(chapter: Chapter) -> list[_Part]:
    """The parts that have something to show, in the order of the page."""
    pictures = {one.name: one for one in chapter.figures}
    parts = [_Part("results", "Results", blocks.results(chapter))]
    if chapter.comparisons:
        parts.append(_Part("tests", "Differences and tests", blocks.tests(chapter)))
    if "tail" in pictures:
        parts.append(_drawn(chapter, pictures["tail"]))
    if whom := [one for one in chapter.figures if one.name.startswith("groups-")]:
        parts.append(_Part("whom", "Whom it helps", blocks.groups(chapter, whom)))
    if "trade-off" in pictures:
        parts.append(_drawn(chapter, pictures["trade-off"], blocks.shapes(chapter)))
    for name in metrics.lists():
        if name in pictures:
            parts.append(_Part(name, pictures[name].title, blocks.whole_lists(chapter, name, pictures[name])))
    if "settings" in pictures:
        parts.append(_drawn(chapter, pictures["settings"]))
    if "items" in pictures:
        parts.append(_drawn(chapter, pictures["items"]))
    if chapter.views:
        parts.append(_Part("views", "ID view and LLM view", blocks.views(chapter, pictures.get("views"))))
    if chapter.samples:
        parts.append(_Part("users", "Tail users, one by one", blocks.users(chapter)))
    parts.append(_Part("differs", "Settings that differ", setting_table.table(chapter)))
    if "curves" in pictures:
        parts.append(_drawn(chapter, pictures["curves"]))
    if chapter.gradients or "gradients" in pictures:
        drawn = blocks.figure(chapter, pictures["gradients"]) if "gradients" in pictures else Markup()
        told = gradient_part.table(chapter, chapter.gradients) if chapter.gradients else Markup()
        parts.append(_Part("gradients", "Gradients", drawn + told))
    drawn = blocks.figure(chapter, pictures["cost"], blocks.shapes(chapter)) if "cost" in pictures else Markup()
    parts.append(_Part("costs", "Training time", drawn + blocks.costs(chapter)))
    if chapter.audit:
        drawn = blocks.figure(chapter, pictures["data"]) if "data" in pictures else Markup()
        told = data_audit.warnings(chapter.section, chapter.audit) + drawn + data_audit.table(chapter.audit)
        parts.append(_Part("data", "The data", told))
    return [*parts, _Part("runs", "Where it comes from", blocks.runs(chapter))]


def _drawn(chapter: Chapter, one: Figure, shapes: str = "") -> _Part:
    return _Part(one.name, one.title, blocks.figure(chapter, one, shapes))
