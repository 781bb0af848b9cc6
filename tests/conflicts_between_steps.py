"""Whether two terms conflict at states a few steps apart, on the same batches with the same dropout.

    python tests/conflicts_between_steps.py --after=1710 --every=5 --count=18 --dataset=beauty5 --data_dir=path/to/beauty5

trains LLM-ESR (seed 42) and, after each of these steps, prints what `launch.gradients` prints of the cosine of ranking and
distillation: its mean over `--steps` batches, on how many they conflict, and the cosine of their mean gradients. The batches
are those of the epoch in which the middle one of these steps lies, so a study after the epoch before it takes the same.
"""

from __future__ import annotations

import argparse

import jax
import jax.numpy as jnp
import numpy as np

import llmesr_jax
from llmesr_jax import gradients
from llmesr_jax.experiments.gradients import epoch_batches
from llmesr_jax.training import parts, state, steps


def main(after: int, every: int, count: int, batches: int, **given: str) -> None:
    """Trains, and prints a line for each of `count` states."""
    experiment = llmesr_jax.prepare(llmesr_jax.settings(method="llmesr", seeds="42", **given))
    p = parts.loop_parts(experiment)
    an_epoch = p.epochs.steps
    numbers = {name: value[None] for name, value in p.numbers.items()}
    bag = epoch_batches.Batches(experiment, p.state.params, (after + every * (count - 1) // 2) // an_epoch)
    gradients_of = jax.jit(gradients.term_gradients, static_argnums=0)
    gram = jax.jit(lambda trees: gradients.gram(trees)["all"])
    lane, taken = state.stack([p.state]), 0

    def advance(to: int) -> None:
        nonlocal lane, taken
        while taken < to:
            epoch, done = taken // an_epoch + 1, taken % an_epoch
            rows = p.order(epoch)[done : done + min(to - taken, an_epoch)]
            order = np.full((1, an_epoch, rows.shape[1]), -1, np.int32)
            order[0, : len(rows)] = rows
            more = steps.zero_sums((), 1), p.tables, p.data, order, np.int32(len(rows)), np.float32(epoch)
            lane, _ = steps.run_window(p.model, p.optimizer, p.plan, lane, *more, numbers_S=numbers)
            taken += len(rows)

    for step in range(after, after + every * count, every):
        advance(step)
        params, total, cosines = state.take(lane.params, 0), None, []
        for i in range(batches):
            key = bag.draw(epoch_batches.DROPOUT, i)
            found = gradients_of(bag.model, params, bag.tables, bag[i], key, bag.epoch)
            cosines.append(float(gradients.cosines(gram(found))[0, 1]))
            total = found if total is None else jax.tree.map(jnp.add, total, found)
        conflicts, of_means = sum(x < 0 for x in cosines), float(gradients.cosines(gram(total))[0, 1])
        told = f"cosine {np.mean(cosines):+.3f}  conflicts {conflicts} of {batches}  of means {of_means:+.3f}"
        print(f"after step {step}  {told}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--after", type=int, required=True, help="steps before the first measurement")
    parser.add_argument("--every", type=int, default=5, help="steps between measurements")
    parser.add_argument("--count", type=int, default=18, help="measurements")
    parser.add_argument("--steps", type=int, default=16, dest="batches", help="batches of a measurement")
    parser.add_argument("--dataset", default="demo")
    parser.add_argument("--data_dir", default="")
    main(**vars(parser.parse_args()))
