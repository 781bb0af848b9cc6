"""What a folder that was embedded holds, and what it should hold."""

from __future__ import annotations

import embedding_server
import numpy as np

from llmesr_jax.data import reading
from llmesr_jax.semantic import texts
from llmesr_jax.semantic.texts import Wording

WIDTH = 8
FILES = ("item_emb.npy", "user_emb.npy")


def arrays(folder):
    return [np.load(folder / name) for name in FILES]


def contents(folder):
    return [(folder / name).read_bytes() for name in FILES]


def texts_of(folder, wording=Wording()):
    """The texts of all items, then of all users."""
    return list(texts.stream(reading.load("toy", folder), wording))


def wanted(folder, wording=Wording()):
    """(V + U, WIDTH): the vectors of these texts."""
    told = texts_of(folder, wording)
    return np.stack([embedding_server.vector(t, WIDTH) if t else np.zeros(WIDTH, np.float32) for t in told])


def listing(folder):
    """Path -> content of each file below."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
