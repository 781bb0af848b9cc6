"""Runs a polars query in a process of its own: over a damaged file, polars may end the process that it runs in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl

_PROGRAM = """
import sys
import polars as pl
frame = pl.LazyFrame.deserialize(sys.stdin.buffer)
frame.sink_parquet(sys.argv[1], maintain_order=True)
"""


class Failed(Exception):
    """The query failed; the message says how, on one line."""


def sink(frame: pl.LazyFrame, path: Path) -> None:
    """Writes the result of the query to a Parquet file.

    Raises:
      Failed: it could not be computed or written; also where that took its process down.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-W", "ignore", "-c", _PROGRAM, str(path)]
    done = subprocess.run(command, input=frame.serialize(), capture_output=True, check=False)
    if done.returncode:
        told = done.stderr.decode(errors="replace").strip().splitlines()
        last = told[-1] if told and done.returncode > 0 and "Panic" not in told[-1] else "its bytes make no sense"
        raise Failed(last)
