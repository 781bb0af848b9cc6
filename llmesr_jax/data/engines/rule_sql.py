"""The rules as SQL that DuckDB and Spark both understand, one table after the other.

Each table has user_id and item_id (text), time (whole microseconds since 1970, where there is one), and `raw_file` and
`raw_row`, which order the rows as in the raw files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.knobs import knob
from llmesr_jax.data import times
from llmesr_jax.data.rules import Rule
from llmesr_jax.data.values import MISSING

ORDER = "raw_file, raw_row"


@dataclasses.dataclass(frozen=True)
class Columns:
    """Columns of the raw Parquet files."""

    user_column: str = knob("user_id", "column of the user: text or whole numbers")
    item_column: str = knob("item_id", "column of the item: text or whole numbers")
    rating_column: str = knob("", "column of the rating, for --min_rating; empty: none")
    time_column: str = knob("", "column of the time; empty: none, and the rows of the files are in time order")
    time_unit: str = knob("s", "unit of times that are numbers, since 1970", choices=tuple(times.UNITS))


class Dialect(NamedTuple):
    """The differences between the engines' SQL.

    Attributes:
      text: the name of the type of text.
      micros: {"timestamp" or "date": expression for whole microseconds since 1970, with {} for the column}.
      quote: the quotation mark around a column's name.
      escapes: whether a backslash begins an escape sequence in a literal.
    """

    text: str
    micros: Mapping[str, str]
    quote: str
    escapes: bool

    def name(self, column: str) -> str:
        """The column's name, quoted."""
        return f"{self.quote}{column.replace(self.quote, self.quote * 2)}{self.quote}"

    def literal(self, word: str) -> str:
        """A text as a literal, quoted."""
        quoted = word.replace("\\", "\\\\").replace("'", "\\'") if self.escapes else word.replace("'", "''")
        return f"'{quoted}'"


class Engine(Protocol):
    """An engine that runs the SQL."""

    dialect: Dialect

    def make(self, table: str, query: str) -> None:
        """Stores the rows of a query as a table, which replaces a table of that name."""
        ...

    def row(self, query: str) -> tuple[Any, ...]:
        """The one row of a query's result."""
        ...


class Step(NamedTuple):
    """A step of the rule, which makes a table.

    Attributes:
      name: of the step, in tables of counts.
      query: SQL with the placeholders {previous}, the table before, and maybe {columns}, all names of columns.
      again: whether the step is repeated, each time on its own result, until the rows no longer change.
    """

    name: str
    query: str
    again: bool = False


def check_kinds(where: str, kinds: Mapping[str, str], named: Mapping[str, str], found: Mapping[str, str]) -> None:
    """Checks that ids are text or whole numbers, ratings numbers, and times numbers, dates or time stamps.

    Args:
      where: the files, for messages.
      kinds: {flag: "text", "integer", "float", "timestamp", "date" or a type of the engine}.
      named: {flag: column}.
      found: {column: its type as the engine calls it}.
    Raises:
      InputError: a column is of another type.
    """
    numbers = {"integer", "float"}
    of_ids = {"text", "integer"}, "ids: text or whole numbers"
    wanted = {
        "user_column": of_ids,
        "item_column": of_ids,
        "rating_column": (numbers, "ratings: numbers"),
        "time_column": (numbers | {"timestamp", "date"}, "times: numbers, dates or time stamps"),
    }
    for flag, kind in kinds.items():
        if kind not in wanted[flag][0]:
            column = named[flag]
            raise InputError(
                f"{where}: column {column!r} holds {found[column]}; expected {wanted[flag][1]}; set another --{flag}, or "
                "let launch.prepare read the files itself"
            )


def raw(columns: Columns, dialect: Dialect, time_type: str) -> str:
    """The query that gives the columns of `raw` their names and types here, and leaves out rows without an id.

    Args:
      columns: the names in `raw`, which also has `raw_file` and `raw_row`.
      time_type: "integer", "float", "timestamp" or "date"; "" without a time column.
    """
    found = [f"{_id(dialect, columns.user_column)} AS user_id", f"{_id(dialect, columns.item_column)} AS item_id"]
    if columns.rating_column:
        found.append(f"CAST({dialect.name(columns.rating_column)} AS DOUBLE) AS rating")
    if time_type:
        found.append(f"{_micros(columns, dialect, time_type)} AS time")
    missing = ", ".join(map(dialect.literal, ["", *MISSING.split(",")]))
    named = f"SELECT {', '.join(found)}, {ORDER} FROM raw"
    return f"SELECT * FROM ({named}) AS named WHERE user_id NOT IN ({missing}) AND item_id NOT IN ({missing})"


def _id(dialect: Dialect, column: str) -> str:
    """An id as text without blanks around it; 12.0 is 12."""
    text = f"trim(CAST({dialect.name(column)} AS {dialect.text}))"
    whole = f"regexp_replace({text}, '^-?[0-9]+[.]0+$', '') = '' AND {text} <> ''"
    return f"CASE WHEN {whole} THEN regexp_replace({text}, '[.]0+$', '') ELSE {text} END"


def _micros(columns: Columns, dialect: Dialect, time_type: str) -> str:
    column = dialect.name(columns.time_column)
    if time_type in dialect.micros:
        return dialect.micros[time_type].format(column)
    if time_type == "integer" and columns.time_unit == "ns":  # without the remainder, the quotient is exact
        return f"CAST(round(({column} - {column} % 1000) / 1000) AS BIGINT)"
    if time_type == "integer":
        return f"CAST({column} AS BIGINT) * {times.UNITS[columns.time_unit]}"
    scaled = f"{column} / 1000" if columns.time_unit == "ns" else f"{column} * {times.UNITS[columns.time_unit]}"
    return f"CAST(floor({scaled}) AS BIGINT)"


def unusable(columns: Columns) -> str:
    """The query that counts rows of `{previous}` whose time is unknown or not from 1970 to 2100."""
    lacking = f"time IS NULL OR time < 0 OR time >= {times.LAST}" if columns.time_column else "FALSE"
    return f"SELECT count(*) FROM {{previous}} WHERE {lacking}"


def steps(rule: Rule, columns: Columns) -> Iterator[Step]:
    """The steps of the rule, in their order.

    Raises:
      InputError: the rule reads a column that is not named.
    """
    for setting, column in (("min_rating", "rating"), ("date_from", "time"), ("date_to", "time")):
        if getattr(rule, setting) not in (None, "") and not getattr(columns, f"{column}_column"):
            raise InputError(
                f"--{setting}: reads the {column}, whose column is not named; name it with --{column}_column"
            )
    in_time = f"time, {ORDER}" if columns.time_column else ORDER
    if rule.min_rating is not None:
        enough = f"rating >= {rule.min_rating!r} AND NOT isnan(rating)"  # both engines put NaN above all numbers
        yield Step(f"rating >= {rule.min_rating:g}", f"SELECT * FROM {{previous}} WHERE {enough}")
    if rule.date_from:
        first = times.day(rule.date_from, "date_from")
        yield Step(f"from {rule.date_from}", f"SELECT * FROM {{previous}} WHERE time >= {first}")
    if rule.date_to:
        last = times.day(rule.date_to, "date_to")
        yield Step(f"up to {rule.date_to}", f"SELECT * FROM {{previous}} WHERE time <= {last}")
    if rule.exact_duplicates == "drop" and columns.time_column:
        yield Step("exact duplicates dropped", _first_of("user_id, item_id, time", ORDER))
    if rule.duplicates != "all":
        backwards = ", ".join(f"{name.strip()} DESC" for name in in_time.split(","))
        order = in_time if rule.duplicates == "first" else backwards
        yield Step(f"the {rule.duplicates} of a user's interactions with an item", _first_of("user_id, item_id", order))
    if rule.core != "none":
        counts = [
            f"count(DISTINCT {other}_id)" if rule.core_counts == "distinct" else "count(*)"
            for other in ("item", "user")
        ]
        enough = (
            _with_enough("user_id", counts[0], rule.user_core),
            _with_enough("item_id", counts[1], rule.item_core),
        )
        name = f"users >= {rule.user_core}, items >= {rule.item_core}, {rule.core}"
        yield Step(name, f"SELECT * FROM {{previous}} WHERE {' AND '.join(enough)}", rule.core == "iterated")
    if rule.min_length > 1:
        enough_rows = _with_enough("user_id", "count(*)", rule.min_length)
        yield Step(f"users of length >= {rule.min_length}", f"SELECT * FROM {{previous}} WHERE {enough_rows}")


def _first_of(key: str, order: str) -> str:
    """The query for the first row of each key, in an order."""
    numbered = f"SELECT *, row_number() OVER (PARTITION BY {key} ORDER BY {order}) AS turn FROM {{previous}}"
    # The names are written out: neither engine has a standard way to leave one out.
    return f"SELECT {{columns}} FROM ({numbered}) AS numbered WHERE turn = 1"


def _with_enough(key: str, count: str, least: int) -> str:
    return f"{key} IN (SELECT {key} FROM {{previous}} GROUP BY {key} HAVING {count} >= {least})"


def result(columns: Columns) -> str:
    """The query for the columns to write, over `{previous}`; its rows are not ordered."""
    return f"SELECT user_id, item_id{', time' if columns.time_column else ''}, {ORDER} FROM {{previous}}"
