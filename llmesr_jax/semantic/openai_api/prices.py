"""Prices and widths of OpenAI's embedding models. Prices change: check OpenAI's page before a large job."""

from __future__ import annotations

from typing import NamedTuple

AS_OF = "2026-07-03"


class Model(NamedTuple):
    """USD per million tokens, for requests and for the Batch API, and the width without `dimensions`."""

    price: float
    batch_price: float
    width: int


MODELS = {
    "text-embedding-3-small": Model(0.02, 0.01, 1536),
    "text-embedding-3-large": Model(0.13, 0.065, 3072),
    "text-embedding-ada-002": Model(0.10, 0.05, 1536),
}
