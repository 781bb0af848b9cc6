"""The rule: which raw interactions are kept."""

from __future__ import annotations

import dataclasses

from llmesr_jax.core.knobs import knob


@dataclasses.dataclass(frozen=True)
class Rule:
    """Which raw interactions are kept."""

    min_rating: float | None = knob(None, "keep interactions with at least this rating; none: all")
    date_from: str = knob("", 'keep interactions from this date or time on (UTC), as "2000-01-01"; empty: all')
    date_to: str = knob(
        "", 'keep interactions up to and including this time (UTC); "2019-12-31" means its first moment'
    )
    exact_duplicates: str = knob(
        "drop",
        "rows with the same user, item and time as an earlier row: drop or keep them; rules that reproduce "
        "a paper's counts keep them",
        choices=("drop", "keep"),
    )
    duplicates: str = knob(
        "all",
        "which of a user's interactions with one item to keep",
        choices=("all", "first", "last"),
    )
    core: str = knob(
        "once",
        "k-core: counts taken once after the earlier steps, iterated until nothing changes, or none",
        choices=("none", "once", "iterated"),
    )
    user_core: int = knob(5, "k-core: minimum number of interactions of a user", least=0)
    item_core: int = knob(5, "k-core: minimum number of interactions of an item", least=0)
    core_counts: str = knob(
        "interactions",
        "what the k-core counts: interactions, or distinct items and users",
        choices=("interactions", "distinct"),
    )
    min_length: int = knob(1, "users with fewer interactions after all steps are left out", least=1)
