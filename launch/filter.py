"""Applies the rules of launch.prepare with DuckDB or Spark, where one machine's memory or cores are not enough.

    python -m launch.filter --engine=duckdb --raw_dir=raw --out=parts --time_column=time --core=iterated
    python -m launch.prepare --dataset=mine --importer=table --raw_dir=parts --core=none --time_column=time --time_unit=us

Reads Parquet files and writes Parquet parts, which launch.prepare numbers as it would have numbered the raw rows. On a
cluster, see docs/data.md, "Engines".
"""

import dataclasses
import shlex
from pathlib import Path

from llmesr_jax.core import commands
from llmesr_jax.core.errors import InputError
from llmesr_jax.core.knobs import knob
from llmesr_jax.data.engines.rule_sql import Columns
from llmesr_jax.data.rules import Rule

from . import cli, setting_flags


@dataclasses.dataclass(frozen=True)
class Options:
    """What to read, what to write, and by which engine."""

    raw_dir: str = knob("", "folder of the raw Parquet files, which count in the order of their names; or one file")
    out: str = knob("", "folder to write; must not exist")
    engine: str = knob("duckdb", "engine that applies the rules", choices=("duckdb", "spark"))
    memory: str = knob("", "--engine=duckdb: maximum memory, such as 8GB; empty: 80 % of the machine's")


def define_flags() -> None:
    for cls in (Options, Columns, Rule):
        setting_flags.define(cls)


def main(argv, stop):
    options, columns, rule = (setting_flags.made(cls) for cls in (Options, Columns, Rule))
    for flag in ("raw_dir", "out"):
        if not getattr(options, flag):
            raise InputError(f"--{flag} is missing; expected a folder, see --help")
    from llmesr_jax.data import summary
    from llmesr_jax.data.engines import run

    counts = run.filter_folder(options.engine, Path(options.raw_dir), Path(options.out), columns, rule, options.memory)
    print(summary.table(counts))
    times = " --time_column=time --time_unit=us" if columns.time_column else " --time_column=none"
    step = f"--raw_dir={shlex.quote(options.out)} --core=none --exact_duplicates=keep{times}"
    print(f"{options.out}: written; next: {commands.line('prepare')} --dataset=<name> --importer=table {step}")


def run() -> None:
    """The command: reads the command line, and exits."""
    define_flags()
    cli.run(main, with_config=False)


if __name__ == "__main__":
    run()
