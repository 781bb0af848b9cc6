"""Gradients on the page: those monitored while the runs trained, and the studies in their folders."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from absl import logging
from markupsafe import Markup

from llmesr_jax.experiments.drawing import color, panel
from llmesr_jax.experiments.report import names
from llmesr_jax.experiments.report.figures import Figure, entries, lines
from llmesr_jax.experiments.report.palette import Palette
from llmesr_jax.experiments.report.rows import Row, Section
from llmesr_jax.experiments.report.templating import render

_STUDY = "gradients/gradients.json"  # below a run, where `launch.gradients` writes without --out
_PREFIX = "gradients/"
# What is drawn: beginning of a name in metrics.jsonl -> (title, label of the axis).
_DRAWN = {
    "cosine/": ("Agreement of two terms", "cosine of their gradients"),
    "conflicts/": ("Conflicts of two terms", "share of monitored steps"),
    "tail_share/": ("Tail items' share of an item table's updates", "share of the squared changes"),
    "noise_scale": ("Noise of the ranking's gradient", "noise scale, in users"),
}

_MEANING = {
    "cosine/": "Cosine: 1 if two gradients have the same direction, below 0 if they conflict.",
    "conflicts/": "Conflicts: the share of steps whose cosine is below 0.",
    "tail_share/": "Tail items' share: of the squared changes of all rows of an item table, those of tail items.",
    "noise_scale": "Noise scale: the number of users in a batch at which the gradient's noise is as large as its mean "
    "(McCandlish et al., 2018); a batch far below it is mostly noise.",
}


class Line(NamedTuple):
    """A line of the table: the gradients of a row's terms in one part of the model, at the last measured epoch.

    Attributes:
      row: of the section.
      epoch: the last measured one.
      group: part of the model.
      norms: {term: mean norm of its gradient}.
      pair: the first two terms, as "a/b"; "" if the loss has only one.
      cosine: mean over batches of the cosine of the two gradients; None if there is none.
      conflicts: share of batches on which the cosine is negative.
    """

    row: Row
    epoch: int
    group: str
    norms: dict[str, float]
    pair: str
    cosine: float | None
    conflicts: float | None


def studies(section: Section) -> list[Line]:
    """A line for each part of the model of each row whose first run has a study in its folder."""
    found = []
    for row in section.rows:
        path = row.runs[0].folder / _STUDY
        if not path.is_file():
            continue
        try:
            found += _lines(row, json.loads(path.read_text())["epochs"][-1])
        except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            logging.warning(
                "%s: cannot be read (%s); the report leaves this study out; delete its folder and run launch.gradients again",
                path,
                type(error).__name__,
            )
    return found


def _lines(row: Row, last: dict[str, Any]) -> list[Line]:
    found = []
    for group, of in last["terms"].items():
        pair, numbers = next(iter(of["pairs"].items()), ("", {"cosine": None, "conflicts": None}))
        norms = {name: float(norm) for name, norm in of["norm"].items()}
        found.append(Line(row, int(last["epoch"]), group, norms, pair, numbers["cosine"], numbers["conflicts"]))
    return found


def watched(section: Section, palette: Palette) -> Figure | None:
    """The numbers of `train.watch_gradients` over epochs, a line per row and seed; None if no run has them."""
    panels, shown, kinds = [], {}, set()
    for backbone in section.backbones:
        rows = lines([row for row in section.rows if row.backbone == backbone])
        for name in sorted({name for row in rows for name in _names(row)}, key=_place):
            drawn = {(k, seed): _points(row, seed, name) for k, row in enumerate(rows) for seed in row.seeds}
            if not any(len(points) > 1 for points in drawn.values()):
                continue
            shown |= {id(rows[k]): rows[k] for (k, _), points in drawn.items() if points}
            kind = next(kind for kind in _DRAWN if name.startswith(kind))
            title, ylabel = _DRAWN[kind]
            kinds.add(kind)
            of = name.removeprefix(kind).replace("-", " and ").replace("/", " ")

            def draw(axes, tips, rows=rows, drawn=drawn, title=title, ylabel=ylabel, of=of):
                for (k, _), points in drawn.items():
                    if points:
                        axes.plot(*zip(*points), color=color(palette.look(rows[k]).color), linewidth=1.3, alpha=0.8)
                axes.set(title=f"{title}\n{of}" if of else title, xlabel="epoch", ylabel=ylabel)
                axes.xaxis.get_major_locator().set_params(integer=True)

            alt = f"{title.lower()} over epochs {of}, {', '.join(map(section.title, rows))}"
            slug = name.replace("/", "-").replace("_", "-").replace(" ", "-")
            file = f"{section.slug}-{backbone}-gradients-{slug}"
            panels.append(panel(file, alt, draw, legend=entries(section, palette, rows)))
    if not panels:
        return None
    caption = (
        "Means over the monitored steps of each epoch; each line is a seed. Terms are the parts that the loss is the sum of, "
        "as the settings name them."
    )
    caption += "".join(f" {_MEANING[kind]}" for kind in _MEANING if kind in kinds)
    return Figure("gradients", "Gradients while training", caption, tuple(shown.values()), tuple(panels))


def _names(row: Row) -> set[str]:
    found = {name.removeprefix(_PREFIX) for run in row.runs for line in run.curves for name in line if _watched(name)}
    return {name for name in found if any(name.startswith(kind) for kind in _DRAWN)}


def _watched(name: str) -> bool:
    return name.startswith(_PREFIX)


def _place(name: str) -> tuple[int, str]:
    return next(place for place, kind in enumerate(_DRAWN) if name.startswith(kind)), name


def _points(row: Row, seed: int, name: str) -> list[tuple[int, float]]:
    run, _ = row.places[seed]
    found = [(c["epoch"], c.get(_PREFIX + name)) for c in run.curves if c["seed"] == seed]
    return [(epoch, value) for epoch, value in found if isinstance(value, (int, float)) and math.isfinite(value)]


def table(chapter: Any, found: Sequence[Line]) -> Markup:
    """The lines of the studies as a table."""
    terms = list(dict.fromkeys(name for one in found for name in one.norms))
    several = len(chapter.section.backbones) > 1
    rows = [(one, names.backbone(one.row.backbone) if several else "") for one in found]
    return render("gradients.html", chapter=chapter, lines=rows, terms=terms)
