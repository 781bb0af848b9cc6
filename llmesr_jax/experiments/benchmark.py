"""The speed of an experiment on this machine: each part of a run is timed separately, in one process."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from llmesr_jax.core.axes import in_steps
from llmesr_jax.core.errors import InputError
from llmesr_jax.data import corpus, groups
from llmesr_jax.models import recommender
from llmesr_jax.models.layers.tables import BLOCK, candidates
from llmesr_jax.models.recommender import needs as method_needs
from llmesr_jax.ranking import evaluate, inference
from llmesr_jax.semantic import stand_ins
from llmesr_jax.semantic import tables as tables_lib
from llmesr_jax.training import (
    batches,
    epoch_plan,
    interactions,
    method_tables,
    state,
    steps,
    traced,
)
from llmesr_jax.training import config as config_lib
from llmesr_jax.training.experiment import Experiment, assemble
from llmesr_jax.training.program import Program


def run(
    experiment: Experiment, seeds: tuple[int, ...] = (1, 3), count: int = 50, repeats: int = 5, eval_users: int = 0
) -> dict[str, Any]:
    """Times training steps and evaluation.

    Args:
      experiment: what to time; its own seeds are not used.
      seeds: numbers of seeds that are trained together; the steps of each are timed.
      count: steps per timing.
      repeats: number of timings; medians and the spread (largest minus smallest) are reported.
      eval_users: number of users in evaluation; 0: all.
    Returns: JSON values; times in seconds, memory in bytes, rates per second.
    Raises:
      InputError: the experiment has a mesh, or something that training refuses.
    """
    results: dict[str, Any] = {
        "device": str(jax.devices()[0].device_kind),
        "jax": jax.__version__,
        "setting": setting(experiment),
        "matmul_flops": matmul_rate(),
        "train": train_steps(experiment, seeds, count, repeats),
        "flops": step_flops(experiment),
    }
    first = next(iter(results["train"].values()))
    flops = results["flops"]
    results["share_of_matmul"] = flops and flops * seeds[0] / first["step"] / results["matmul_flops"]
    results["evaluation"] = evaluation(experiment, min(repeats, 3), eval_users)
    results["peak_memory"] = peak_memory()
    return results


def synthetic(config: ConfigDict, users: int, items: int, width: int) -> Experiment:
    """An experiment on random data of any size: Zipf popularity, up to 40 distinct items per user, random similar
    users.

    Args:
      config: as for `experiment.prepare`; its data set is not read.
      users, items: numbers of users and items; every item occurs if there are enough interactions.
      width: F, of the LLM embeddings.
    """
    rng = np.random.default_rng(0)
    lengths_U = np.minimum(3 + rng.geometric(0.2, users), 40)
    rank_n = np.exp(rng.random(lengths_U.sum()) * np.log(items + 1)).astype(np.int64)  # P(rank) ~ 1 / rank
    ids_n = rng.permutation(items)[np.minimum(rank_n, items) - 1] + 1
    places = rng.permutation(len(ids_n))[:items]  # ids without gaps, as every corpus has them
    ids_n[places] = np.arange(1, len(places) + 1)
    _, ids_n = np.unique(ids_n, return_inverse=True)
    user_n = np.repeat(np.arange(users), lengths_U)
    _, first = np.unique(user_n * len(ids_n) + ids_n, return_index=True)  # no user has an item twice
    first.sort()
    users_items = corpus.from_pairs("zipf", user_n[first] + 1, ids_n[first] + 1)
    items = users_items.num_items
    needs = method_needs(config.method, config_lib.section(config, config.method))
    noise = lambda width: rng.standard_normal((items + 2, width), dtype=np.float32) / np.float32(width**0.5)  # noqa: E731
    makers = {
        "item_llm": lambda: noise(width),
        "item_pca": lambda: noise(needs.pca_width),
        "item_popularity": lambda: tables_lib.with_padding_and_mask(groups.popularity(users_items)),
        "tail_item": lambda: tables_lib.with_padding_and_mask(~groups.head_items(users_items)),
        "tail_user": lambda: ~groups.head_users(users_items),
        "user_llm": lambda: stand_ins.random(users, width, 0, "users"),
        "similar_users": lambda: rng.integers(0, users, (users, needs.similar), np.int32),
    }
    tables = {name: makers[name]() for name in sorted(needs.tables)}
    return assemble(config, users_items, tables | method_tables.own(config, users_items).arrays)


def setting(experiment: Experiment) -> dict[str, Any]:
    """A description of what is timed, as JSON values."""
    config, data, plan = experiment.config, experiment.corpus, experiment.epochs.plan
    real, slots = padding(experiment)
    return {
        "dataset": data.name,
        "users": data.num_users,
        "items": data.num_items,
        "method": config.method,
        "backbone": config.backbone,
        "preset": config.preset,
        "precision": config.precision,
        "table_updates": config.train.table_updates,
        "max_len": plan.config.max_len,
        "batch_size": plan.config.batch_size,
        "llm_width": experiment.recommender.sizes.llm_width,
        "similar": plan.similar,
        "steps_an_epoch": experiment.epochs.steps,
        "slots_a_step": slots,
        "real_items_a_step": real,
        "slots_over_real": slots / real,
    }


def padding(experiment: Experiment) -> tuple[float, int]:
    """The mean number of items in a step, students' and teachers', over an epoch; and the number of slots for them."""
    epochs = experiment.epochs
    plan = epochs.plan
    bags = [s for s in (plan.students, plan.teachers) if s is not None]
    slots = sum(bag.slots for bag in bags)
    real = epoch_plan.student_lengths(experiment.corpus, plan, epochs.samples_N).sum()
    if plan.teachers is not None:
        train_U, users = experiment.corpus.train_lengths_U, epochs.samples_N % experiment.corpus.num_users
        if plan.config.prefixes:
            users = users[epochs.samples_N < experiment.corpus.num_users]  # a prefix has no teachers
        similar_UxN = experiment.tables["similar_users"]
        teacher_U = np.minimum(train_U - (plan.config.teacher_input == "input"), plan.config.max_len)
        real += (teacher_U[similar_UxN] * (similar_UxN >= 0)).sum(axis=1)[users].sum()
    return float(real) / epochs.steps, slots


def train_steps(experiment: Experiment, sizes: tuple[int, ...], count: int, repeats: int) -> dict[str, Any]:
    """Compile times, and median times of a training step, for several numbers of seeds.

    Timings of the sizes alternate, so that other load on the machine affects all of them equally.

    Args:
      sizes: numbers of seeds that are trained together.
      count: steps per timing.
      repeats: number of timings.
    """
    timers = {size: _timer(experiment, size, count) for size in sizes}
    times = {size: [] for size in sizes}
    for _ in range(repeats + 1):
        for size, (_, run) in timers.items():
            times[size].append(run())
    real, _ = padding(experiment)
    results = {}
    for size, (compile_seconds, _) in timers.items():
        kept = times[size][1:]  # the first is a warm-up
        step = statistics.median(kept)
        results[str(size)] = {
            "compile": compile_seconds,
            "step": step,
            "spread": max(kept) - min(kept),
            "users_per_second": size * experiment.epochs.plan.config.batch_size / step,
            "positions_per_second": size * real / step,
        }
    return results


def _timer(experiment: Experiment, size: int, count: int) -> tuple[float, Callable[[], float]]:
    """Seconds to compile steps of `size` seeds; and a function that takes `count` steps and returns seconds per step.

    The program, its arguments and the lanes of a call are those of `train`.
    """
    if experiment.config.train.mesh:
        raise InputError(f"--mesh={experiment.config.train.mesh}: steps are timed on one device; expected no --mesh")
    seeds, epochs = tuple(range(42, 42 + size)), experiment.epochs
    shared = Program.of(experiment, resident=True)
    fresh = shared.fresh(seeds)
    shared = shared.started(experiment.config.precision)
    numbers = {key: np.full(size, value, np.float32) for key, value in traced.numbers(experiment.config).items()}
    order = np.stack([epochs.order(seed, 1) for seed in seeds])
    order = order[:, np.arange(count) % epochs.steps]
    groups = steps.lane_groups(size, config_lib.section(experiment.config, "train").lanes)
    states, sums = state.split(fresh["state"], groups), state.split(fresh["sums"], groups)

    def call(i: int, first: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        part = {key: value[groups[i]] for key, value in numbers.items()}
        return shared.window(states[i], sums[i], order[groups[i], first : first + shared.width], 1, part)

    started = time.perf_counter()
    sizes = [len(order[group]) for group in groups]
    programs = {}
    for i, lanes in enumerate(sizes):
        if lanes not in programs:  # two programs at most: the last group may be smaller
            args, options = call(i, 0)
            programs[lanes] = steps.run_window.lower(*args, **options).compile()
    compile_seconds = time.perf_counter() - started

    def run() -> float:
        started = time.perf_counter()
        for first in range(0, count, shared.width):
            for i in range(len(groups)):
                args, options = call(i, first)
                states[i], sums[i] = programs[sizes[i]](*args[3:], numbers_S=options["numbers_S"])
            jax.device_get(sums)  # training reads the losses after each window
        return (time.perf_counter() - started) / count

    return compile_seconds, run


def on_device(experiment: Experiment):
    """The interactions and the frozen tables on the device, and a batch of zeros."""
    data = interactions.resident(experiment.corpus, experiment.epochs.plan)
    tables = tables_lib.on_device(experiment.tables)
    return data, tables, steps.example_batch(experiment.epochs.plan, data, tables)


def step_flops(experiment: Experiment) -> float | None:
    """Multiplications and additions in the matrix products of one seed's gradient, on all slots, padding included.

    None for a method with products in loops of unknown length, except the two of `map_rows`.

    `jax.stages.Compiled.cost_analysis` cannot be used: it counts the body of a loop once, however often it runs (it
    counts a scan of ten products as one), and it counts elementwise work too. For GRU4Rec's step its number is 12 % too
    small, for SASRec's 3 % too large.
    """
    data, tables, example = on_device(experiment)
    params = jax.eval_shape(experiment.recommender.init, jax.random.key(0), tables, example)
    loss = lambda p, t, b: recommender.loss_fn(experiment.recommender, p, t, b, None)[0]  # noqa: E731
    jaxpr = jax.make_jaxpr(jax.grad(loss))(params, tables, example)
    flops = _product_flops(jaxpr.jaxpr, iter(_blocks(experiment, data, tables)))
    return None if math.isnan(flops) else flops


def _blocks(experiment: Experiment, data, tables) -> list[int]:
    """The numbers of blocks of rows that a step maps from the LLM's space, forward and backward: `map_rows`' loops."""
    samples = experiment.epochs.order(42, 1)[0]
    batch = batches.make_batch(experiment.epochs.plan, data, tables, jnp.asarray(samples), jax.random.key(0))
    trained = np.union1d(
        np.asarray(batch.students.items_T),
        np.asarray(candidates(config_lib.section(experiment.config, "loss"), experiment.recommender.sizes, batch)),
    )
    every = trained if batch.teachers is None else np.union1d(trained, np.asarray(batch.teachers.items_T))
    return [-(-len(ids) // BLOCK) for ids in (every, trained)]


def _product_flops(jaxpr, trips) -> float:
    flops = 0.0
    for equation in jaxpr.eqns:
        times = 1
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            flops += 2.0 * equation.outvars[0].aval.size * np.prod([shape[axis] for axis in contracted])
        elif equation.primitive.name == "while":
            times = None
        elif equation.primitive.name == "scan":
            times = equation.params["length"]
        inner = jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns"))
        products = sum(_product_flops(getattr(x, "jaxpr", x), trips) for x in inner if hasattr(x, "eqns"))
        if products:
            flops += products * (next(trips, math.nan) if times is None else times)
    return flops


def evaluation(experiment: Experiment, repeats: int, users: int = 0) -> dict[str, Any]:
    """Median times of encoding the test users, and of ranking under each protocol; `full` includes metrics of lists."""
    model = experiment.recommender
    _, tables, example = on_device(experiment)
    params = jax.jit(model.init)(jax.random.key(0), tables, example)
    tables = recommender.in_precision(in_steps(tables, model.kinds), experiment.config.precision)
    inputs = evaluate.inputs(
        experiment.corpus, "test", users, config_lib.section(experiment.config, "train").seen_items
    )
    histories = inference.histories(
        experiment.corpus, inputs.rows_E, inputs.stops_E, experiment.epochs.plan.config, model.supervision
    )
    users = inference.user_vectors(model, params, tables, histories)
    items = inference.item_vectors(model, params, tables)

    def rank(protocol: str) -> Callable[[], Any]:
        return lambda: evaluate.evaluate(users, items, inputs, seed=42, protocols=(protocol,), lists=protocol == "full")

    return {
        "users": len(inputs.rows_E),
        "encode": median(lambda: inference.user_vectors(model, params, tables, histories), repeats),
        "full": median(rank("full"), repeats),
        "sampled": median(rank("sampled"), repeats),
    }


def matmul_rate(size: int = 2048, repeats: int = 10) -> float:
    """Floating-point operations per second of a (size, size) float32 matrix product on this device."""
    x = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(lambda a, b: a @ b)
    return 2 * size**3 / median(lambda: product(x, x), repeats)


def peak_memory() -> int:
    """Bytes: the peak memory of the device, or of this process if the device is the CPU; 0 if unknown (Windows)."""
    statistics_of_device = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in statistics_of_device:
        return int(statistics_of_device["peak_bytes_in_use"])
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def table(results: dict[str, Any]) -> str:
    """The results as text."""
    s, evaluated = results["setting"], results["evaluation"]
    one = next(iter(results["train"].values()))
    lines = [
        f"{s['method']} on {s['backbone']}, {s['dataset']}: {s['users']} users, {s['items']} items, "
        f"length {s['max_len']}, batch {s['batch_size']}, N {s['similar']}, F {s['llm_width']}, preset {s['preset']}",
        f"{results['device']}, jax {results['jax']}, {results['matmul_flops'] / 1e9:.0f} GFLOP/s in a matrix product",
        "",
        f"slots over real items  {s['slots_over_real']:.2f} "
        f"({s['slots_a_step']} over {s['real_items_a_step']:.0f} a step)",
    ]
    for size, t in results["train"].items():
        lines.append(
            f"step, {size} seed{'s' if size != '1' else ' '}          {t['step'] * 1e3:.1f} ms "
            f"(spread {t['spread'] * 1e3:.1f}), {t['users_per_second']:.0f} users/s, "
            f"{t['positions_per_second']:.0f} positions/s, compile {t['compile']:.1f} s"
        )
    if results["flops"] is not None:
        rate = results["share_of_matmul"] * results["matmul_flops"]
        lines.append(
            f"matrix products        {results['flops'] / 1e9:.2f} GFLOP a step and seed, {rate / 1e9:.1f} GFLOP/s, "
            f"{results['share_of_matmul']:.0%} of a large one's rate"
        )
    lines += [
        f"epoch, 1 seed          {one['step'] * s['steps_an_epoch']:.1f} s of steps",
        f"encode {evaluated['users']} users     {evaluated['encode']:.2f} s",
        f"full ranking           {evaluated['full']:.2f} s, metrics of lists included",
        f"sampled ranking        {evaluated['sampled']:.2f} s",
        f"peak memory            {_gibibytes(results['peak_memory'])}",
    ]
    return "\n".join(lines)


def _gibibytes(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size else "not known on this platform"


def median(call: Callable[[], Any], repeats: int) -> float:
    """The median of the seconds that a call takes, after one call to warm up."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])
