"""The speed of serving on this machine: one history, a thousand, all users, and a catalogue of a million items."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from llmesr_jax.experiments import benchmark
from llmesr_jax.semantic import tables as tables_lib
from llmesr_jax.serving import index, live
from llmesr_jax.serving.model import ServedModel
from llmesr_jax.serving.options import Options
from llmesr_jax.training import interactions, steps
from llmesr_jax.training.experiment import Experiment

_CALLS = 300  # calls from which percentiles are computed
_MANY = 1000  # histories at once
_WIDTH = 128  # of the large catalogue
_BATCH = 64


def run(experiment: Experiment, large: int = 1_000_000, repeats: int = 5) -> dict[str, Any]:
    """Times an untrained model, because training does not change the speed.

    Args:
      experiment: the users of its data set are served.
      large: number of items of a random catalogue of width 128 that is searched too; 0 for none.
      repeats: number of timings of the slow parts; medians are reported.
    Returns: JSON values; times in seconds.
    """
    model = untrained(experiment)
    corpus, bounds = experiment.corpus, experiment.corpus.offsets
    histories = [corpus.items[a:b] for a, b in zip(bounds[:-1], bounds[1:])]
    options, allowed = model.check(Options(k=10))
    ids = model.catalogue.ids
    rng = np.random.default_rng(0)
    raw = [[ids[n - 1] for n in histories[user]] for user in rng.integers(0, corpus.num_users, _CALLS)]
    started = time.perf_counter()
    model.warm((1,))
    results: dict[str, Any] = {
        "device": str(jax.devices()[0].device_kind),
        "jax": jax.__version__,
        "setting": benchmark.setting(experiment) | {"width": model.items_VxE.shape[1]},
        "warm": time.perf_counter() - started,
        "one": _percentiles(lambda n: model.recommend([raw[n]], 10), _CALLS),
    }
    many = [histories[user] for user in rng.integers(0, corpus.num_users, _MANY)]
    results["thousand"] = _median(lambda: model.rank(many, options, allowed), repeats)
    results["all"] = _median(lambda: model.rank(histories, options, allowed), min(repeats, 3))
    if large:
        results["large"] = _large(large, repeats)
    return results


def untrained(experiment: Experiment) -> ServedModel:
    """A served model with freshly drawn parameters."""
    plan, model = experiment.epochs.plan, experiment.recommender
    tables = tables_lib.on_device(experiment.tables)
    example = steps.example_batch(plan, interactions.resident(experiment.corpus, plan), tables)
    params = jax.jit(model.init)(jax.random.key(0), tables, example)
    kept = {name: table for name, table in tables.items() if name != "item_pca"}
    return live.of_params(experiment, params, kept, {"seed": None, "epochs": 0})


def _large(items: int, repeats: int) -> dict[str, Any]:
    """Seconds per user of exact search among many items, alone and in batches; ten items are hidden from each user."""
    rng = np.random.default_rng(0)
    items_VxE = jax.numpy.asarray(rng.standard_normal((items, _WIDTH), dtype=np.float32))
    found: dict[str, Any] = {"items": items, "width": _WIDTH}
    for name, users in (("alone", 1), ("batch", _BATCH)):
        users_BxE = rng.standard_normal((users, _WIDTH), dtype=np.float32)
        hidden = index.Hidden(np.repeat(np.arange(users), 10), rng.integers(0, items, users * 10))
        found[name] = _median(lambda u=users_BxE, h=hidden: index.search(u, items_VxE, 10, h), repeats) / users
    return found


def _percentiles(call: Callable[[int], Any], count: int) -> dict[str, float]:
    for n in range(min(20, count)):
        call(n)
    times = []
    for n in range(count):
        started = time.perf_counter()
        call(n)
        times.append(time.perf_counter() - started)
    return {"p50": float(np.percentile(times, 50)), "p95": float(np.percentile(times, 95))}


def _median(call: Callable[[], Any], repeats: int) -> float:
    call()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def table(results: dict[str, Any]) -> str:
    """The results as text."""
    s, one = results["setting"], results["one"]
    lines = [
        f"{s['method']} on {s['backbone']}, {s['dataset']}: {s['users']} users, {s['items']} items, length "
        f"{s['max_len']}, width {s['width']}, preset {s['preset']}; {results['device']}, jax {results['jax']}",
        f"one history            p50 {one['p50'] * 1e3:.2f} ms, p95 {one['p95'] * 1e3:.2f} ms",
        f"{_MANY} histories        {results['thousand'] * 1e3:.0f} ms",
        f"all users              {results['all']:.2f} s, {s['users'] / results['all']:.0f} users/s",
        f"compiled for one       {results['warm']:.1f} s",
    ]
    if large := results.get("large"):
        lines.append(
            f"{large['items']} items of width {large['width']}: {large['alone'] * 1e3:.1f} ms alone, "
            f"{large['batch'] * 1e3:.2f} ms a user in batches of {_BATCH}"
        )
    return "\n".join(lines)
