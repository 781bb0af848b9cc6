"""Coverage: the share of all items, and of tail items, that are among some user's best K (FAERec eq. 15)."""

from __future__ import annotations

from llmesr_jax.ranking.metrics import CUTOFFS, Lists

FROM = "lists"
NAMES = tuple(f"{kind}Coverage@{k}" for k in CUTOFFS for kind in ("", "Tail"))
SHOWN = {"Coverage@10": "share of all items", "TailCoverage@10": "share of tail items"}
TITLE = "How much of the catalogue is recommended"
CAPTION = "The share of items that are among the best 10 of at least one test user, full ranking. Ticks are seeds."
SHARE = True


def values(lists: Lists) -> dict[str, float | None]:
    """Coverage and TailCoverage at each cut-off; TailCoverage is None if there are no tail items."""
    shares: dict[str, float | None] = {}
    for k in CUTOFFS:
        recommended_V = (lists.best_V > 0) & (lists.best_V <= k)
        shares[f"Coverage@{k}"] = float(recommended_V.mean())
        in_tail_V = recommended_V[lists.tail_V]
        shares[f"TailCoverage@{k}"] = float(in_tail_V.mean()) if len(in_tail_V) else None
    return shares
