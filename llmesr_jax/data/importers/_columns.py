"""Finds the columns of a table: by the flags that name them, or by the columns' names and values."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import time_formats, times
from llmesr_jax.data.columns import absence, bare, find
from llmesr_jax.data.raw_files import RawFile
from llmesr_jax.data.staging import Reader
from llmesr_jax.data.values import Malformed

NONE = "none"
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")

_TIMES = frozenset("time timestamp stamp date datetime ts at unixtime unixtimestamp epoch when dt".split())
_EVENTS = frozenset(
    "event review reviewed rating rated purchase purchased order ordered transaction click clicked interaction created "
    "create creation view viewed visit visited unix posted post submitted submit action utc gmt local checkin check in "
    "request session log logged server sec s ms us ns seconds added bought buy sale sold invoice interacted of".split()
)
_SCALES = frozenset("s sec seconds ms us ns utc gmt local unix".split())
# A time that is not that of the interaction, or a span of time.
_OTHER_TIMES = frozenset(
    "release released publish published publication birth birthday watch play listen listening elapsed duration dwell "
    "update updated modify modified expire expiry expiration expires join joined signup register registered "
    "registration spent total due runtime cook cooking prep preparation delivery shipping shipped response reading "
    "read stay travel wait load launch production open opening closing".split()
)
_EARLIEST = 315_532_800 * 1_000_000  # 1980

_ITEMS = frozenset(
    "item movie film book product prod track song music app game article news video show anime business restaurant "
    "recipe course place poi venue hotel beer wine listing goods podcast event job story post question".split()
)
_NO_TITLES = frozenset(
    "user username customer reviewer person brand category cat sub subcategory subcat author artist writer seller "
    "store shop vendor merchant company publisher manufacturer maker city state country region county area street "
    "director actor cast genre class department group type tag topic language studio network channel creator owner "
    "first last middle full nick sur given family file host domain column field table series collection developer "
    "producer supplier provider school university platform device attribute feature color colour size unit".split()
)


def words(name: str) -> list[str]:
    """The words of a column's name, in lower case: ["unix", "review", "time"] of "unixReviewTime"."""
    return [word.lower() for word in _WORD.findall(bare(name))]


def place(raw: RawFile, names: Sequence[str], flag: str, wanted: str, hint: str = "") -> int:
    """The place of the column that a flag names.

    Raises:
      InputError: there is no such column, or there are two.
    """
    found = find(names, wanted)
    if found is None:
        raise absence(raw, {flag: wanted}, names, hint)
    if wanted in names and list(names).count(wanted) > 1:
        raise InputError(
            f"{raw}: has {list(names).count(wanted)} columns {wanted!r}; expected one; give the columns different "
            f"names, or set --{flag} to the column's number, counted from 1"
        )
    return found


class Time(NamedTuple):
    """Where the times are: the index of their column, None for no times, and their unit."""

    column: int | None
    unit: str


def find_time(
    raw: RawFile,
    names: Sequence[str],
    sample: Sequence[Sequence[Any]],
    unit: str,
    reader: Reader,
    *,
    standard: Collection[str] = (),
    broad: bool = False,
    taken: Collection[int] = (),
) -> Time:
    """Detects the column of times: one that is named like a time and contains times.

    Args:
      raw: the file.
      names: of its columns.
      sample: its first rows.
      unit: of times that are numbers, tried before the other units; or a format of times that are text (`times.form`).
      reader: gets a note on what was found.
      standard: names that need no note.
      broad: accept any name that may mean a time; False: only a name that can mean nothing else.
      taken: indices of columns that contain something else.

    Raises:
      InputError: there are several such columns; or there is none, although a column's name can only mean a time, or
        the user named a format of times.
    """
    file, change = raw.path.name, "--time_column sets another, --time_column=none uses the file order"
    like = [n for n, name in enumerate(names) if like_a_time(name)]
    units = {n: _unit(names[n], [row[n] for row in sample], unit) for n in like}
    fit = [n for n in like if units[n] and (broad or _is_a_time(names[n]))]
    if not fit and (known := [n for n in like if names[n] in standard]):
        return Time(known[0], unit)  # the reader of the values reports what is wrong with them
    exact = [n for n in fit if bare(names[n]).lower() == "timestamp"]
    if len(exact) == 1:
        fit = exact
    if len(fit) > 1:
        several = ", ".join(names[n] for n in fit)
        raise InputError(
            f"{raw}: columns {several} may each be the time of an interaction; expected one; set "
            f"--time_column={names[fit[0]]}, or --time_column=none to use the file order"
        )
    if fit:
        found = Time(fit[0], units[fit[0]])
        scale = f" (numbers of --time_unit={found.unit})" if found.unit != unit else ""
        if names[found.column] not in standard or scale:
            reader.note(f"{file}: times are read from column {names[found.column]!r}{scale}; {change}")
        return found
    examples = {n: next((row[n] for row in sample if row[n] not in (None, "")), "") for n in like}
    for n in like:
        if examples[n] and not units[n] and _is_a_time(names[n]):
            raise InputError(
                f"{_unreadable(raw, names[n], [row[n] for row in sample], unit)}; if it has no times of interactions, "
                "set --time_column to another column, or to none if the rows are in time order"
            )
    if "%" in unit:
        raise InputError(f"{raw}: has no column of times for --time_format={unit}; expected one; set --time_column")
    unused = ""
    for n in like:
        why = f"is not used; if it is the time, set --time_column={names[n]}"
        if not units[n]:
            wanted = _wanted([row[n] for row in sample], unit)
            why = f"is not used, as it holds {repr(examples[n])[:40]}; expected {wanted}"
        unused += f"; column {names[n]!r} {why}"
    for n in set(range(len(names))) - {*like, *taken}:
        other = _OTHER_TIMES.union(["id"]).intersection(words(names[n]))
        values = [row[n] for row in sample]
        is_time = not other and _unit_since_1980(values, unit)
        forms = time_formats.fitting(values, _EARLIEST) if not other and not is_time else []
        if is_time or forms:
            unused += (
                f"; column {names[n]!r} looks like times; if it has the interactions' times, set "
                f"--time_column={names[n]}{f' {time_formats.proposal(forms)}' if forms else ''}"
            )
    reader.note(f"{file}: has no times, so each user's rows count as being in time order{unused}")
    return Time(None, unit)


def check_time(raw: RawFile, name: str, values: Sequence[Any], unit: str) -> None:
    """Raises InputError if the first values of the column that the user named are times only in a certain format."""
    if "%" not in unit and not _parsed(values, unit) and time_formats.fitting(values):
        raise InputError(_unreadable(raw, name, values, unit))


def _unreadable(raw: RawFile, name: str, values: Sequence[Any], unit: str) -> str:
    example = next(value for value in values if value not in (None, ""))
    return (
        f"{raw}: column {name!r} cannot be read as times, as it holds {repr(example)[:40]}; expected "
        f"{_wanted(values, unit)}"
    )


def _wanted(values: Sequence[Any], unit: str) -> str:
    """What is expected of times, with the format that these values have if one fits."""
    forms = time_formats.fitting(values)
    return (
        f"a time in ISO 8601, such as 2019-12-31; set {time_formats.proposal(forms)}" if forms else times.wanted(unit)
    )


def like_a_time(name: str) -> bool:
    """Whether a column's name may mean the time of an interaction."""
    found = words(name)
    while len(found) > 1 and found[-1] in _SCALES:
        found.pop()
    last = bool(found) and (found[-1] in _TIMES or any(found[-1] == event + "time" for event in _EVENTS))
    return last and not any(word in _OTHER_TIMES for word in found)


def _is_a_time(name: str) -> bool:
    found = words(name)
    return all(word in _TIMES or word in _EVENTS or word.removesuffix("time") in _EVENTS for word in found)


def _unit(name: str, values: Sequence[Any], unit: str) -> str:
    """The unit with which the values are times; "" for none. Times before 1980 need a name that clearly is a time."""
    return _unit_since_1980(values, unit) or (unit if _is_a_time(name) and _parsed(values, unit) else "")


def _unit_since_1980(values: Sequence[Any], unit: str) -> str:
    """The unit with which the values are times since 1980; "" for none."""
    for one in [unit] if "%" in unit else dict.fromkeys([unit, *times.UNITS]):
        found = _parsed(values, one)
        if found and min(found) >= _EARLIEST:
            return one
    return ""


def _parsed(values: Sequence[Any], unit: str) -> list[int]:
    """The values as times; none if most are not times, as a few may be malformed."""
    values, found = [value for value in values if value is not None and str(value).strip()], []
    for value in values:
        with contextlib.suppress(Malformed):
            found.append(times.from_any(value, unit))
    return found if 2 * len(found) > len(values) else []


class Titles:
    """Finds the title among the fields of item records.

    Args:
      file: for the note that says which column was found.
      named: the column that the user names; "" or "title" to detect one.
    """

    def __init__(self, file: str, named: str, reader: Reader):
        self._file, self._named, self._reader = file, named, reader
        self._known: dict[tuple[str, ...], str | None] = {}

    @property
    def is_named(self) -> bool:
        """Whether the user named the column."""
        return self._named not in ("", "title")

    def column(self, fields: tuple[str, ...]) -> str | None:
        """The one of the fields that holds the title; None for none."""
        if fields not in self._known:
            self._known[fields] = self._find(fields)
        return self._known[fields]

    def _find(self, fields: tuple[str, ...]) -> str | None:
        if self.is_named:
            place = find(fields, self._named)
            return None if place is None else fields[place]
        ranked = [(rank, n) for n, field in enumerate(fields) if (rank := _title_rank(field)) is not None]
        if not ranked:
            return None
        rank, n = min(ranked)
        if rank:
            self._reader.note(f"{self._file}: titles are read from column {fields[n]!r}; --title_column sets another")
        return fields[n]


def _title_rank(name: str) -> int | None:
    """0 for a column that certainly contains titles, more the less certain it is; None for a column without titles."""
    found = words(name)
    for end in ("title", "name"):
        if found and found[-1].endswith(end) and found[-1] != end:  # "productname"
            found[-1:] = [found[-1].removesuffix(end), end]
    if not found or found[-1] not in ("title", "name") or any(word in _NO_TITLES for word in found[:-1]):
        return None
    of_item = any(word in _ITEMS for word in found[:-1])
    if found[-1] == "title":
        return 0 if len(found) == 1 else 1 if of_item else 2
    return 3 if len(found) == 1 else 4 if of_item else 5
