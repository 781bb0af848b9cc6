"""Prompt templates of the user's own, with any fields of an item.

    item = parse("A {noun}: {title}[ by {brand}][, {price} dollars]", "--item_template")
    fill(item, {"noun": "hat", "title": "Fez", "price": "5"}.get)  ->  "A hat: Fez, 5 dollars"

`{field}` is replaced by the field's text, which may be empty. A part in square brackets is left out if one of its
fields is empty. `{{`, `}}`, `[[` and `]]` stand for single brackets in the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from llmesr_jax.core.errors import InputError

_TOKEN = re.compile(r"\{\{|\}\}|\[\[|\]\]|\{(?P<field>[^{}]*)\}|(?P<open>\[)|(?P<close>\])|(?P<stray>[{}])|[^{}\[\]]+")


class Field(NamedTuple):
    """A field of a template, `{name}`."""

    name: str


class Part(NamedTuple):
    """Text and fields in order; an `optional` part is left out if one of its fields is empty."""

    pieces: tuple[str | Field, ...]
    optional: bool


def parse(template: str, where: str) -> tuple[Part, ...]:
    """The parts of a template. `where` names it in errors.

    Raises:
      InputError: brackets that do not match, or no field at all.
    """
    parts: list[Part] = []
    pieces: list[str | Field] = []
    optional = False
    for match in _TOKEN.finditer(template):
        if match["stray"] or (match["open"] and optional) or (match["close"] and not optional):
            raise _wrong(where, template, f"{match[0]!r} at character {match.start() + 1} has no matching bracket")
        if match["open"] or match["close"]:
            parts.append(Part(tuple(pieces), optional))
            pieces, optional = [], not optional
        elif match["field"] is not None:
            name = match["field"].strip()
            if not name:
                raise _wrong(where, template, f"the braces at character {match.start() + 1} have no field")
            pieces.append(Field(name))
        else:
            doubled = match[0] in ("{{", "}}", "[[", "]]")
            pieces.append(match[0][0] if doubled else match[0])
    if optional:
        raise _wrong(where, template, "a '[' has no matching bracket")
    parts.append(Part(tuple(pieces), False))
    if not fields(parts):
        raise _wrong(where, template, "has no field, so all texts would be the same")
    return tuple(part for part in parts if part.pieces)


def fields(parts: tuple[Part, ...] | list[Part]) -> list[str]:
    """Names of the fields, in order, each once."""
    return list(dict.fromkeys(piece.name for part in parts for piece in part.pieces if isinstance(piece, Field)))


def fill(parts: tuple[Part, ...], value: Callable[[str], str | None]) -> str:
    """The text, or "" if every field is empty, as the template's own words carry no information.

    Args:
      value: name of a field -> its text; None or "" if it is empty.
    """
    values = {name: value(name) or "" for name in fields(parts)}
    if not any(values.values()):
        return ""
    texts = []
    for part in parts:
        names = [piece.name for piece in part.pieces if isinstance(piece, Field)]
        if not part.optional or all(values[name] for name in names):
            texts.extend(values[piece.name] if isinstance(piece, Field) else piece for piece in part.pieces)
    return " ".join("".join(texts).split())


def _wrong(where: str, template: str, reason: str) -> InputError:
    return InputError(
        f"{where}={template[:80]!r}: {reason}; expected text with {{field}} and, for parts that may be absent, "
        "[ by {brand}]; double a bracket to write the bracket itself"
    )
