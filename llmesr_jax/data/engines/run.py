"""Filters a folder of Parquet files into a folder of parts, by an engine on this machine, for `launch.filter`."""

from __future__ import annotations

from pathlib import Path

from llmesr_jax.core.errors import InputError
from llmesr_jax.data import folders
from llmesr_jax.data.engines import in_duckdb, in_spark
from llmesr_jax.data.engines.rule_sql import Columns, steps
from llmesr_jax.data.rules import Rule
from llmesr_jax.data.tally import Counts


def filter_folder(engine: str, raw: Path, out: Path, columns: Columns, rule: Rule, memory: str = "") -> list[Counts]:
    """Applies the rule; `out` exists only once it is complete.

    Args:
      engine: "duckdb" or "spark".
      raw: folder of Parquet files, which count in the order of their names; or one file.
      out: folder to write; must not exist.
      columns: of the files.
      rule: which interactions are kept.
      memory: maximum memory of DuckDB, such as "8GB"; "" for 80 % of the machine's.

    Returns:
      The counts after each step.

    Raises:
      InputError: the engine is not installed, `out` exists, a column is missing or of the wrong type, or the rule keeps
        nothing.
    """
    list(steps(rule, columns))  # raises before anything is read
    paths = sorted(raw.glob("*.parquet")) if raw.is_dir() else [raw]
    if not paths or not paths[0].is_file():
        raise InputError(
            f"{raw}: has no .parquet file; expected a folder of Parquet files, or one; set --raw_dir to it"
        )
    if out.exists():
        raise InputError(f"{out}: already exists; expected a new folder; choose another --out, or delete it")
    with folders.workplace(out) as work:
        built = work / "built"
        if engine == "duckdb":
            counts = in_duckdb.filter_parts(paths, built, columns, rule, work, memory)
        else:
            counts = in_spark.filter_parts(
                in_spark.local_session(), str(raw.resolve()), str(built.resolve()), columns, rule
            )
        folders.replace(out, built, carry=False, own=set())
    return counts
