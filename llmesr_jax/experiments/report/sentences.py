"""The results in sentences: which method leads, by how much, and whether the tests confirm it."""

from __future__ import annotations

from collections.abc import Sequence

from llmesr_jax.core.wording import listed
from llmesr_jax.experiments.report import names, rows, tables
from llmesr_jax.experiments.report.chapter import Chapter
from llmesr_jax.experiments.report.compare import Comparison
from llmesr_jax.experiments.report.rows import Row
from llmesr_jax.experiments.report.templating import signed
from llmesr_jax.models import methods as method_files

_GROUPS = {"overall": "", "tail_item": " on tail items", "tail_user": " for tail users"}


def spoken(section: rows.Section, row: Row) -> str:
    """`plain SASRec`, or `FAERec`; with its backbone if the page has several."""
    if row.method == "none" and not row.variant:
        return f"plain {names.backbone(row.backbone)}"
    return f"{row.title} on {names.backbone(row.backbone)}" if len(section.backbones) > 1 else row.title


def verdict(one: Comparison) -> str:
    """The result of the tests of a difference, in a few words."""
    if one.verdict == "shown":
        return f"significant over users and over {len(one.row.seeds)} seeds"
    seeds = "1 seed" if one.seeds is None else f"not over {one.seeds.count} seeds"
    if one.verdict == "users":
        return f"{seeds}; significant over users" if one.seeds is None else f"significant over users, {seeds}"
    if one.paired_t is None:
        return "1 seed, and no data for a test over users" if one.seeds is None else _over_seeds_alone(one)
    return "1 seed; not significant" if one.seeds is None else "not significant"


def _over_seeds_alone(one: Comparison) -> str:
    shown = "significant" if one.p_seeds < 0.05 else "not significant"
    return f"{shown} over {one.seeds.count} seeds; no data for a test over users"


def size(one: Comparison) -> str:
    """`+0.0036 (+10.6 %)`."""
    return f"{signed(one.difference)} ({'–' if one.relative is None else signed(100 * one.relative, 1) + ' %'})"


def summary(chapter: Chapter) -> list[str]:
    """The sentences at the top of a section of the page, those on full ranking first."""
    found = []
    for protocol, group in (("full", "overall"), ("full", "tail_item"), ("sampled", "overall")):
        if (lead := _leader(chapter, protocol, group)) is not None:
            found.append(_sentence(chapter, protocol, group, *lead))
    found += [_variants(chapter, "full", group) for group in ("overall", "tail_item")]
    return [text for text in (*found, _cut(chapter)) if text]


def _cut(chapter: Chapter) -> str:
    """Which of the rivals were not trained to their end, as their numbers alone do not show it."""
    cut = [spoken(chapter.section, row) for row in rows.rivals(chapter.section) if row.cut]
    if not cut:
        return ""
    every, whose = chapter.section.rows, "its" if len(cut) == 1 else "their"
    which = listed(cut)
    if len(every) > 3 and all(row.cut for row in every):
        which, whose = f"all {len(every)} rows", "their"
    told = f"the limit of epochs ended the training of {which}, not early stopping (†): "
    return _capital(f"{told}with more epochs {whose} numbers may rise.")


def _variants(chapter: Chapter, protocol: str, group: str) -> str:
    """If rows are compared with their own method: the variants that gain and lose most against the full method."""
    made = [c for c in chapter.comparisons.get(protocol, ()) if c.group == group and c.row.method == c.baseline.method]
    if not made:
        return ""
    ordered = sorted(made, key=lambda c: c.difference)
    told = [f"{one.row.variant}: {size(one)}, {verdict(one)}" for one in ordered[-1:] + ordered[:1][: len(ordered) - 1]]
    kinds = ("highest", "lowest") if len(told) > 1 else ("only",)
    of = spoken(chapter.section, made[0].baseline)
    parts = "; ".join(f"the {kind} variant is {text}" for kind, text in zip(kinds, told))
    return _capital(f"{names.metric(chapter.metric)}{_GROUPS[group]} under {protocol} ranking, against {of}: {parts}.")


def _leader(chapter: Chapter, protocol: str, group: str) -> tuple[Row, float] | None:
    """The best of the full methods among the featured rows, and its mean."""
    shown = [row for row in rows.featured(chapter.section) if not row.variant] or rows.featured(chapter.section)
    means = [(row, tables.mean(row.values(protocol, chapter.metric, group))) for row in shown]
    known = [(row, value) for row, value in means if value is not None]
    return max(known, key=lambda pair: pair[1]) if len(known) > 1 else None


def _sentence(chapter: Chapter, protocol: str, group: str, row: Row, value: float) -> str:
    section, metric = chapter.section, names.metric(chapter.metric)
    where = f"{_GROUPS[group]} under {protocol} ranking"
    made = chapter.comparisons.get(protocol, ())
    one = next((c for c in made if c.row is row and c.group == group), None)
    if one is not None:
        base = value - one.difference
        text = f"{spoken(section, row)} {_beats(one, spoken(section, one.baseline), metric)}{where}"
        text += f" ({value:.4f} against {base:.4f}; {verdict(one)})."
        return _capital(text + _second(chapter, protocol, group, row))
    others = [c for c in made if c.group == group and c.baseline is row and not c.row.variant]
    if others:
        best = max(others, key=lambda c: c.difference)
        text = f"no method beats {spoken(section, row)} in {metric}{where}: the next, {spoken(section, best.row)}, "
        return _capital(f"{text}differs by {size(best)} ({verdict(best)}).")
    text = f"{spoken(section, row)} has the highest {metric}{where}: {value:.4f}."
    return _capital(text + _second(chapter, protocol, group, row))


def _beats(one: Comparison, baseline: str, metric: str) -> str:
    if not one.relative:
        return f"beats {baseline} by {one.difference:.4f} {metric}"
    if one.relative < 0:  # the best of its own backbone, below a baseline that is elsewhere
        return f"is {-100 * one.relative:.1f} % below {baseline} in {metric}"
    if one.relative > 2:  # a factor is easier to read than so many per cent
        return f"has {1 + one.relative:.1f} times the {metric} of {baseline}"
    return f"beats {baseline} by {100 * one.relative:.1f} % in {metric}"


def _second(chapter: Chapter, protocol: str, group: str, row: Row) -> str:
    """A sentence on the leader against the best of the other methods; "" if that is the baseline."""
    one = chapter.improved.get(protocol, {}).get((row.backbone, group, chapter.metric))
    if one is None or one.row is not row or one.baseline.method == "none":
        return ""
    other = spoken(chapter.section, one.baseline)
    return f" Its difference from {other}, the best of the other methods, is {size(one)}: {verdict(one)}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def methods(chapter: Chapter) -> list[tuple[str, str]]:
    """(title, what it is) of each method of the section but the plain backbone, as its file says it."""
    found = {}
    for row in chapter.section.rows:
        text = (getattr(method_files.PLUGINS.load(row.method), "__doc__", "") or "").partition("\n\n")[0]
        title = names.method(row.method)
        if row.method != "none" and text:
            found[title] = " ".join(text.removeprefix(f"{title}: ").split())
    return list(found.items())


def terms(chapter: Chapter, tails: str) -> Sequence[tuple[str, str]]:
    """(term, meaning) of the terms on the page; `tails` is the meaning of tail and head."""
    found = [
        ("full", "a test item is ranked among all items that the user has not seen, as in a shop"),
        ("sampled", "a test item is ranked among 100 items, drawn at random: an easier and different task"),
        ("H@10", "hit rate: the share of users whose test item is among the first ten"),
        ("N@10", "NDCG@10: as the hit rate, but place 1 counts 1 and place 10 counts 0.29"),
        ("tail, head", tails),
        ("seed", "one training from one random initialisation; rows show means over seeds"),
    ]
    if any(row.method == "none" for row in chapter.section.rows):
        plain = " or ".join(names.backbone(name) for name in chapter.section.backbones)
        found.insert(0, ("Base", f"the plain backbone, {plain}: a sequence model without texts or an LLM"))
    return found
