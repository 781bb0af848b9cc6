"""Objects of a JSON file: one per line, or an array, or objects over several lines or several in a line.

Memory is bounded by the largest object, whatever the size of an array.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.decoding import Text
from llmesr_jax.data.raw_files import MAX_LINE, BadLines

_SKIPPED = re.compile(r"[\s,]*")
_DECODER = json.JSONDecoder()
_WANTED = "one JSON object per line, or an array of objects"


def objects(text: Text, bad: BadLines | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, object); any other value is counted in `bad`, or skipped if `bad` is None.

    Raises:
      InputError: an array is cut short or malformed, so that the rest of the file cannot be read.
    """
    lines = text.lines(bad)
    first = next(lines, None)
    if first is None:
        return
    start = first[1].strip()
    # A record that is spread over lines starts with a line that cannot be its end.
    if start.startswith("[") or (start.endswith(("{", "[", ",", ":")) and _one(start) is None):
        lines.close()
        yield from _stream(text, bad)
    else:
        yield from _by_line(itertools.chain([first], lines), text, bad)


def _one(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _by_line(
    lines: Iterator[tuple[int, str]], text: Text, bad: BadLines | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in lines:
        try:
            value = json.loads(line)
            found = [value] if isinstance(value, dict) else []
        except (ValueError, RecursionError):
            found = _several(line)
        if not found and bad is not None:
            bad.add(text.raw, number, f"found {repr(line[:60])}; expected {_WANTED}")
        for value in found:
            yield number, value


def _several(line: str) -> list[dict[str, Any]]:
    """The objects of a line, one after the other; none if the line has anything else."""
    found, at = [], 0
    while (at := _SKIPPED.match(line, at).end()) < len(line):
        try:
            value, at = _DECODER.raw_decode(line, at)
        except (ValueError, RecursionError):
            return []
        if not isinstance(value, dict):
            return []
        found.append(value)
    return found


def _stream(text: Text, bad: BadLines | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of arrays, or of values one after the other."""
    blocks = text.blocks()
    buffer, at, depth, ended = "", 0, 0, False
    base, line, counted = 1, 1, 0  # the lines where the buffer starts, and where its place `counted` is
    while True:
        at = _SKIPPED.match(buffer, at).end()
        line, counted = line + buffer.count("\n", counted, at), at
        if at < len(buffer) and buffer[at] in "[]":
            depth += 1 if buffer[at] == "[" else -1
            at += 1
            if depth < 0:
                raise InputError(f"{text.raw}, line {line}: found an extra ]; expected {_WANTED}")
            continue
        value, end = None, -1
        if at < len(buffer):
            try:
                value, end = _DECODER.raw_decode(buffer, at)
            except RecursionError as error:
                raise InputError(f"{text.raw}, line {line}: is nested too deeply; expected {_WANTED}") from error
            except ValueError as error:
                if ended:
                    raise _broken(text, error, base) from error
        # A number at the end of a block may continue in the next one.
        if end >= 0 and (ended or isinstance(value, dict) or end < len(buffer)):
            if isinstance(value, dict):
                yield line, value
            elif bad is not None:
                bad.add(text.raw, line, f"found {repr(value)[:60]}; expected {_WANTED}")
            at = end
            continue
        if ended:
            break
        buffer, at, base, counted = buffer[at:], 0, line, 0
        if len(buffer) > MAX_LINE:
            raise InputError(
                f"{text.raw}, line {line}: is malformed, or has an object longer than {MAX_LINE >> 20} MiB; expected "
                f"{_WANTED}"
            )
        # Twice as much each time, because an incomplete object is parsed again from its start.
        more = list(itertools.islice(blocks, max(1, len(buffer) // 2**18)))
        ended = not more
        buffer += "".join(more)
    if depth:
        raise InputError(
            f"{text.raw}: is cut short: its array has no end; expected a whole file; copy or download it again"
        )


def _broken(text: Text, error: ValueError, line: int) -> InputError:
    where = line + getattr(error, "lineno", 1) - 1
    reason = repr(getattr(error, "msg", str(error)))[1:-1][:80]
    return InputError(
        f"{text.raw}, line {where}: is malformed or cut short ({reason}); expected {_WANTED}; correct the line, or "
        "copy or download the file again"
    )
