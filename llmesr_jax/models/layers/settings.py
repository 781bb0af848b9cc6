"""Settings that several backbones or methods have, each with its limits and its help; files choose some defaults."""

from __future__ import annotations

from typing import Any

from llmesr_jax.core.knobs import knob


def blocks(what: str = "transformer blocks") -> Any:
    """The number of stacked blocks."""
    return knob(2, what, least=1)


def heads(default: int = 1) -> Any:
    """The number of attention heads."""
    return knob(default, "attention heads; the width must be a multiple of this", least=1)


def dropout(default: float, where: str = "embeddings, attention weights, feed-forward") -> Any:
    """The dropout rate, one for all places."""
    return knob(default, f"dropout rate: {where}", least=0, most=0.99)


def table_start() -> Any:
    """How an item table is drawn that does not start at embeddings."""
    return knob(
        "xavier",
        "start of the item table: xavier: Xavier-normal, or normal: N(0, 0.02), as in FAERec's release",
        choices=("xavier", "normal"),
    )


def head_user_weight(what: str) -> Any:
    """The weight of an alignment for active users, the top fifth by training length (HSUGA, Li et al., ACL 2026).

    HSUGA's release instead changes the number of similar users of active users, and drops dissimilar ones; a weight is
    our form of it.
    """
    return knob(1.0, f"factor of the {what} for head users, below 1 in HSUGA; tail users have 1", least=0)


def mask_padding() -> Any:
    """Whether attention excludes padding."""
    return knob(True, "exclude padded keys from the attention (False in preset release)")
