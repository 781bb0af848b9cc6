"""Curvature and landscape of the loss at one state of a run, on batches of its own data."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from llmesr_jax.experiments.gradients import (
    curvature,
    items,
    landscape,
    parameter_groups,
)
from llmesr_jax.experiments.gradients.epoch_batches import Batches
from llmesr_jax.experiments.gradients.settings import Options
from llmesr_jax.models.axes import Axes
from llmesr_jax.models.recommender import Params
from llmesr_jax.models.types import Array, Batch, Tables
from llmesr_jax.ranking import evaluate

KEYS = ("eigenvalues", "eigenvectors", "spectrum", "line", "surface")


def measure(
    bag: Batches, options: Options, names: list[str], key: Array, other: Params | None = None
) -> dict[str, Any]:
    """The measurements of `KEYS` that `options` ask for; the others are empty. Without dropout.

    Args:
      bag: the batches and the model.
      options: of the study.
      names: of the loss's terms, ranking first.
      key: of random directions.
      other: the model at the other end of the line; None for no line.
    Returns: JSON values:
      eigenvalues: {"loss" and each term: largest first}.
      eigenvectors: for each eigenvalue of the loss its `value` and, of its eigenvector, `groups` (squared norm by part
        of the model, of sum 1), `tail` ({item table: tail items' share of the squared norm in that table}) and `terms`
        (absolute cosine with each term's gradient).
      spectrum: `values` and `weights` of `landscape.Spectrum`, and the number of `parameters`.
      line: `steps` from 0 (this model) to 1 (the other), `losses`, `barrier`.
      surface: steps along `first` and `second`, `losses`.
    """
    found: dict[str, Any] = {name: {} for name in KEYS} | {"eigenvectors": []}
    asked = options.eigenvalues or options.surface != "none" or options.spectrum or other is not None
    if not asked:
        return found
    count = max(1, min(options.hessian_batches, len(bag.order)))
    stack = jax.tree.map(lambda *x: jnp.stack(x), *[bag[step] for step in range(count)])
    loss = functools.partial(_loss, bag.model)
    of = lambda *chosen: (bag.tables, stack, bag.epoch, {n: jnp.float32(n in chosen) for n in names})  # noqa: E731
    plane = options.surface == "eigenvectors"
    wanted = {"loss": max(options.eigenvalues, 2 * plane)}
    if len(names) > 1:
        wanted |= {name: options.eigenvalues for name in names}
    pairs = None
    for name, number in tqdm(wanted.items(), desc="curvature", unit="term", leave=False, disable=None):
        if number:
            chosen = names if name == "loss" else [name]
            one = curvature.eigenpairs(loss, bag.params, *of(*chosen), count=number)
            found["eigenvalues"][name] = [float(value) for value in one.values]
            pairs = one if name == "loss" else pairs
    if options.eigenvalues:
        gradient = jax.jit(jax.grad(loss))
        gradients = {name: gradient(bag.params, *of(name)) for name in names}
        found["eigenvectors"] = [
            {"value": float(value), **_shares(vector, gradients, bag.axes, bag.tail_V)}
            for value, vector in zip(pairs.values, pairs.vectors)
        ]
    if options.spectrum:
        drawn = landscape.spectrum(loss, bag.params, *of(*names), probes=options.spectrum, order=options.order)
        size = sum(x.size for x in jax.tree.leaves(bag.params))
        found["spectrum"] = {
            "values": drawn.values_MxN.tolist(),
            "weights": drawn.weights_MxN.tolist(),
            "parameters": size,
        }
    if other is not None:
        steps = np.linspace(0, 1, options.grid).astype(np.float32)
        losses = np.asarray(jax.jit(functools.partial(landscape.line, loss))(bag.params, other, steps, *of(*names)))
        high = landscape.barrier(losses, steps)
        found["line"] = {"steps": steps.tolist(), "losses": losses.tolist(), "barrier": high}
    if options.surface != "none":
        found["surface"] = _surface(bag, options, pairs if plane else None, key, of(*names))
    return found


def _loss(model, params, tables: Tables, stack: Batch, epoch: Array, factors: dict[str, Array]) -> Array:
    return curvature.mean_loss(model, params, tables, stack, epoch, factors)


@functools.partial(jax.jit, static_argnums=2)
def _inners(vector: Params, gradients: dict[str, Params], axes: Axes, tail_V: Array) -> dict[str, Any]:
    squares = {name: items.row_squares(table) for name, table in items.tables_of(vector, axes).items()}
    all_of = lambda a, b: parameter_groups.inner(a, b)[parameter_groups.ALL]  # noqa: E731
    return {
        "groups": parameter_groups.inner(vector, vector),
        "tail": {name: items.share(square_V, tail_V) for name, square_V in squares.items()},
        "terms": {name: jnp.abs(all_of(vector, g)) / jnp.sqrt(all_of(g, g)) for name, g in gradients.items()},
    }


def _shares(vector: Params, gradients: dict[str, Params], axes: Axes, tail_V: Array) -> dict[str, dict[str, float]]:
    found = jax.device_get(_inners(vector, gradients, axes, tail_V))
    whole = found["groups"].pop(parameter_groups.ALL)
    found["groups"] = {name: square / whole for name, square in found["groups"].items()}
    return {kind: {name: float(x) for name, x in of.items()} for kind, of in found.items()}


def _surface(
    bag: Batches, options: Options, pairs: curvature.Eigenpairs | None, key: Array, arguments
) -> dict[str, Any]:
    """The loss on a plane through the model.

    Random directions reach as far as the parameters' own norms, eigenvectors to where their parabola doubles the loss.
    """
    loss = functools.partial(_loss, bag.model)
    reach = np.ones(2)
    if pairs is None:
        first, second = (curvature.random_direction(bag.params, one, bag.axes) for one in jax.random.split(key))
    else:
        first, second = pairs.vectors[:2]
        reach = np.sqrt(2 * float(jax.jit(loss)(bag.params, *arguments)) / np.maximum(pairs.values[:2], 1e-12))
    steps = [np.linspace(-r, r, options.grid).astype(np.float32) for r in reach]
    losses = jax.jit(functools.partial(curvature.surface, loss))(bag.params, first, second, *steps, *arguments)
    return {"first": steps[0].tolist(), "second": steps[1].tolist(), "losses": np.asarray(losses).tolist()}


def table(found: dict[str, Any]) -> str:
    """The results of `measure` as text."""
    parts = []
    if found["eigenvalues"]:
        listed = [f"{name} {', '.join(f'{x:.3g}' for x in values)}" for name, values in found["eigenvalues"].items()]
        parts.append(f"largest eigenvalues of the Hessian: {'; '.join(listed)}")
    if found["eigenvectors"]:
        first = found["eigenvectors"][0]
        header = ["eigenvector", *first["groups"], *(f"tail's share of {name}" for name in first["tail"])]
        rows = [header + [f"cosine with {name}" for name in first["terms"]]]
        for place, one in enumerate(found["eigenvectors"], 1):
            shares = [*one["groups"].values(), *one["tail"].values()]
            cosines = [f"{x:.2f}" for x in one["terms"].values()]
            rows.append([str(place), *(f"{100 * x:.0f} %" for x in shares), *cosines])
        parts.append(evaluate.align(rows))
    if found["spectrum"]:
        values, weights = (np.array(found["spectrum"][name]) for name in ("values", "weights"))
        mean = lambda x: float(np.mean(np.sum(weights * x, axis=1)))  # noqa: E731
        parts.append(
            f"spectrum: {values.min():.3g} to {values.max():.3g}, mean {mean(values):.2g}, "
            f"{100 * mean(values < 0):.0f} % of the directions curve down"
        )
    if found["line"]:
        ends = found["line"]["losses"][0], found["line"]["losses"][-1]
        parts.append(f"line: loss {ends[0]:.4g} here, {ends[1]:.4g} there, barrier {found['line']['barrier']:.4g}")
    return "\n".join(parts)
