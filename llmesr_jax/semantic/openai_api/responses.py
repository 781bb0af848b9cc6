"""Reading an answer of the embeddings API, and refusing every one that is not exactly what was asked for."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

import numpy as np


class Refused(Exception):
    """An answer that is not to be used; the message says why. Ask again."""


def parse(content: bytes | str, count: int, width: int | None) -> np.ndarray:
    """(count, F) float32, in the order of the texts that were sent.

    Args:
      content: the answer's body.
      count: texts sent.
      width: F, or None where any will do.

    Raises:
      Refused: it is no JSON, or not `count` finite vectors of one width, numbered 0 to count - 1.
    """
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Refused("the answer is not JSON") from error
    return check(body, count, width)


def check(body: Any, count: int, width: int | None) -> np.ndarray:
    """As `parse`, of an answer that was decoded."""
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
        raise Refused("the answer holds no list of embeddings")
    if len(data) != count:
        raise Refused(f"{len(data)} embeddings for {count} texts")
    index = [entry.get("index") for entry in data]
    if not all(type(i) is int for i in index) or sorted(index) != list(range(count)):
        raise Refused("the embeddings are not numbered 0, 1, 2, ... each once")
    vectors = [_vector(entry.get("embedding")) for entry in data]
    widths = {len(vector) for vector in vectors}
    if len(widths) != 1 or 0 in widths:
        raise Refused(f"embeddings of widths {sorted(widths)[:3]} in one answer")
    found = widths.pop()
    if width is not None and found != width:
        raise Refused(f"embeddings of width {found}, not {width}")
    ordered = np.empty((count, found), np.float32)
    ordered[index] = vectors
    if not np.isfinite(ordered).all():
        raise Refused("embeddings with NaN or infinity")
    return ordered


def _vector(embedding: Any) -> np.ndarray:
    """(F,) of a list of numbers, or of base64 of little-endian float32."""
    if isinstance(embedding, str):
        try:
            return np.frombuffer(base64.b64decode(embedding, validate=True), "<f4")
        except (binascii.Error, ValueError) as error:
            raise Refused("an embedding that is not base64 of float32") from error
    try:
        vector = np.asarray(embedding)
    except ValueError as error:  # ragged
        raise Refused("an embedding that is not a list of numbers") from error
    if vector.ndim != 1 or vector.dtype.kind not in "fiu":
        raise Refused("an embedding that is not a list of numbers")
    with np.errstate(over="ignore"):  # becomes infinity, which is refused
        return vector.astype(np.float32)
