"""Tables of text: CSV, TSV and similar files, with or without a header line."""

from __future__ import annotations

import contextlib
import csv
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.columns import TYPED, find, is_number
from llmesr_jax.data.decoding import Text
from llmesr_jax.data.raw_files import MAX_LINE, RawFile
from llmesr_jax.data.staging import Reader

SEPARATORS = (",", ";", "\t", "|")
_UNCLOSED = ' (does this line have an unclosed quote ("), or is --separator wrong?)'
_SEEN = 200  # lines of a first look
_IS_EMPTY = "is empty; expected a line with the columns' names, then one line per row"


@dataclass(frozen=True)
class Form:
    """The format of a table.

    Attributes:
      separator: one character; "" to detect it.
      encoding: by its Python name; "" if the user named none (see `decoding`).
      header: "yes", "no", or "auto".
      quoted: whether quotes (") enclose cells.
    """

    separator: str = ""
    encoding: str = ""
    header: str = "auto"
    quoted: bool = True


@dataclass(frozen=True)
class Table:
    """A file with a known format.

    Attributes:
      raw: the file.
      form: the format, with the detected separator, and header "yes" or "no".
      names: of the columns, without blanks around them; "1", "2", ... without a header.
      sample: the first rows.
    """

    raw: RawFile
    form: Form
    names: tuple[str, ...]
    sample: tuple[Sequence[str], ...]

    def rows(self, reader: Reader) -> Iterator[tuple[int, list[str]]]:
        """(line, cells) of all rows that have as many cells as there are names.

        Other rows are counted in `reader.bad`, with all their lines, as the lines after an unclosed quote are
        lost. Lines that repeat the header are counted in `reader.dropped`.
        """
        text = Text(self.raw, self.form.encoding)
        split = _quoted if self.form.quoted else _plain
        has_header, width = self.form.header == "yes", len(self.names)
        first = self.names[0] if has_header else None
        past, before = not has_header, reader.bad.found
        for line, cells in split(text, self.form.separator, reader, width):
            if cells[0].strip() == first and _stripped(cells) == self.names:
                if past:
                    reader.dropped[f"repeated header lines of {self.raw.path.name}"] += 1
                past = True
            elif past or reader.bad.found > before:
                yield line, cells
            else:
                past = True  # the header: its quotes were parsed differently when the format was detected
        if note := text.note():
            reader.note(note)


def _plain(text: Text, separator: str, reader: Reader, width: int) -> Iterator[tuple[int, list[str]]]:
    for number, line in text.lines(reader.bad):
        cells = line.split(separator)
        if len(cells) == width:
            yield number, cells
        else:
            reader.bad.add(text.raw, number, _wrong_count(len(cells), width))


def _quoted(text: Text, separator: str, reader: Reader, width: int) -> Iterator[tuple[int, list[str]]]:
    at, last, pulled = 0, "", 0

    def source() -> Iterator[str]:
        nonlocal at, last, pulled
        for at, last in text.lines(reader.bad):
            pulled += 1
            yield last + "\n"

    csv.field_size_limit(MAX_LINE)
    rows = csv.reader(source(), delimiter=separator, strict=True, skipinitialspace=True)
    while True:
        start, pulled = at + 1, 0
        try:
            cells = next(rows, None)
        except csv.Error as error:
            cells = _lenient(last, separator, width) if pulled == 1 else None
            if cells is None:
                what = f"found misplaced quotes ({error}); expected {width} fields separated by {separator!r}"
                reader.bad.add(text.raw, start if pulled > 1 else at, what + _UNCLOSED, at)
                continue
        if cells is None:
            return
        if len(cells) == width:
            yield at, cells
        else:
            many = pulled > 1
            upto = f" up to line {at}" if many else ""
            what = _wrong_count(len(cells), width, upto) + (_UNCLOSED if many else "")
            reader.bad.add(text.raw, start if many else at, what, at)


def _wrong_count(found: int, wanted: int, upto: str = "") -> str:
    return f"found {found} field{'s' * (found != 1)}{upto}; expected {wanted}, as in the first line"


def _lenient(line: str, separator: str, width: int) -> list[str] | None:
    """The cells of a line whose quotes are escaped by a backslash, or not at all, instead of doubled.

    None if such a reading does not give `width` cells either.
    """
    for escape in ("\\", None) if '\\"' in line else (None,):
        try:
            options = {"escapechar": escape, "doublequote": False, "strict": True} if escape else {}
            (cells,) = csv.reader([line], delimiter=separator, skipinitialspace=True, **options)
        except (csv.Error, ValueError):
            continue
        if len(cells) == width:
            return cells
    return None


def _stripped(cells: Sequence[str]) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in cells)


def open_table(
    raw: RawFile, form: Form, wanted: Sequence[str], is_header: Callable[[Sequence[str], Sequence[str]], bool]
) -> Table:
    """Finds the separator, and whether there is a header, from the first lines.

    Args:
      raw: the file.
      form: the format, as far as the user describes it.
      wanted: columns that the caller will read, by name or number; the separator is chosen so that they exist.
      is_header: (first row, second row) -> whether the first is a header; called if all columns are named by number.

    Raises:
      InputError: there is no line, or the first line cannot be read, or not in the named encoding.
    """
    text = Text(raw, form.encoding)
    seen = [line for _, line in itertools.islice(text.lines(None), _SEEN)]
    if not seen or form.header != "no":
        text.check_first()
    if not seen:
        raise InputError(f"{raw}: {_IS_EMPTY}")
    separator = form.separator or _separator(raw, seen, wanted, form.quoted)
    quoted = form.quoted and not all(TYPED.fullmatch(name.strip()) for name in seen[0].split(separator))
    rows = _look(seen, separator, quoted)
    if not rows:
        raise InputError(f"{raw}, line 1: found {repr(seen[0][:60])}; {_IS_EMPTY.partition('; ')[2]}")
    has_header = form.header == "yes"
    if form.header == "auto":
        by_number = all(is_number(name) for name in wanted) and find(_stripped(rows[0]), wanted[0]) is not None
        by_number = by_number and not any(name in _stripped(rows[0]) for name in wanted)
        has_header = not by_number or is_header(rows[0], rows[1] if len(rows) > 1 else ())
    names = _stripped(rows[0]) if has_header else tuple(str(n + 1) for n in range(len(rows[0])))
    sample = tuple(row for row in rows[has_header:] if len(row) == len(names) and _stripped(row) != names)
    return Table(raw, Form(separator, form.encoding, "yes" if has_header else "no", quoted), names, sample)


def _separator(raw: RawFile, seen: Sequence[str], wanted: Sequence[str], quoted: bool) -> str:
    """The separator with which the expected columns exist, else the one that gives most columns."""
    first = "\t" if ".tsv" in raw.path.name else ","
    by_columns = {}
    for separator in sorted(SEPARATORS, key=lambda one: one != first):
        rows = _look(seen[:20], separator, quoted)
        names = _stripped(rows[0]) if rows else ()
        there = all(find(names, name) is not None for name in wanted)
        steady = sum(len(row) == len(names) for row in rows)
        by_columns[separator] = (there and len(names) > 1, steady * (len(names) > 1), len(names))
    return max(by_columns, key=by_columns.get)


def _look(seen: Sequence[str], separator: str, quoted: bool) -> list[list[str]]:
    """The rows of some lines, up to the first that cannot be read."""
    if not quoted:
        return [line.split(separator) for line in seen]
    rows: list[list[str]] = []
    with contextlib.suppress(csv.Error):
        rows.extend(csv.reader((line + "\n" for line in seen), delimiter=separator, skipinitialspace=True))
    return rows
