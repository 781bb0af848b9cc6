"""Quality against cost: each row's metric against its training time."""

from __future__ import annotations

from llmesr_jax.experiments.drawing import color, panel, plain_ticks
from llmesr_jax.experiments.report.figures import Figure, entries, mean
from llmesr_jax.experiments.report.palette import Palette
from llmesr_jax.experiments.report.rows import Row, Section

_GROUPS = {"overall": "all users", "tail_item": "tail items"}


def seconds(row: Row) -> float | None:
    """Training time per seed, including validation, over the runs that recorded it; None if no run did.

    The seeds of a run share its time, because they are trained together.
    """
    known = [run for run in row.runs if run.seconds is not None]
    seeds = sum(len(run.seeds) for run in known)
    return sum(run.seconds for run in known) / seeds if seeds else None


def figure(section: Section, palette: Palette, metric: str) -> Figure | None:
    """A mark for each row, for all users and for tail items, under full ranking; None if fewer than two have a time."""
    known = [(row, minutes / 60) for row in section.rows if (minutes := seconds(row))]
    if len(known) < 2:
        return None

    def drawn(group: str):
        def draw(axes, tips):
            for k, (row, minutes) in enumerate(known):
                look, values = palette.look(row), row.values("full", metric, group)
                if None in values:
                    continue
                face = "none" if look.hollow else color(look.color)
                tips[f"tip-{k}"] = f"{section.title(row)}: {minutes:.1f} min, {mean(values):.4f}"
                axes.plot(
                    minutes,
                    mean(values),
                    look.mark,
                    color=color(look.color),
                    markersize=9,
                    markerfacecolor=face,
                    gid=f"tip-{k}",
                )
            axes.set_xscale("log")
            plain_ticks(axes.xaxis)
            axes.margins(0.1)
            axes.set(
                title=f"Quality against cost, {_GROUPS[group]}",
                xlabel="minutes of training for one seed",
                ylabel=f"{metric}, full",
            )

        alt = f"{metric} under full against training time, {_GROUPS[group]}: " + ", ".join(
            f"{section.title(row)} {minutes:.1f} min" for row, minutes in known
        )
        rows = [row for row, _ in known]
        name = f"{section.slug}-cost-{group.replace('_', '-')}"
        return panel(name, alt, draw, legend=entries(section, palette, rows))

    caption = "Up and to the left is better. Times compare only where one machine trained all rows, with nothing else running."
    named = tuple(row for row, _ in known if not palette.look(row).hollow)
    return Figure("cost", "Quality against cost", caption, named, tuple(map(drawn, _GROUPS)))
