"""Settings that several backbones have: each with its limits and its line of help, the default left to the file."""

from __future__ import annotations

from typing import Any

from llmesr_jax.core.knobs import knob


def blocks(what: str = "transformer blocks") -> Any:
    """How many blocks stand one on the other."""
    return knob(2, what, least=1)


def heads(default: int = 1) -> Any:
    """Of the attention."""
    return knob(default, "attention heads; the width is a multiple of it", least=1)


def dropout(default: float, where: str = "embeddings, attention weights, feed-forward") -> Any:
    """The rate, one for all places."""
    return knob(default, f"dropout rate: {where}", least=0, most=0.99)


def table_start() -> Any:
    """How a table of items that no embeddings start is drawn."""
    return knob(
        "xavier",
        "start of the item table: xavier: Xavier-normal, or normal: N(0, 0.02), as in FAERec's release",
        choices=("xavier", "normal"),
    )


def head_user_weight(what: str) -> Any:
    """HSUGA (Li et al., ACL 2026, group-aware alignment): less of it for active users, the top fifth by training length.

    The release gives active users other numbers of similar users, and the similar ones only; a weight is ours.
    """
    return knob(1.0, f"factor of the {what} for head users, below 1 in HSUGA; tail users have 1", least=0)


def mask_padding() -> Any:
    """Whether attention leaves padding out."""
    return knob(True, "exclude padded keys from the attention")
