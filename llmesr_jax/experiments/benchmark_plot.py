"""A picture of several benchmarks: time per step against catalogue size, length and similar users."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmesr_jax.core import files
from llmesr_jax.core.errors import InputError
from llmesr_jax.experiments import drawing

AXES = {  # setting -> (label of the axis, title)
    "items": ("items, and as many users", "Time of a training step by size of the catalogue"),
    "max_len": ("longest history, in items", "Time of a training step by length of histories"),
    "similar": ("similar users (N)", "Time of a training step by number of similar users"),
}
_SHOWN = {  # setting -> its text in a label
    "dataset": "{}",
    "backbone": "{}",
    "method": "{}",
    "table_updates": "{} updates",
    "max_len": "length {}",
}
_FOLLOWS = ("steps_an_epoch", "slots_a_step", "real_items_a_step", "slots_over_real")


def read(paths: Sequence[str]) -> list[dict[str, Any]]:
    """The results in files that `launch.benchmark --out` has written.

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
    """{label: [(value of the axis, seconds per step), ...]}: a line joins results that differ only in `axis`.

    A label says in what a line differs from the others; it is empty if there is only one line.
    """
    grouped = defaultdict(list)
    for one in results:
        setting = one["setting"]
        ignored = {axis, *_FOLLOWS, *(("users",) if axis == "items" else ())}
        rest = tuple(sorted((k, v) for k, v in setting.items() if k not in ignored))
        grouped[rest].append((setting[axis], one["step"]))
    kept = {rest: sorted(points) for rest, points in grouped.items() if len({x for x, _ in points}) > 1}
    differ = [name for name in _SHOWN if len({dict(rest).get(name) for rest in kept}) > 1]
    return {_label(dict(rest), differ): points for rest, points in kept.items()}


def _label(setting: dict[str, Any], names: Sequence[str]) -> str:
    return ", ".join(_SHOWN[name].format(setting[name]) for name in names if name in setting)


def plot(paths: Sequence[str], out: str) -> None:
    """Writes a picture: for results of --whole, where the time went; else a panel for each axis in which results differ.

    Raises:
      InputError: `out` is not .svg; no two results differ in one axis alone; matplotlib is not installed; or a file is
        not a benchmark.
    """
    if not drawing.installed():
        raise InputError("--plot: needs matplotlib; run pip install matplotlib")
    if Path(out).suffix != ".svg":
        raise InputError(
            f"--plot={out}: the ending {Path(out).suffix!r} is not supported; expected a file that ends in .svg"
        )
    if wholes := _wholes(paths):
        files.write_text(Path(out), _where_time_went(wholes).standalone())
        return
    results = read(paths)
    panels = {axis: found for axis in AXES if (found := lines(results, axis))}
    if not panels:
        raise InputError(
            f"--plot={out}: no two of the files differ only in one of {', '.join(AXES)}; pass files that do"
        )

    def draw(axes: Sequence[Any], tips: dict[str, str]) -> None:
        for one, (axis, found) in zip(axes, panels.items(), strict=True):
            for place, (label, points) in enumerate(sorted(found.items())):
                milliseconds = [1e3 * y for _, y in points]
                color = drawing.color(f"s{(place + 1) % drawing.SLOTS}")
                one.plot([x for x, _ in points], milliseconds, marker="o", label=label, color=color)
            xlabel, title = AXES[axis]
            one.set(title=title, xlabel=xlabel, ylabel="milliseconds per step")
            if axis == "items":
                one.set(xscale="log", yscale="log")
                drawing.plain_ticks(one.xaxis, subs=(1,))
                drawing.plain_ticks(one.yaxis)
            else:
                one.set(ylim=(0, None))
            if len(found) > 1:
                one.legend()

    setting = results[0]["setting"]
    same = [name for name in _SHOWN if len({one["setting"].get(name) for one in results}) == 1]
    alt = f"Time of a training step, {_label(setting, same)}"
    panel = drawing.row("speed", alt, draw, len(panels), width=380)
    files.write_text(Path(out), panel.standalone())


def _wholes(paths: Sequence[str]) -> dict[str, dict[str, float]]:
    """{name of the file: seconds of each part}, if all files are of --whole."""
    found = {}
    for path in paths:
        try:
            found[Path(path).stem] = {name: float(x) for name, x in json.loads(Path(path).read_text())["parts"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}  # if the file is wrong, `read` says why
    return found


def _where_time_went(wholes: dict[str, dict[str, float]]) -> drawing.Panel:
    """One bar per run, of the seconds of its parts; parts under a hundredth of every run are left out."""
    names = [name for name in next(iter(wholes.values())) if any(_share(run, name) >= 0.01 for run in wholes.values())]

    def draw(axes: Any, tips: dict[str, str]) -> None:
        for row, run in enumerate(wholes.values()):
            left = 0.0
            for place, name in enumerate(names):
                tips[f"part-{row}-{place}"] = f"{name}: {run.get(name, 0.0):.1f} s"
                (bar,) = axes.barh(
                    row, run.get(name, 0.0), left=left, color=drawing.color(_PART_COLORS[place]), height=0.6
                )
                bar.set_gid(f"part-{row}-{place}")
                left += run.get(name, 0.0)
            axes.annotate(f"{sum(run.values()):.0f} s", (left, row), (4, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(wholes)), list(wholes))
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.1)
        axes.set(title="Where the time goes, from command to table", xlabel="seconds")

    told = "; ".join(f"{name}: {sum(run.values()):.0f} s" for name, run in wholes.items())
    legend = [drawing.Entry(name, _PART_COLORS[place]) for place, name in enumerate(names)]
    height = 90 + 42 * len(wholes)
    return drawing.panel("whole", f"Seconds from command to table: {told}", draw, height, 560, legend)


def _share(run: dict[str, float], name: str) -> float:
    return run.get(name, 0.0) / max(sum(run.values()), 1e-12)


_PART_COLORS = [name for name in drawing.THEME if name[0] in "sp" and name[1:].isdigit()]
