"""The rules in DuckDB, on all cores; what does not fit in memory goes to disk (`pip install 'llmesr-jax[duckdb]'`)."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.columns import check_columns
from llmesr_jax.data.engines.reduce import reduce
from llmesr_jax.data.engines.rule_sql import ORDER, Columns, Dialect, check_kinds
from llmesr_jax.data.raw_files import RawFile
from llmesr_jax.data.rules import Rule
from llmesr_jax.data.tally import Counts

DIALECT = Dialect(
    "VARCHAR", {"timestamp": "epoch_us({})", "date": "epoch_us(CAST({} AS TIMESTAMP))"}, quote='"', escapes=False
)
_TYPES = {"INTEGER": "integer", "FLOAT": "float", "DOUBLE": "float", "TIMESTAMP": "timestamp", "DATE": "date"}


def filter_parts(
    paths: Sequence[Path], out: Path, columns: Columns, rule: Rule, work: Path, memory: str = ""
) -> list[Counts]:
    """Applies the rule to Parquet files; writes `part-00000.parquet`, ..., one for each file that has rows left.

    Args:
      paths: of the files, in the order of their rows.
      out: folder to make.
      columns: of the files.
      rule: which interactions are kept.
      work: folder for the database and what does not fit in memory.
      memory: maximum memory of DuckDB, such as "8GB"; "" for 80 % of the machine's.

    Returns:
      The counts after each step.

    Raises:
      InputError: DuckDB is not installed, a column is missing or of the wrong type, or the rule keeps nothing.
    """
    with _Duck(work, memory) as engine:
        time_type = engine.read(paths, columns)
        query, counts = reduce(engine, columns, rule, time_type)
        engine.make("result", query)
        out.mkdir()
        for number in range(len(paths)):
            where = f"FROM result WHERE raw_file = {number}"
            if engine.row(f"SELECT count(*) {where}")[0]:
                target = DIALECT.literal(str(out / f"part-{number:05d}.parquet"))
                engine.run(f"COPY (SELECT * EXCLUDE ({ORDER}) {where} ORDER BY raw_row) TO {target} (FORMAT parquet)")
    return counts


def import_module() -> Any:
    """DuckDB.

    Raises:
      InputError: it is not installed.
    """
    try:
        import duckdb
    except ImportError as error:
        raise InputError(
            "duckdb is not installed, and --engine=duckdb needs it; install it with pip install 'llmesr-jax[duckdb]'"
        ) from error
    return duckdb


class _Duck:
    """A database in a folder: `rule_sql.Engine`."""

    dialect = DIALECT

    def __init__(self, folder: Path, memory: str):
        self._duckdb, self._spill = import_module(), folder / "spill"
        self._connection = self._duckdb.connect(str(folder / "rows.duckdb"))
        self.run(f"SET temp_directory = {DIALECT.literal(str(self._spill))}")
        self.run("SET enable_progress_bar = false")
        if memory:
            self.run(f"SET memory_limit = {DIALECT.literal(memory)}")

    def __enter__(self) -> _Duck:
        return self

    def __exit__(self, *_) -> None:
        self._connection.close()
        with contextlib.suppress(OSError):
            shutil.rmtree(self._spill)

    def run(self, statement: str) -> Any:
        """Runs a statement.

        Raises:
          InputError: it fails.
        """
        try:
            return self._connection.execute(statement)
        except self._duckdb.Error as error:
            raise InputError(f"DuckDB: {' '.join(str(error).split())[:300]}; check the files, and --memory") from error

    def read(self, paths: Sequence[Path], columns: Columns) -> str:
        """Makes the view `raw` of the files; returns the type of the time, see `rule_sql.raw`.

        Raises:
          InputError: a column is absent or of the wrong type.
        """
        listed = ", ".join(DIALECT.literal(str(path)) for path in paths)
        files = ", ".join(f"({number}, {DIALECT.literal(str(path))})" for number, path in enumerate(paths))
        self.run(
            f"CREATE VIEW raw AS SELECT rows.*, names.raw_file, rows.file_row_number AS raw_row FROM read_parquet([{listed}], "
            f"filename = true, file_row_number = true) AS rows JOIN (VALUES {files}) AS names (raw_file, name) "
            "ON rows.filename = names.name"
        )
        found = {name: kind for name, kind, *_ in self.run("DESCRIBE raw").fetchall()}
        named = {flag: name for flag, name in vars(columns).items() if flag.endswith("_column") and name}
        check_columns(RawFile(paths[0]), named, found)
        kinds = {flag: _kind(found[name]) for flag, name in named.items()}
        check_kinds(str(paths[0]), kinds, named, found)
        return kinds.get("time_column", "")

    def make(self, table: str, query: str) -> None:
        """Keeps the rows of a query as a table."""
        self.run(f"CREATE OR REPLACE TABLE {table} AS {query}")

    def row(self, query: str) -> tuple[Any, ...]:
        """The one row of a query's result."""
        return self.run(query).fetchone()


def _kind(dtype: str) -> str:
    """The kind of a DuckDB type, see `rule_sql.check_kinds`."""
    if dtype.endswith("]"):  # lists: BIGINT[]
        return dtype
    if dtype.startswith(("TINYINT", "SMALLINT", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")):
        return "integer"
    return next(
        (kind for start, kind in _TYPES.items() if dtype.startswith(start)), "text" if dtype == "VARCHAR" else dtype
    )
