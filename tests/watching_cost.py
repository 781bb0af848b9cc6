"""What `train.watch_gradients` costs on this machine: blocks of steps with and without a watched one, in turns.

    python tests/watching_cost.py --every=50 --turns=7 --dataset=beauty5 --data_dir=path/to/beauty5 --method=llmesr

prints of both the median and the least, in milliseconds a step, of the time that passed and of the processor's time in this
process, and with watching over without the ratio of each. Steps are taken as `launch.train` takes them; what is compiled
first is not counted. Other work on the machine spoils the time that passed more than it does the processor's.
"""

from __future__ import annotations

import argparse
import time

import jax
import numpy as np
from tqdm import tqdm

import llmesr_jax
from llmesr_jax.data import groups
from llmesr_jax.training import experiment as experiment_lib
from llmesr_jax.training import steps, traced, watch
from llmesr_jax.training.program import Program


def measure(experiment: experiment_lib.Experiment, every: int, turns: int) -> np.ndarray:
    """(turns, 2, 2): seconds of `every` steps, without and with a watched one; that passed, and of the processor."""
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

    def block(watched: bool) -> list[float]:
        started, left = (time.perf_counter(), time.process_time()), every
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
        return [time.perf_counter() - started[0], time.process_time() - started[1]]

    block(True), block(False)
    return np.asarray([(block(False), block(True)) for _ in tqdm(range(turns), unit="turn")])


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
    for i, name in enumerate(("passed", "processor")):
        for of, ms in (("median", np.median(found, axis=0)), ("least", found.min(axis=0))):
            without, watched = 1000 * ms[:, i] / every
            print(f"{name}, {of}: {without:.1f} without, {watched:.1f} with, ratio {watched / without:.3f}")
