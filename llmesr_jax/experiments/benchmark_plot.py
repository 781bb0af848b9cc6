"""A picture of several benchmarks: time per step against catalogue size, length and similar users."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmesr_jax.core.errors import InputError

AXES = {"items": "items (as many users)", "max_len": "length", "similar": "similar users, N"}
_FOLLOWS = ("steps_an_epoch", "slots_a_step", "real_items_a_step", "slots_over_real")


def read(paths: Sequence[str]) -> list[dict[str, Any]]:
    """The results in files as `launch.benchmark --out` writes them.

    Raises:
      InputError: a file is missing, or is not a benchmark.
    """
    found = []
    for path in paths:
        try:
            found += [one | {"step": one["train"]["1"]["step"]} for one in json.loads(Path(path).read_text()).values()]
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); expected a file written by --out") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path}: is not a benchmark of one seed ({type(error).__name__}: {error}); expected a file written "
                "by --out"
            ) from error
    return found


def lines(results: Sequence[dict[str, Any]], axis: str) -> dict[str, list[tuple[float, float]]]:
    """{label: [(setting, seconds a step), ...]}: results that differ in `axis`, and what follows from it, alone."""
    grouped = defaultdict(list)
    for one in results:
        setting = one["setting"]
        ignored = {axis, *_FOLLOWS, *(("users",) if axis == "items" else ())}
        rest = tuple(sorted((k, v) for k, v in setting.items() if k not in ignored))
        grouped[rest].append((setting[axis], one["step"]))
    names = ("dataset", "backbone", "method", "table_updates", "max_len")
    return {
        ", ".join(str(dict(rest)[name]) for name in names if name in dict(rest)): sorted(points)
        for rest, points in grouped.items()
        if len({x for x, _ in points}) > 1
    }


def plot(paths: Sequence[str], out: str) -> None:
    """Writes a picture with a panel for each axis along which the results differ.

    Raises:
      InputError: no two results that differ in one axis; matplotlib is not installed; see also `read`.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("--plot: needs matplotlib; run pip install matplotlib") from error
    results = read(paths)
    panels = {axis: found for axis in AXES if (found := lines(results, axis))}
    if not panels:
        raise InputError(
            f"--plot={out}: no two of the files differ only in one of {', '.join(AXES)}; pass files that do"
        )
    figure = Figure(figsize=(5.2 * len(panels), 4), layout="constrained")
    for place, (axis, found) in enumerate(panels.items()):
        panel = figure.add_subplot(1, len(panels), place + 1)
        for label, points in sorted(found.items()):
            panel.plot([x for x, _ in points], [1e3 * y for _, y in points], marker="o", label=label)
        panel.set(xlabel=AXES[axis], ylabel="ms a step")
        if axis == "items":
            panel.set(xscale="log", yscale="log")
        else:
            panel.set(ylim=(0, None))
        panel.grid(alpha=0.3)
        panel.legend(fontsize=7)
    figure.savefig(out)
