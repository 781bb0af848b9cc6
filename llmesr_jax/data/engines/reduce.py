"""Runs the rules on an engine, and counts what each step keeps."""

from __future__ import annotations

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.engines.rule_sql import (
    Columns,
    Engine,
    raw,
    result,
    steps,
    unusable,
)
from llmesr_jax.data.preprocess import check_left
from llmesr_jax.data.rules import Rule
from llmesr_jax.data.tally import Counts

_COUNTS = "SELECT count(DISTINCT user_id), count(DISTINCT item_id), count(*) FROM {previous}"


def reduce(engine: Engine, columns: Columns, rule: Rule, time_type: str) -> tuple[str, list[Counts]]:
    """Makes a table for each step of the rule, from the table before it.

    Args:
      engine: has the table `raw`: the columns of the files, `raw_file` and `raw_row`.
      columns: of the files.
      rule: which interactions are kept.
      time_type: as of `rule_sql.raw`.

    Returns:
      The query for the rows that are kept (not ordered; with `raw_file` and `raw_row`, by which to order them), and the
      counts after each step.

    Raises:
      InputError: a time is not usable, or the rule keeps nothing.
    """
    table, number = "step_0", 0
    names = ["user_id", "item_id", *["time"] * bool(columns.time_column), "raw_file", "raw_row"]
    engine.make(table, raw(columns, engine.dialect, time_type))
    if wrong := engine.row(unusable(columns).format(previous=table))[0]:
        raise InputError(
            f"{wrong:,} rows have no time from 1970 to 2100 in column {columns.time_column!r}; expected one in each; check "
            "--time_unit, or leave these rows out of the files"
        )
    counts = [Counts("raw", *engine.row(_COUNTS.format(previous=table)))]
    for step in steps(rule, columns):
        left = -1
        while True:
            before, number = table, number + 1
            table = f"step_{number % 2 + 1}"
            engine.make(table, step.query.format(previous=before, columns=", ".join(names)))
            found = Counts(step.name, *engine.row(_COUNTS.format(previous=table)))
            if not step.again or found.interactions == left:
                break
            left = found.interactions
        counts.append(found)
    check_left(counts)
    return result(columns).format(previous=table), counts
