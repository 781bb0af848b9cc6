"""What to say of a name that nobody knows: the names there are, and the one that was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], most: int = 1) -> list[str]:
    """The known names that look most like `name`, best first, upper and lower case and punctuation aside.

    >>> nearest("SASRec", ["gru4rec", "sasrec"])
    ['sasrec']
    >>> nearest("xyz", ["gru4rec", "sasrec"])
    []
    """
    plain: dict[str, str] = {}
    for one in known:
        plain.setdefault(_plain(one), one)
    return [plain[found] for found in difflib.get_close_matches(_plain(name), plain, n=most)]


def not_known(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for an unknown name.

    >>> not_known("backbone", "sasrek", ["gru4rec", "sasrec"])
    "backbone 'sasrek' is not known; wanted one of: gru4rec, sasrec; did you mean sasrec?"
    """
    known = list(known)
    listed = ", ".join(known) or "none, as there are none"
    return f"{kind} {name!r} is not known; wanted one of: {listed}{did_you_mean(name, known)}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean sasrec?`, or nothing where no name is near."""
    found = nearest(name, known)
    return f"; did you mean {found[0]}?" if found else ""


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()
