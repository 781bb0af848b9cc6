"""Reads the user's Parquet files in a separate process, because a damaged file can crash polars and end its process.

It can also make polars panic; then its native code writes a page of traces to stderr, which Python cannot prevent.
"""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

_PROGRAM = """
import sys
import polars as pl
frame = pl.LazyFrame.deserialize(sys.stdin.buffer)
frame.sink_parquet(sys.argv[1], maintain_order=True)
"""
# One line of JSON for each file, up to the first that fails.
_FOOTERS = """
import base64, json, sys
import polars as pl
for path in json.load(sys.stdin):
    try:
        empty = pl.DataFrame(schema=pl.read_parquet_schema(path)).serialize()
        rows = pl.scan_parquet(path, glob=False, hive_partitioning=False).select(pl.len()).collect().item()
    except Exception as error:
        print(json.dumps({"failed": str(error).partition("\\n")[0]}))
        break
    print(json.dumps({"empty": base64.b64encode(empty).decode(), "rows": rows}), flush=True)
"""
_DAMAGED = "the file is damaged"


class Failed(Exception):
    """The query failed; the message says how, on one line.

    Attributes:
      path: the file that failed, if known.
    """

    def __init__(self, message: str, path: Path | None = None):
        super().__init__(message)
        self.path = path


class Footer(NamedTuple):
    """The metadata at the end of a Parquet file."""

    path: Path
    schema: pl.Schema
    rows: int


def sink(frame: pl.LazyFrame, path: Path) -> None:
    """Writes the result of the query to a Parquet file.

    Raises:
      Failed: the result could not be computed or written, or the process ended.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    done = _run(_PROGRAM, [str(path)], frame.serialize())
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise Failed(lines[-1] if lines and done.returncode > 0 and "Panic" not in lines[-1] else _DAMAGED)


def footers(paths: Sequence[Path]) -> list[Footer]:
    """The metadata of Parquet files.

    Raises:
      Failed: a file could not be read, or the process ended.
    """
    done = _run(_FOOTERS, [], json.dumps([str(path) for path in paths]).encode())
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    for path, line in zip(paths, lines):
        if "failed" in line:
            raise Failed(line["failed"], path)
    if len(lines) < len(paths):
        raise Failed(_DAMAGED, paths[len(lines)])
    return [Footer(path, _schema(line["empty"]), line["rows"]) for path, line in zip(paths, lines)]


def _run(program: str, args: Sequence[str], given: bytes) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-W", "ignore", "-c", program, *args]
    return subprocess.run(command, input=given, capture_output=True, check=False)


def _schema(empty: str) -> pl.Schema:
    """Of a frame without rows."""
    return pl.DataFrame.deserialize(io.BytesIO(base64.b64decode(empty))).schema
