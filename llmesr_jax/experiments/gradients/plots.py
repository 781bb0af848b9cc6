"""Pictures of a study: terms over training by part of the model, users, the surface of the loss. Needs matplotlib."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmesr_jax.core import files
from llmesr_jax.experiments.gradients import study

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito's


def draw(folder: str | Path) -> list[Path]:
    """Draws a study's folder: terms.svg, users.svg and, if there is a surface, surface.svg.

    Returns: the files; none, with a printed reason, if matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        print("no pictures: matplotlib is not installed; run pip install matplotlib", flush=True)
        return []
    folder = Path(folder)
    epochs = study.read(folder)["epochs"]
    made = [_terms(folder / "terms.svg", epochs), _users(folder / "users.svg", study.read_users(folder))]
    if epochs[-1]["surface"]:
        made.append(_surface(folder / "surface.svg", epochs[-1]))
    return [path for path in made if path]


def _figure(panels: int, height: float = 3.6) -> tuple[Any, Sequence[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * panels, height), layout="constrained")
    return figure, [figure.add_subplot(1, panels, place + 1) for place in range(panels)]


def _save(figure: Any, path: Path) -> Path:
    import matplotlib

    with files.replacing(path) as file, matplotlib.rc_context({"svg.hashsalt": "gradients"}):
        figure.savefig(file, format="svg", metadata={"Date": None})  # the same study gives the same bytes
    return path


def _terms(path: Path, epochs: Sequence[dict[str, Any]]) -> Path:
    """Norms, and for the first pair of terms cosines and conflicts: over epochs, or bars for one epoch."""
    groups, names = list(epochs[0]["terms"]), epochs[0]["names"]
    pair = next(iter(epochs[0]["terms"]["all"]["pairs"]), None)
    figure, panels = _figure(3 if pair else 1)
    if len(epochs) > 1:
        at = [one["epoch"] for one in epochs]
        for name, colour in zip(names, _COLOURS):
            panels[0].plot(at, [e["terms"]["all"]["norm"][name] for e in epochs], marker="o", label=name, color=colour)
        for group, colour in zip(groups, _COLOURS) if pair else ():
            of = [one["terms"][group]["pairs"][pair] for one in epochs]
            panels[1].plot(at, _floats(p["cosine"] for p in of), marker="o", label=group, color=colour)
            panels[2].plot(at, _floats(p["conflicts"] for p in of), marker="o", label=group, color=colour)
        for panel in panels:
            panel.set_xlabel("epoch")
    else:
        at, of = np.arange(len(groups)), epochs[0]["terms"]
        for name, colour in zip(names, _COLOURS):
            panels[0].plot(at, [of[group]["norm"][name] for group in groups], "o", label=name, color=colour)
        if pair:
            pairs = [of[group]["pairs"][pair] for group in groups]
            cosine, low, high = (np.array(_floats(p[k] for p in pairs)) for k in ("cosine", "low", "high"))
            panels[1].errorbar(at, cosine, [cosine - low, high - cosine], fmt="o", capsize=3, color=_COLOURS[0])
            panels[2].bar(at, _floats(p["conflicts"] for p in pairs), color=_COLOURS[1])
        for panel in panels:
            panel.set_xticks(at, groups, rotation=30, ha="right")
    panels[0].set(yscale="log", title="norm of the gradient, by term")
    panels[0].legend(fontsize=7)
    if pair:
        reach = 1.05 * max(abs(y) for y in panels[1].get_ylim())
        panels[1].set(ylim=(-reach, reach), title=f"cosine, {pair}")
        panels[2].set(ylim=(0, 1), title="steps on which they conflict")
        panels[1].axhline(0, color="grey", lw=0.8)
        if len(epochs) > 1:
            panels[1].legend(fontsize=7)
    for panel in panels:
        panel.grid(alpha=0.3)
    return _save(figure, path)


def _users(path: Path, users: Sequence[dict[str, float]]) -> Path | None:
    """Of the last epoch: tail against head users in how they agree with the others, and in how their terms do."""
    last = [user for user in users if user["epoch"] == users[-1]["epoch"]]
    shown = ["cosine with the mean", *(name for name in last[0] if name.startswith("cosine ") and "/" in name)][:3]
    figure, panels = _figure(len(shown))
    for panel, name in zip(panels, shown):
        reach = max([abs(user[name]) for user in last if np.isfinite(user[name])], default=1.0)
        bins = np.linspace(-reach, reach, 41)
        for head, label, colour in ((0, "tail users", _COLOURS[1]), (1, "head users", _COLOURS[0])):
            values = np.array([user[name] for user in last if user["head"] == head])
            values = values[np.isfinite(values)]
            weights = np.full(len(values), 1 / max(len(values), 1))
            panel.hist(values, bins, weights=weights, histtype="step", label=label, color=colour)
        panel.set(title=name.replace("the mean", "the others' mean"), xlabel="cosine", ylabel="share of users")
        panel.axvline(0, color="grey", lw=0.8)
        panel.legend(fontsize=7)
    return _save(figure, path)


def _surface(path: Path, epoch: dict[str, Any]) -> Path:
    found = epoch["surface"]
    figure, (panel,) = _figure(1, 4)
    contours = panel.contourf(found["first"], found["second"], np.array(found["losses"]).T, 20)
    figure.colorbar(contours, label="loss")
    panel.plot(0, 0, "w+")
    panel.set(title=f"the loss around epoch {epoch['epoch']}", xlabel="first direction", ylabel="second direction")
    return _save(figure, path)


def _floats(values: Any) -> list[float]:
    return [float("nan") if x is None else x for x in values]
