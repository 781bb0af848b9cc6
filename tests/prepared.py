"""Raw files prepared in this process, and what came of it: what the tests of importers and of prepare share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import raw_samples

from llmesr_jax.core.errors import InputError
from llmesr_jax.core.interrupts import Stop
from llmesr_jax.data import prepare, prepare_plan, reading

SWITCHES = {"append", "overwrite", "download"}
NUMBERS = {"max_bad_lines", "user_core", "item_core", "min_length", "most_in_memory"}


def run(raw: Path, out: Path, args: Sequence[str], dataset: str = "shop", stop: Stop | None = None) -> prepare.Outcome:
    """launch.prepare with these flags; without a k-core, unless they say so."""
    given: dict[str, Any] = {"core": "none"}
    for arg in args:
        name, _, value = arg.removeprefix("--").partition("=")
        given[name] = True if name in SWITCHES else int(value) if name in NUMBERS else value
    if "min_rating" in given:
        given["min_rating"] = float(given["min_rating"])
    own = {key: given.pop(key) for key in list(given) if key in prepare_plan.Settings.__dataclass_fields__}
    settings = prepare_plan.Settings(dataset=dataset, raw_dir=str(raw), out=str(out), **own)
    return prepare.prepare(prepare_plan.plan(settings, given), stop=stop)


def sample(source: str, folder: Path, *args: str) -> tuple[prepare.Outcome, Path]:
    """The sample of a source, prepared below `folder`."""
    flags = raw_samples.write(source, folder / "raw")
    return run(folder / "raw", folder / "out", [*flags, *args]), folder / "out"


def sequences(folder: Path) -> dict[int, list[int]]:
    """{user id: item ids in time order}, as training reads the folder."""
    read = reading.load("shop", folder)
    ends = zip(read.offsets[:-1], read.offsets[1:])
    return {user: read.items[a:b].tolist() for user, (a, b) in enumerate(ends, 1)}


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below, by its path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """{title: record} of items.jsonl."""
    lines = map(json.loads, (folder / "items.jsonl").read_text(encoding="utf-8").split("\n")[:-1])
    return {record["title"]: record for record in lines}


def refused(*args, **kwargs):
    with pytest.raises(InputError) as caught:
        run(*args, **kwargs)
    return str(caught.value)
