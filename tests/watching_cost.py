"""What `train.watch_gradients` costs on this machine: blocks of steps with and without a watched one, in turns.

    python tests/watching_cost.py --every=50 --turns=7 --dataset=beauty5 --data_dir=path/to/beauty5 --method=llmesr

prints the medians of both in milliseconds a step, the median of the turns' ratios, and its range. Steps are taken as
`launch.train` takes them, from the start of the first epoch on; what is compiled first is not counted. In turns, because a
machine that also does other work is as slow for the one as for the other.
"""

from __future__ import annotations

import argparse
import statistics
import time

import jax
import numpy as np

import llmesr_jax
from llmesr_jax.data import groups
from llmesr_jax.training import experiment as experiment_lib
from llmesr_jax.training import state, steps, traced, watch
from llmesr_jax.training.program import Program


def measure(experiment: experiment_lib.Experiment, every: int, turns: int) -> list[tuple[float, float]]:
    """Seconds of `every` steps without and with a watched one, for each turn."""
    program = Program.of(experiment)
    first = program.fresh(experiment.seeds, None)["state"]
    program = program.started(experiment.config.precision)
    numbers = {name: np.float32([value]) for name, value in traced.numbers(experiment.config).items()}
    order = np.concatenate([experiment.epochs.order(experiment.seeds[0], epoch) for epoch in range(1, 100)])
    tail_V, sums = ~groups.head_items(experiment.corpus), program.zero_sums(1)
    states, taken = program.placed(first), 0

    def take(count: int) -> None:
        nonlocal states, sums, taken
        args, options = program.window(states, sums, order[None, taken : taken + count], 1, numbers)
        states, sums = steps.run_window(*args, **options)
        taken += count

    def block(watched: bool) -> float:
        started, left = time.perf_counter(), every
        if watched:
            looked = watch.before(program, states, order[None, taken], 1, numbers, tail_V)
            take(1)
            watch.after(looked, program, states)
            jax.device_get(sums)
            left -= 1
        while left:
            count = min(left, program.width)
            take(count)
            jax.device_get(sums)  # as training looks after each window whether the loss is finite
            left -= count
        return time.perf_counter() - started

    block(True), block(False)
    return [(block(False), block(True)) for _ in range(turns)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--turns", type=int, default=7)
    for name in ("dataset", "data_dir", "method", "backbone"):
        parser.add_argument(f"--{name}")
    options = vars(parser.parse_args())
    every, turns = options.pop("every"), options.pop("turns")
    given = {name: value for name, value in options.items() if value}
    found = measure(llmesr_jax.prepare(llmesr_jax.settings(seeds="42", **given)), every, turns)
    for name, seconds in zip(("without", "with"), zip(*found)):
        print(f"{name}: {1000 * statistics.median(seconds) / every:.1f} ms a step")
    ratios = sorted(watched / plain for plain, watched in found)
    print(f"ratio: {statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})")
