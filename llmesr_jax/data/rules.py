"""What is kept of raw interactions."""

from __future__ import annotations

import dataclasses

from llmesr_jax.core.knobs import knob


@dataclasses.dataclass(frozen=True)
class Rule:
    """What is kept of the raw interactions."""

    min_rating: float | None = knob(None, "keep ratings from this one on; none: all")
    date_from: str = knob("", 'keep interactions from this date or time on (UTC), as "2000-01-01"; empty: all')
    date_to: str = knob("", 'keep interactions up to this time, itself included; "2019-12-31" is its midnight')
    exact_duplicates: str = knob(
        "drop",
        "rows with the same user, item and time as an earlier one: drop them, or keep them, as rules do that reproduce "
        "a paper's counts",
        choices=("drop", "keep"),
    )
    duplicates: str = knob(
        "all",
        "of a user's interactions with one item keep all, the first or the last",
        choices=("all", "first", "last"),
    )
    core: str = knob(
        "once",
        "k-core: counts taken once on what the steps before leave, or iterated until nothing changes, or none",
        choices=("none", "once", "iterated"),
    )
    user_core: int = knob(5, "interactions that a user must have", least=0)
    item_core: int = knob(5, "interactions that an item must have", least=0)
    core_counts: str = knob(
        "interactions",
        "what the k-core counts: interactions, or distinct items and users",
        choices=("interactions", "distinct"),
    )
    min_length: int = knob(1, "users with fewer interactions at the end are left out", least=1)
