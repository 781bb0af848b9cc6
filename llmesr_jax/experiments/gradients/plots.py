"""Pictures of a study: terms over training by part of the model, users, the surface of the loss. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmesr_jax.core import files
from llmesr_jax.experiments import drawing
from llmesr_jax.experiments.gradients import study

_SIDE = 300  # height and width of one set of axes


def draw(folder: str | Path) -> list[Path]:
    """Draws a study's folder: terms.svg, users.svg and, if measured, eigenvectors.svg, spectrum.svg, line.svg and
    surface.svg.

    Returns: the files; none, with a printed reason, if matplotlib is not installed.
    """
    if not drawing.installed():
        print("no pictures: matplotlib is not installed; run pip install matplotlib", flush=True)
        return []
    folder = Path(folder)
    epochs = study.read(folder)["epochs"]
    made = [_terms(folder / "terms.svg", epochs), _users(folder / "users.svg", study.read_users(folder))]
    last = epochs[-1]
    made += [draw(folder / f"{name}.svg", last) for name, draw in _LANDSCAPE.items() if last[name]]
    return [path for path in made if path]


def _save(panel: drawing.Panel, path: Path) -> Path:
    files.write_text(path, panel.standalone())  # the same study gives the same bytes
    return path


def _color(place: int) -> str:
    return drawing.color(f"s{(place + 1) % drawing.SLOTS}")


def _terms(path: Path, epochs: Sequence[dict[str, Any]]) -> Path:
    """Norms, and cosines and conflicts of the first pair of terms: over epochs, or by part for a single epoch."""
    pair = next(iter(epochs[0]["terms"]["all"]["pairs"]), None)

    def draw(axes: Sequence[Any], tips: dict[str, str]) -> None:
        (_over_epochs if len(epochs) > 1 else _of_one_epoch)(axes, epochs, pair)
        axes[0].set(yscale="log", title="Size of each term's gradient", ylabel="Euclidean norm")
        axes[0].legend()
        if pair:
            reach = 1.05 * max(abs(y) for y in axes[1].get_ylim())
            axes[1].set(ylim=(-reach, reach), title=f"Agreement: {pair}", ylabel="cosine of the two gradients")
            axes[2].set(ylim=(0, 1), title="Conflicts", ylabel="share of steps with a negative cosine")
            axes[1].axhline(0, color=drawing.color("soft"), lw=0.8)
            if len(epochs) > 1:
                axes[1].legend()

    alt = "Norms of the terms' gradients" + (f"; cosine and conflicts of {pair}" if pair else "")
    return _save(drawing.row("terms", alt, draw, 3 if pair else 1, _SIDE, _SIDE), path)


def _over_epochs(axes: Sequence[Any], epochs: Sequence[dict[str, Any]], pair: str | None) -> None:
    at = [one["epoch"] for one in epochs]
    for place, name in enumerate(epochs[0]["names"]):
        norms = [one["terms"]["all"]["norm"][name] for one in epochs]
        axes[0].plot(at, norms, marker="o", label=name, color=_color(place))
    for place, group in enumerate(epochs[0]["terms"] if pair else ()):
        of = [one["terms"][group]["pairs"][pair] for one in epochs]
        axes[1].plot(at, _floats(p["cosine"] for p in of), marker="o", label=group, color=_color(place))
        axes[2].plot(at, _floats(p["conflicts"] for p in of), marker="o", label=group, color=_color(place))
    for one in axes:
        one.set_xlabel("epoch")


def _of_one_epoch(axes: Sequence[Any], epochs: Sequence[dict[str, Any]], pair: str | None) -> None:
    of = epochs[0]["terms"]
    at = np.arange(len(of))
    for place, name in enumerate(epochs[0]["names"]):
        axes[0].plot(at, [of[group]["norm"][name] for group in of], "o", label=name, color=_color(place))
    if pair:
        pairs = [of[group]["pairs"][pair] for group in of]
        cosine, low, high = (np.array(_floats(p[k] for p in pairs)) for k in ("cosine", "low", "high"))
        axes[1].errorbar(at, cosine, [cosine - low, high - cosine], fmt="o", capsize=3, color=_color(0))
        axes[2].bar(at, _floats(p["conflicts"] for p in pairs), color=_color(1))
    for one in axes:
        one.set_xticks(at, list(of), rotation=30, ha="right")
        one.set_xlabel("part of the model")


def _users(path: Path, users: Sequence[dict[str, float]]) -> Path | None:
    """Tail and head users at the last epoch: agreement with other users, and between the terms of a user."""
    last = [user for user in users if user["epoch"] == users[-1]["epoch"]]
    shown = ["cosine with the mean", *(name for name in last[0] if name.startswith("cosine ") and "/" in name)][:3]

    def draw(axes: Sequence[Any], tips: dict[str, str]) -> None:
        for one, name in zip(axes, shown, strict=True):
            reach = max([abs(user[name]) for user in last if np.isfinite(user[name])], default=1.0)
            bins = np.linspace(-reach, reach, 41)
            for head, label, place in ((0, "tail users", 1), (1, "head users", 0)):
                values = np.array([user[name] for user in last if user["head"] == head])
                values = values[np.isfinite(values)]
                weights = np.full(len(values), 1 / max(len(values), 1))
                one.hist(values, bins, weights=weights, histtype="step", label=label, color=_color(place), lw=1.5)
            title = name.replace("cosine ", "", 1).replace("with the mean", "A user with the mean of the others")
            one.set(title=title, xlabel="cosine", ylabel="share of users")
            one.axvline(0, color=drawing.color("soft"), lw=0.8)
            one.legend()

    alt = "How users' gradients agree with each other, tail users against head users"
    return _save(drawing.row("users", alt, draw, len(shown), _SIDE, _SIDE), path)


def _eigenvectors(path: Path, epoch: dict[str, Any]) -> Path:
    """Each leading eigenvector's squared norm by part of the model."""
    found = epoch["eigenvectors"]
    labels = [f"{place}: {one['value']:.3g}" for place, one in enumerate(found, 1)]

    def draw(axes: Sequence[Any], tips: dict[str, str]) -> None:
        (one,) = axes
        left = np.zeros(len(found))
        for place, group in enumerate(found[0]["groups"]):
            width = np.array([100 * vector["groups"][group] for vector in found])
            one.barh(labels, width, left=left, label=group, color=_color(place))
            left += width
        one.invert_yaxis()
        one.set(title="What the steepest directions move", xlabel="% of the squared norm", ylabel="eigenvalue")
        one.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2)

    return _save(drawing.row("eigenvectors", "Leading eigenvectors by part of the model", draw, 1), path)


def _spectrum(path: Path, epoch: dict[str, Any]) -> Path:
    """The density of the eigenvalues, each point smoothed by a Gaussian of a hundredth of the range."""
    values, weights = (np.array(epoch["spectrum"][name]) for name in ("values", "weights"))
    width = max((values.max() - values.min()) / 100, 1e-12)
    at = np.linspace(values.min() - 5 * width, values.max() + 5 * width, 500)
    bells = np.exp(-0.5 * ((at[:, None, None] - values) / width) ** 2) / (width * np.sqrt(2 * np.pi))
    density = (bells * weights).sum(axis=2).mean(axis=1)

    def draw(axes: Sequence[Any], tips: dict[str, str]) -> None:
        (one,) = axes
        one.plot(at, np.maximum(density, 1e-12), color=_color(0))
        one.axvline(0, color=drawing.color("soft"), lw=0.8)
        parameters = f"{epoch['spectrum']['parameters']:,}"
        title = f"Eigenvalues of the Hessian after epoch {epoch['epoch']}"
        one.set(yscale="log", ylim=(1e-7 * density.max(), 3 * density.max()), title=title)
        one.set(xlabel=f"eigenvalue ({parameters} parameters)", ylabel="density")

    return _save(drawing.row("spectrum", "Density of the Hessian's eigenvalues", draw, 1), path)


def _line(path: Path, epoch: dict[str, Any]) -> Path:
    """The loss between two models, and the straight line that the barrier is measured from."""
    found = epoch["line"]

    def draw(axes: Sequence[Any], tips: dict[str, str]) -> None:
        (one,) = axes
        one.plot(found["steps"], found["losses"], marker="o", label="loss", color=_color(0))
        ends = found["losses"][0], found["losses"][-1]
        one.plot([0, 1], ends, ls="--", lw=1, label="straight line", color=drawing.color("soft"))
        title = f"Between two models: a barrier of {found['barrier']:.3g}"
        one.set(title=title, xlabel="from this model (0) to the other (1)", ylabel="loss")
        one.legend()

    return _save(drawing.row("line", "The loss on the line between two models", draw, 1), path)


def _surface(path: Path, epoch: dict[str, Any]) -> Path:
    found = epoch["surface"]

    def draw(axes: Sequence[Any], tips: dict[str, str]) -> None:
        (one,) = axes
        contours = one.contourf(found["first"], found["second"], np.array(found["losses"]).T, 20)
        one.figure.colorbar(contours, label="loss")
        one.plot(0, 0, "w+")
        title = f"The loss around epoch {epoch['epoch']}"
        one.set(title=title, xlabel="first direction", ylabel="second direction")

    return _save(drawing.row("surface", "The loss over two directions", draw, 1), path)


def _floats(values: Any) -> list[float]:
    return [float("nan") if x is None else x for x in values]


_LANDSCAPE = {"eigenvectors": _eigenvectors, "spectrum": _spectrum, "line": _line, "surface": _surface}
