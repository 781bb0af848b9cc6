"""Reads an answer of the embeddings API: exactly the requested vectors, or the reason why not."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

import numpy as np

from llmesr_jax.data import markup


class Refused(Exception):
    """An answer that cannot be used; the message says why.

    Attributes:
      code: the status that an error in the body of an answer names; None without one.
    """

    def __init__(self, reason: str, code: int | None = None):
        super().__init__(reason)
        self.code = code


def parse(content: bytes | str, count: int, width: int | None) -> np.ndarray:
    """(count, F) float32, in the order of the texts that were sent.

    A row may be zeros or contain NaN or infinity; the caller decides what to do about it (`unusable_rows`).

    Args:
      content: the answer's body.
      count: texts sent.
      width: F, or None for any.

    Raises:
      Refused: the answer is not JSON, is an error, or is not `count` vectors of one width.
    """
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        text = content.decode(errors="replace") if isinstance(content, bytes) else content
        if text.lstrip()[:1] == "<":
            raise Refused(
                f"the answer is a web page, not JSON ({' '.join(markup.plain(text[:2000]).split())[:80]})"
            ) from error
        raise Refused("the answer is not JSON") from error
    return check(body, count, width)


def check(body: Any, count: int, width: int | None) -> np.ndarray:
    """As `parse`, for a decoded answer."""
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
        if isinstance(body, dict) and (said := sentence(body)):
            raise Refused(f"the answer is an error ({said})", _code(body))
        raise Refused("the answer has no list of embeddings")
    if len(data) != count:
        raise Refused(f"{len(data)} embeddings for {count} texts")
    places = _places([entry.get("index") for entry in data])
    vectors = [_vector(entry.get("embedding")) for entry in data]
    widths = {len(vector) for vector in vectors}
    if len(widths) != 1 or 0 in widths:
        raise Refused(f"embeddings of widths {sorted(widths)[:3]} in one answer")
    found = widths.pop()
    if width is not None and found != width:
        raise Refused(f"embeddings of width {found}, not {width}")
    ordered = np.empty((count, found), np.float32)
    ordered[places] = vectors
    return ordered


def unusable_rows(vectors_NxF: np.ndarray) -> dict[int, str]:
    """Row -> what is wrong with it: zeros, NaN, infinity."""
    finite_N = np.isfinite(vectors_NxF).all(axis=1)
    zero_N = finite_N & ~vectors_NxF.any(axis=1)
    wrong = {int(row): "a vector with NaN or infinity" for row in np.flatnonzero(~finite_N)}
    return wrong | {int(row): "a vector of zeros" for row in np.flatnonzero(zero_N)}


def sentence(body: Any) -> str:
    """The server's text of an error, from any field of its answer, on one line; "" if there is none."""
    if isinstance(body, str):
        return " ".join((markup.plain(body) if body.lstrip()[:1] == "<" else body).split())
    if isinstance(body, list):
        return "; ".join(filter(None, map(sentence, body[:3])))
    if isinstance(body, dict):
        names = ("message", "error", "errors", "detail", "msg", "error_message", "title")
        return next((said for name in names if (said := sentence(body.get(name)))), "")
    return ""


def _code(body: dict) -> int | None:
    """The status that an error names: of the body itself, or of the object below `error`."""
    for part in (body.get("error"), body):
        code = (
            next((part.get(name) for name in ("code", "status") if name in part), None)
            if isinstance(part, dict)
            else None
        )
        if isinstance(code, (int, str)) and str(code).isdecimal() and 400 <= int(code) < 600:
            return int(code)
    return None


def _places(index: list[Any]) -> list[int]:
    """The index of the text to which each embedding belongs.

    Some servers omit all indices, or omit index 0, or give every embedding the same index; then the position in the
    answer counts. Different indices that are not 0, 1, 2, ... are refused.
    """
    count = len(index)
    given = [i for i in index if i is not None]
    if all(type(i) is int for i in given):
        if len(given) == count - 1 and len(left := set(range(count)) - set(given)) == 1:  # one number is left out
            return [left.copy().pop() if i is None else i for i in index]
        if len(set(given)) == count == len(given) and set(given) == set(range(count)):
            return index
        if len(set(given)) < len(given) or all(i in (None, place) for place, i in enumerate(index)):
            return list(range(count))
    raise Refused("the embeddings are not numbered 0, 1, 2, ... each once")


def _vector(embedding: Any) -> np.ndarray:
    """(F,) float32, from a list of numbers or from base64 of little-endian float32."""
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
