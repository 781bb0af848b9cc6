"""Host memory that the gradients of all users take, one by one and in blocks.

    python tests/user_gradients_memory.py --blocks=1,16,64 --dataset=beauty5 --data_dir=path/to/beauty5 --method=llmesr

For each size of a block, `gradients.map_user_gradients` gives the inner products of each user's gradients of the terms, batch
by batch. Printed are the megabytes of one user's gradients, those of all users', what the compiled program sets aside, and
by how much the process's resident memory was at most above its memory before, after so many users. `--users` ends earlier.
"""

from __future__ import annotations

import argparse
import ctypes
from pathlib import Path

import jax
import numpy as np

import llmesr_jax
from llmesr_jax import gradients
from llmesr_jax.experiments.gradients import epoch_batches
from llmesr_jax.training import parts

_MB = 2**20


def held(what: str) -> float:
    """Megabytes, of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{what}:"))) / 1024


def measure(bag: epoch_batches.Batches, means: dict[str, str | None], block: int, users: int) -> None:
    """Prints a line for each quarter of the users."""
    static = dict(summarise=gradients.gram, means=means, block=block)
    mapped = jax.jit(
        lambda params, tables, batch: gradients.map_user_gradients(bag.model, params, tables, batch, **static)
    )
    program = mapped.lower(bag.params, bag.tables, bag[0]).compile()
    ctypes.CDLL(None).malloc_trim(0)  # memory of the compiler that is free would hide what is used
    before, seen, total = held("VmRSS"), 0, np.zeros(())
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    print(
        f"block {block}: the program sets aside {program.memory_analysis().temp_size_in_bytes / _MB:.0f} MB", flush=True
    )
    count = max(1, min(-(-users // bag.order.shape[1]), len(bag.order)))
    told = {-(-count * quarter // 4) for quarter in (1, 2, 3, 4)}
    for step in range(count):
        grams = jax.device_get(program(bag.params, bag.tables, bag[step]))["all"]
        total, seen = total + np.trace(grams.sum(axis=0)), seen + int((bag.order[step] >= 0).sum())
        if step + 1 in told:
            print(f"block {block}: {seen} users, peak {held('VmHWM') - before:.0f} MB above", flush=True)
    assert np.isfinite(total)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", default="1,16,64", help="users whose gradients are held at a time")
    parser.add_argument("--users", type=int, default=2**31, help="as many users, rounded up to whole batches")
    for name in ("dataset", "data_dir", "method", "backbone"):
        parser.add_argument(f"--{name}")
    options = vars(parser.parse_args())
    blocks, users = options.pop("blocks"), options.pop("users")
    given = {name: value for name, value in options.items() if value}
    experiment = llmesr_jax.prepare(llmesr_jax.settings(seeds="42", **given))
    bag = epoch_batches.Batches(experiment, parts.loop_parts(experiment).state.params, 0)
    means = gradients.user_means(bag.model, bag.params, bag.tables, bag[0])
    size = len([mean for mean in means.values() if mean]) * sum(x.nbytes for x in jax.tree.leaves(bag.params)) / _MB
    everybody = int((bag.order >= 0).sum())
    print(f"gradients of one user: {size:.1f} MB; of {everybody} users: {size * everybody / 1024:.0f} GB", flush=True)
    for block in map(int, blocks.split(",")):
        measure(bag, means, block, users)
