"""Messages for an unknown name: the known names, and the one that was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable


def nearest(name: str, known: Iterable[str], most: int = 1) -> list[str]:
    """The known names most similar to `name`, best first; letter case and punctuation do not matter.

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
    "backbone 'sasrek' is not known; expected one of: gru4rec, sasrec; did you mean sasrec?"
    """
    known = list(known)
    wanted = f"expected one of: {', '.join(known)}" if known else "there are none"
    return f"{kind} {name!r} is not known; {wanted}{did_you_mean(name, known)}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean sasrec?`, or nothing if no name is similar."""
    found = nearest(name, known)
    return f"; did you mean {found[0]}?" if found else ""


_MOST = 50_000  # the most ids that are compared, which takes about a second


def nearest_id(raw: str, known: Collection[str]) -> str:
    """`; did you mean 'sku-12'?`, or nothing: if no id is similar, if too many are, and for numbers, which all
    have similar neighbours.

    >>> nearest_id("sku12", ["sku-12", "mug-7"])
    "; did you mean 'sku-12'?"
    """
    if len(known) > _MOST or raw.strip().isdigit():
        return ""
    found = nearest(raw, known)
    return f"; did you mean {found[0]!r}?" if found else ""


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()
