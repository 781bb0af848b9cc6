"""A table of the settings that differ between rows, with the rows that have each value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from llmesr_jax.experiments.report import rows
from llmesr_jax.experiments.report.chapter import Chapter
from llmesr_jax.experiments.report.rows import Row
from llmesr_jax.experiments.report.templating import render
from llmesr_jax.models import methods
from llmesr_jax.training import schema


class _Line(NamedTuple):
    """A setting, what it means, and its values with the rows that have them."""

    key: str
    doc: str
    values: list[tuple[str, str]]


def table(chapter: Chapter) -> Markup:
    """The table of differing settings, and below it all settings of each method's section."""
    section = chapter.section
    differing = rows.differing(section.rows)
    own = set(methods.PLUGINS.names())
    lines = [
        _Line(
            key,
            _doc(key),
            [(v, _rows(chapter, of, section.rows)) for v, of in values.items()],
        )
        for key, values in differing.items()
    ]
    sections: dict[str, list[tuple[str, str]]] = {}
    for row in section.rows:
        if row.method not in sections and not row.variant:
            mine = {k: v for k, v in row.settings.items() if k.partition(".")[0] == row.method and row.method in own}
            sections[row.method] = [(key.partition(".")[2], str(value)) for key, value in mine.items()]
    return render("setting_table.html", lines=lines, sections={k: v for k, v in sections.items() if v})


def _doc(key: str) -> str:
    """What a setting means; "" if that is not known."""
    if key.startswith("<"):
        kind = key[1:].partition(">")[0]
        return f"the setting of this name in the section of each row's {kind}"
    known = schema.settings()
    return known[key].doc if key in known else ""


def _rows(chapter: Chapter, of: Sequence[Row], every: Sequence[Row]) -> str:
    """The names of rows; `all others` is never used, since a row may lack the setting."""
    section = chapter.section
    if len(section.backbones) > 1:
        systems = {row.title for row in of}
        for backbone in section.backbones:
            if list(of) == [row for row in every if row.backbone == backbone]:
                return f"all rows on {rows.names.backbone(backbone)}"
        if list(of) == [row for row in every if row.title in systems]:
            return ", ".join(dict.fromkeys(f"{row.title} on every backbone" for row in of))
    return ", ".join(section.title(row) for row in of)
