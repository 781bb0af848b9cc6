"""One training step of small systems on meshes of eight CPU devices, which must be asked for before JAX starts.

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python tests/mesh_steps.py CASE...
    XLA_FLAGS=--xla_force_host_platform_device_count=4 python tests/mesh_steps.py --processes=2 CASE...

A case is JSON: {"backbone", "method", "meshes": [[lane, data], ...], "float64", "touched", ...changes for `tiny.case`}.
For each it prints a line of JSON: the largest differences of losses, gradients, and vectors and ranks of users and items,
from those of one device, relative to the largest number of each array, for each mesh, and whether a second run on it gave the same bits.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys

import jax
import numpy as np
import tiny

from llmesr_jax.models.placement import on_host
from llmesr_jax.ranking import engine, inference
from llmesr_jax.training import mesh, optimizer, processes, state, steps

SEEDS = (1, 2, 3)


def first_step(case: tiny.Case, shape: tuple[int, int], float64: bool, touched: bool) -> dict:
    """{"losses": {term: (S,)}, "gradients": {path: (S, ...)}}: what a step of Adam finds, dropout included."""
    tables = case.tables
    example = steps.example_batch(case.epochs.plan, case.data, tables)
    axes = case.model.axes(tables, example)
    made = optimizer.adam(1e-3)
    states = state.create(case.model, made, tables, example, SEEDS)
    if float64:
        states, tables = tiny.as_float64((states, tables))
    placement = mesh.placement(mesh.Shape(*shape), axes)
    plan, data, options = case.epochs.plan, case.data, {}
    sums = steps.zero_sums(case.model.outline(case.tables, example).terms, len(SEEDS))
    if float64:
        sums = tiny.as_float64(sums)
    if placement is not None:
        host = jax.device_get
        states, sums = placement.lanes(host(states)), placement.lanes(host(sums))
        tables, data = placement.tables(host(tables)), placement.everywhere(data)
        plan = plan.dealt(placement.data_shards)
        options = {"split": placement.split, "mesh": placement.mesh}
    before = vectors(case, state.take(states.params, 0), tables, placement)
    order = np.stack([case.epochs.order(seed, 1)[:1] for seed in SEEDS])
    arguments = (states, sums, tables, data, order, np.int32(1), np.float32(2))
    states, sums = steps.run_window(case.model, made, plan, *arguments, touched=axes if touched else None, **options)
    host = jax.device_get if placement is None else placement.host
    mu = states.opt_state[0].mu  # after one step a tenth of the gradient
    found = {"losses": host(sums), "gradients": jax.tree.map(lambda m: m * 10, host(mu))}
    return found | {"vectors": before}


def vectors(case: tiny.Case, params, tables, placement) -> list[np.ndarray]:
    """Of all users, and of all items; and ranks of each user's last item, and the best items."""
    rows = np.arange(case.corpus.num_users)
    histories = inference.histories(case.corpus, rows, case.corpus.lengths_U, case.config, case.model.supervision)
    users = inference.user_vectors(case.model, params, tables, histories, placement)
    items = inference.item_vectors(case.model, params, tables, False, placement)
    split = None
    if placement is not None and placement.split:
        split = engine.SplitItems(case.corpus.num_items, placement.data_shards, placement.mesh)
    last_U = case.corpus.items[case.corpus.offsets[1:] - 1]
    nothing = engine.prefix_sets(case.corpus, rows, np.zeros_like(rows))
    ranks, best = engine.full_ranks(users, items, last_U, nothing, top=9, split=split)
    drawn = (last_U[:, None] + np.arange(1, 6)) % case.corpus.num_items + 1
    sampled = engine.sampled_ranks(users, items, last_U, drawn, split=split)
    host = [on_host(x) for x in (users, items, *ranks, best, *sampled)]
    return [x[: case.corpus.num_items] if place == 1 else x for place, x in enumerate(host)]


def difference(ours, wanted) -> float:
    """The largest, each array relative to its largest number."""
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(wanted), strict=True)
    return max(float(np.abs(x - y).max() / max(np.abs(y).max(), 1e-12)) for x, y in pairs if x.size)


def report(backbone, method, meshes, float64=False, touched=False, **changes) -> dict:
    """What the module's description says of a case."""
    case, found = tiny.case(backbone, method, **changes), {}
    with tiny.float64() if float64 else jax.numpy_dtype_promotion("standard"):
        wanted = first_step(case, (1, 1), float64, touched)
        for shape in meshes:
            ours, again = (first_step(case, shape, float64, touched) for _ in range(2))
            same = all((x == y).all() for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(again)))
            apart = {part: difference(ours[part], wanted[part]) for part in wanted}
            found[",".join(map(str, shape))] = {**apart, "same bits": bool(same)}
    return found


def start(count: int, cases: list[str]) -> None:
    """The cases in so many processes, of which the first prints."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    each = [[sys.executable, __file__, f"--process={i},{count},{port}", *cases] for i in range(count)]
    children = [
        subprocess.Popen(command, stdout=None if i == 0 else subprocess.DEVNULL) for i, command in enumerate(each)
    ]
    sys.exit(max(child.wait() for child in children))


if __name__ == "__main__":
    cases = sys.argv[1:]
    if cases[0].startswith("--processes="):
        start(int(cases[0].partition("=")[2]), cases[1:])
    if cases[0].startswith("--process="):
        index, count, port = map(int, cases.pop(0).partition("=")[2].split(","))
        processes.initialize(f"localhost:{port}", count, index)
    for text in cases:
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(report(**json.loads(text))), flush=True)
