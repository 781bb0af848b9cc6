"""The rules as a Spark job (`pip install 'llmesr-jax[spark]'`).

On a cluster, a job for `spark-submit` uses the cluster's session and addresses:

    from pyspark.sql import SparkSession
    from llmesr_jax.data.engines import in_spark
    from llmesr_jax.data.engines.rule_sql import Columns
    from llmesr_jax.data.rules import Rule

    session = SparkSession.builder.getOrCreate()
    in_spark.filter_parts(session, "s3://bucket/raw", "s3://bucket/parts", Columns(time_column="time"), Rule())
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmesr_jax.core.errors import InputError
from llmesr_jax.data.columns import check_columns
from llmesr_jax.data.engines.reduce import reduce
from llmesr_jax.data.engines.rule_sql import ORDER, Columns, Dialect, check_kinds
from llmesr_jax.data.raw_files import RawFile
from llmesr_jax.data.rules import Rule
from llmesr_jax.data.tally import Counts

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_MICROS = "unix_micros(CAST({} AS TIMESTAMP))"
DIALECT = Dialect("STRING", {"timestamp": _MICROS, "date": _MICROS}, quote="`", escapes=True)
_ZONE = "spark.sql.session.timeZone"
_KINDS = {
    **dict.fromkeys(("tinyint", "smallint", "int", "bigint"), "integer"),
    **dict.fromkeys(("float", "double"), "float"),
    **dict.fromkeys(("timestamp", "timestamp_ntz"), "timestamp"),
    "date": "date",
    "string": "text",
}


def filter_parts(session: SparkSession, raw: str, out: str, columns: Columns, rule: Rule) -> list[Counts]:
    """Applies the rule to Parquet files; writes parts whose names are in the order of the raw rows.

    Args:
      session: of Spark. Between steps, tables are stored in the checkpoint directory of its context if there is one,
        else on the executors.
      raw: address of a folder of Parquet files, which count in the order of their names; or of one file.
      out: address of the folder to write; must not exist.
      columns: of the files.
      rule: which interactions are kept.

    Returns:
      The counts after each step.

    Raises:
      InputError: a column is missing or of the wrong type, the rule keeps nothing, or Spark fails, as when `out`
        exists.
    """
    from pyspark.errors import PySparkException

    zone = session.conf.get(_ZONE)
    session.conf.set(_ZONE, "UTC")
    try:
        engine = _Spark(session)
        time_type = engine.read(raw, columns)
        query, counts = reduce(engine, columns, rule, time_type)
        left = session.sql(query).orderBy(*ORDER.split(", ")).drop(*ORDER.split(", "))
        left.write.mode("errorifexists").parquet(out)
        return counts
    except PySparkException as error:
        what = " ".join(str(error).split())[:300]
        raise InputError(f"Spark: {what}; check the folders, the files and the log of the cluster") from error
    finally:
        session.conf.set(_ZONE, zone)
        session.catalog.dropTempView("raw")


def local_session() -> SparkSession:
    """A session on the cores of this machine, or the one that `spark-submit` asks for.

    Raises:
      InputError: pyspark is not installed.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise InputError(
            "pyspark is not installed, and --engine=spark needs it; install it (and Java) with pip install "
            "'llmesr-jax[spark]'"
        ) from error
    return SparkSession.builder.appName("llmesr-jax filter").getOrCreate()


class _Spark:
    """A session: `rule_sql.Engine`."""

    dialect = DIALECT

    def __init__(self, session: SparkSession):
        self._session = session

    def read(self, raw: str, columns: Columns) -> str:
        """Makes the view `raw` of the files; returns the type of the time, see `rule_sql.raw`.

        Raises:
          InputError: a column is absent or of the wrong type.
        """
        frame = self._session.read.parquet(raw)
        found = dict(frame.dtypes)
        named = {flag: name for flag, name in vars(columns).items() if flag.endswith("_column") and name}
        check_columns(RawFile(raw), named, found)
        kinds = {flag: _KINDS.get(found[name], found[name]) for flag, name in named.items()}
        check_kinds(raw, kinds, named, found)
        frame.selectExpr(
            "*", "_metadata.file_path AS raw_file", "_metadata.row_index AS raw_row"
        ).createOrReplaceTempView("raw")
        return kinds.get("time_column", "")

    def make(self, table: str, query: str) -> None:
        """Stores the rows of a query as a table, which cuts its lineage, so that Spark does not compute it again."""
        self._kept(self._session.sql(query)).createOrReplaceTempView(table)

    def _kept(self, frame: DataFrame) -> DataFrame:
        return frame.checkpoint() if self._session.sparkContext.getCheckpointDir() else frame.localCheckpoint()

    def row(self, query: str) -> tuple[Any, ...]:
        """The one row of a query's result."""
        return tuple(self._session.sql(query).first())
