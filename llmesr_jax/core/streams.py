"""Streams of random numbers on the host: each use of a seed has its own stream, by name.

`np.random.default_rng([s, 1])` and `np.random.default_rng([s, 1, 0])` are the same stream, so numbers alone do not
separate two uses of a seed. Three streams are older than this module and do not change, as runs depend on them:
`ranking.candidates`, the noise columns of `semantic.pca`, and the data set `demo`.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np


def stream(name: str, *numbers: int) -> np.random.Generator:
    """The generator of one use of a seed: it depends on the name and on all numbers, their order and their count.

    >>> order, other = (stream(name, 42, 1).integers(2**63) for name in ("order", "ties"))
    >>> bool(order != other)
    True
    """
    text = json.dumps([name, *map(int, numbers)])
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()))
