"""The colour and the mark of each row, the same in every figure of a section."""

from __future__ import annotations

from typing import NamedTuple

from llmesr_jax.experiments.drawing import SLOTS
from llmesr_jax.experiments.report.rows import Row, Section

_MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")  # one per backbone
# Colours that are the same in every report: method -> slot.
_OWN = {
    "none": 0,
    "llmesr": 1,
    "llminit": 2,
    "faerec": 3,
    "rlmrec_con": 4,
    "rlmrec_gen": 5,
    "cities": 6,
    "melt": 7,
    "loam": 8,
}
_SIGNS = ("●", "■", "▲", "◆", "▼", "✚", "✖", "★")


class Look(NamedTuple):
    """How a row is drawn.

    Attributes:
      color: name of a variable of `drawing.THEME`.
      hollow: there are more systems than colours, so this one has its method's colour and a hollow mark.
      mark: of the backbone, for Matplotlib.
      sign: the mark as a character.
    """

    color: str
    hollow: bool
    mark: str
    sign: str


class Palette:
    """Looks of a section's rows. Whole methods get their colours before variants do."""

    def __init__(self, section: Section):
        plain = [row.system for row in section.rows if not row.variant]
        systems = list(dict.fromkeys([*plain, *(row.system for row in section.rows)]))
        self._slots = {name: slot for name, slot in _OWN.items() if name in systems}
        free = [slot for slot in range(1, SLOTS) if slot not in self._slots.values()]
        self._slots |= dict(zip([name for name in systems if name not in self._slots], free))
        self._backbones = section.backbones

    def look(self, row: Row) -> Look:
        """How a row is drawn."""
        hollow = row.system not in self._slots
        slot = self._slots.get(row.system, self._slots.get(row.method, SLOTS - 1))
        shape = self._backbones.index(row.backbone) % len(_MARKS)
        return Look(f"s{slot}", hollow, _MARKS[shape], _SIGNS[shape])
