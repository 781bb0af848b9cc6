"""Which colour and mark a row has, the same in every figure of a section."""

from __future__ import annotations

from typing import NamedTuple

from llmesr_jax.report.drawing import SLOTS
from llmesr_jax.report.rows import Row, Section

_MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")  # one a backbone
_SIGNS = ("●", "■", "▲", "◆", "▼", "✚", "✖", "★")


class Look(NamedTuple):
    """Attributes:
    color: name of a variable of `drawing.THEME`.
    hollow: one of more systems than there are colours: it has its method's colour.
    mark: Matplotlib's, by backbone.
    sign: the same as a character.
    """

    color: str
    hollow: bool
    mark: str
    sign: str


class Palette:
    """Looks of a section's rows. Whole methods get their colours before variants do; `none` is grey."""

    def __init__(self, section: Section):
        plain = [row.system for row in section.rows if not row.variant]
        systems = list(dict.fromkeys([*plain, *(row.system for row in section.rows)]))
        others = [name for name in systems if name != "none"]
        self._slots = {"none": 0} | {name: i for i, name in enumerate(others[: SLOTS - 1], 1)}
        self._backbones = section.backbones

    def look(self, row: Row) -> Look:
        hollow = row.system not in self._slots
        slot = self._slots.get(row.system, self._slots.get(row.method, SLOTS - 1))
        shape = self._backbones.index(row.backbone) % len(_MARKS)
        return Look(f"s{slot}", hollow, _MARKS[shape], _SIGNS[shape])
