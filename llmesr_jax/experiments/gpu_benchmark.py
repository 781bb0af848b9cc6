"""Measures what `docs/performance.md` reports of a GPU, in one call of at most 8 minutes.

The most important cases come first: when the time is up, the others are named but not measured. Each result is printed
as soon as it is there.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from llmesr_jax.core.errors import InputError
from llmesr_jax.experiments import benchmark
from llmesr_jax.models import recommender
from llmesr_jax.ranking import evaluate, inference
from llmesr_jax.training import config as config_lib
from llmesr_jax.training import experiment

SECONDS = 440.0  # after this time no case is started; the longest takes less than half a minute
_ROWS = {"data.layout": "bucketed", "train.blocks": "counted"}
_NOISE = {"yelp": (15_720, 11_383), "beauty": (52_204, 57_289), "beauty5": (22_363, 12_101)}  # users, items
_WIDTH = 1536
_MILLION = (1_000_000, 1_000_000, 384)


class Case(NamedTuple):
    """A case to time.

    Attributes:
      name: what is timed.
      dataset: a data set of `_NOISE`, or one that needs no files; or "million": random data of that size.
      settings: {key: value} that differ from the defaults.
      groups: numbers of seeds that train together.
    """

    name: str
    dataset: str
    settings: dict[str, Any]
    groups: tuple[int, ...] = (1,)


_YELP = {"method": "llmesr", "data.max_len": 200}
_BEAUTY = {"method": "llmesr", "data.max_len": 50}
_FAEREC = {"method": "faerec", "data.max_len": 50, "data.batch_size": 256, "sasrec.form": "faerec", "sasrec.heads": 2}
_TOUCHED = {"method": "llmesr", "data.max_len": 50, "train.table_updates": "touched"}
CASES = (
    Case("LLM-ESR, yelp, 200", "yelp", _YELP, (1, 3, 10)),
    Case("LLM-ESR, yelp, 200, as on a CPU", "yelp", _YELP | _ROWS),
    Case("FAERec, beauty", "beauty", _FAEREC, (1, 3)),
    Case("LLM-ESR, beauty, 50", "beauty", _BEAUTY, (1, 3)),
    Case("best, beauty5", "beauty5", {"preset": "best"}, (1, 3)),
    Case("a million users and items, touched", "million", _TOUCHED),
    Case("LLM-ESR, yelp, 200, bfloat16", "yelp", _YELP | {"precision": "bfloat16"}, (1, 3)),
    Case("FAERec, beauty, bfloat16", "beauty", _FAEREC | {"precision": "bfloat16"}),
    Case("LLM-ESR GRU4Rec, yelp, 200", "yelp", _YELP | {"backbone": "gru4rec"}),
    Case("FAERec, beauty, as on a CPU", "beauty", _FAEREC | _ROWS),
    Case("LLM-ESR, beauty, 50, as on a CPU", "beauty", _BEAUTY | _ROWS),
)


def run(folder: str = "", count: int = 100, repeats: int = 3, cases: tuple[Case, ...] = CASES) -> dict[str, Any]:
    """Times all cases, and prints each result.

    Args:
      folder: has the data sets' folders, made by `launch.prepare`; "": random data of the same size, whose sequences
        have up to 40 items.
      count, repeats: steps per timing, and number of timings.
      cases: to be timed.
    Returns: JSON values; seconds, bytes, operations per second.
    """
    started = time.monotonic()
    device = jax.devices()[0]
    found: dict[str, Any] = {"device": device.device_kind, "jax": jax.__version__, "ceilings": ceilings(), "cases": {}}
    print(f"{device.device_kind}, jax {jax.__version__}; " + _told(found["ceilings"]), flush=True)
    for case in cases:
        if time.monotonic() - started > SECONDS:
            print(f"{case.name}: not measured, the time is up", flush=True)
            continue
        try:
            made = _prepared(case, folder)
            result = benchmark.train_steps(made, case.groups, count, repeats)
        except (InputError, jax.errors.JaxRuntimeError) as error:
            print(f"{case.name}: {str(error).splitlines()[0]}", flush=True)
            continue
        result = {"steps": result, "flops": benchmark.step_flops(made), "peak_memory": benchmark.peak_memory()}
        if case.dataset == "million":
            result["ranking"] = _ranking(made)
        found["cases"][case.name] = result
        print(_line(case, result), flush=True)
    return found


def ceilings(size: int = 8192, repeats: int = 20) -> dict[str, float]:
    """The device's limits: bytes per second in a copy; operations per second in a product, in three precisions."""
    x = jax.random.normal(jax.random.key(0), (size, size))
    seconds = lambda call: benchmark.median(call, repeats)  # noqa: E731
    copy, product = jax.jit(lambda a: a + 1), jax.jit(lambda a, b: a @ b)
    with jax.default_matmul_precision("highest"):
        full = seconds(lambda: jax.jit(lambda a, b: a @ b)(x, x))
    narrow = x.astype(jnp.bfloat16)
    return {
        "bytes": 2 * x.nbytes / seconds(lambda: copy(x)),
        "default": 2 * size**3 / seconds(lambda: product(x, x)),
        "float32": 2 * size**3 / full,
        "bfloat16": 2 * size**3 / seconds(lambda: product(narrow, narrow)),
    }


def _prepared(case: Case, folder: str) -> experiment.Experiment:
    """The experiment of a case, on the data set's own interactions if `folder` has them."""
    dataset = "demo" if case.dataset == "million" else case.dataset
    settings = {"dataset": dataset, "semantic.encoder": "random", **case.settings}
    own = Path(folder, dataset)
    if case.dataset == "million":
        return benchmark.synthetic(config_lib.build(settings), *_MILLION)
    if folder and own.is_dir():
        return experiment.prepare(config_lib.build(settings | {"data_dir": str(own)}))
    if dataset in _NOISE:
        return benchmark.synthetic(config_lib.build(settings), *_NOISE[dataset], _WIDTH)
    return experiment.prepare(config_lib.build(settings))


def _ranking(made: experiment.Experiment, users: int = 10_000) -> float:
    """Seconds to rank so many users against all items, including lists and their metrics."""
    model, (_, tables, example) = made.recommender, benchmark.on_device(made)
    params = jax.jit(model.init)(jax.random.key(0), tables, example)
    tables = recommender.in_precision(tables, made.config.precision)
    inputs = evaluate.inputs(made.corpus, "test", users, "hidden")
    plan = made.epochs.plan.config
    histories = inference.histories(made.corpus, inputs.rows_E, inputs.stops_E, plan, model.supervision)
    vectors = inference.user_vectors(model, params, tables, histories), inference.item_vectors(model, params, tables)
    return benchmark.median(lambda: evaluate.evaluate(*vectors, inputs, seed=42, protocols=("full",), lists=True), 2)


def _told(found: dict[str, float]) -> str:
    rates = ", ".join(f"{found[name] / 1e12:.0f} TFLOP/s {name}" for name in ("default", "float32", "bfloat16"))
    return f"{found['bytes'] / 1e12:.2f} TB/s in a copy; a large product: {rates}"


def _line(case: Case, result: dict[str, Any]) -> str:
    steps = result["steps"]
    one = steps["1"]["step"]
    parts = [f"{case.name}: {one * 1e3:.2f} ms a step (spread {steps['1']['spread'] * 1e3:.2f})"]
    parts += [f"{size} seeds {each['step'] / one:.2f} times one" for size, each in steps.items() if size != "1"]
    parts.append(f"compile {np.median([each['compile'] for each in steps.values()]):.0f} s")
    if result["flops"]:
        parts.append(f"{result['flops'] / 1e9:.2f} GFLOP in products")
    parts.append(f"peak {result['peak_memory'] / 2**30:.1f} GiB so far")
    if "ranking" in result:
        parts.append(f"10,000 users ranked in {result['ranking']:.2f} s")
    return ", ".join(parts)
