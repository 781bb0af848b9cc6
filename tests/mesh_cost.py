"""What a device holds and exchanges in a training step, from the compiled program: no array is made.

    export XLA_FLAGS=--xla_force_host_platform_device_count=8
    python tests/mesh_cost.py '{"method": "none", "shape": [1, 8], "items": 10000000}'

prints a line of JSON for each case: bytes on a device of arguments, results and temporary arrays
(`compiled.memory_analysis()`; "alias" are results that lie where arguments did), and bytes of the results of each kind of
collective and operations of a device in a step (loops of unknown length count as one turn). With "ranked": true, the same
for ranking (`ranking`), where a turn is 128 users.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import math
import re
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tiny

from llmesr_jax.models.axes import Axes, in_steps
from llmesr_jax.models.types import DATA_AXIS
from llmesr_jax.ranking import engine
from llmesr_jax.training import mesh, optimizer, state, steps

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "f64": 8}
_KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"


def collectives(text: str) -> dict[str, int]:
    """{kind: bytes} of the results of a compiled program's collectives; "in loops" are those of loops within a step.

    Each is counted once; the loop over steps is none of the loops within a step.
    """
    found: collections.Counter[str] = collections.Counter()
    for name, lines in _computations(text).items():
        for line in lines:
            if made := re.match(rf"\s*(?:ROOT )?%?[\w.-]+ = (.*?) ({_KINDS})(?:-start)?\(", line):
                sizes = re.findall(r"(\w+)\[([\d,]*)\]", made[1])
                count = sum(_BYTES[kind] * math.prod(int(n) for n in ns.split(",") if n) for kind, ns in sizes)
                found[made[2]] += count
                found["in loops"] += count * (_depth(text, name) > 1)
    return dict(found)


def _computations(text: str) -> dict[str, list[str]]:
    """The lines of each computation of a program, by its name."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if made := re.match(r"(?:ENTRY )?%?([\w.-]+) \(.*\{$", line):
            lines = found.setdefault(made[1], [])
        elif found:
            lines.append(line)
    return found


@functools.cache
def _depth(text: str, name: str) -> int:
    """How many loops a computation stands in."""
    callers = [(other, line) for other, lines in _computations(text).items() for line in lines if _calls(line, name)]
    return max((_depth(text, other) + ("body=" in line and " while(" in line) for other, line in callers), default=0)


def _calls(line: str, name: str) -> bool:
    return (
        re.search(rf"(?:body|condition|to_apply|calls|branch_computations)=.*%?{re.escape(name)}\b", line) is not None
    )


def compiled(method: str, shape: tuple[int, int], items: int, touched: bool = False, batch: int = 8, **changes):
    """A window of steps at so many items and users, compiled for shapes alone."""
    case = tiny.case("sasrec", method, batch_size=batch, width=64, **changes)
    sizes = dataclasses.replace(case.model.sizes, num_items=items, num_users=items)
    make = dataclasses.replace(case.model.make_backbone, sizes=sizes)
    model = dataclasses.replace(case.model, sizes=sizes, make_backbone=make)
    rows = {"item": items + 2, "user": items}

    def large(name, x):
        axis = model.kinds[name].axis
        return jax.ShapeDtypeStruct((rows[axis], *x.shape[1:]) if axis else x.shape, x.dtype)

    tables = {name: large(name, x) for name, x in case.tables.items()}
    example = steps.example_batch(case.epochs.plan, case.data, case.tables)
    outline, made, seeds = model.outline(tables, example), optimizer.adam(1e-3), tuple(range(shape[0]))
    states = jax.eval_shape(lambda tables: state.create(model, made, tables, example, seeds), tables)
    sums = {name: jax.ShapeDtypeStruct((len(seeds),), jnp.float32) for name in (*outline.terms, "total")}
    tables, plan, options = in_steps(tables, model.kinds), case.epochs.plan, {}
    placement = mesh.placement(mesh.Shape(*shape), outline.axes)
    if placement is not None:
        states, sums, tables = placement.shapes(states), placement.shapes(sums), placement.table_shapes(tables)
        plan = plan.dealt(placement.data_shards)
        options = {"split": placement.split, "mesh": placement.mesh}
    options["touched"] = outline.axes if touched else None
    order = np.zeros((len(seeds), 1, batch), np.int32)
    rest = (states, sums, tables, case.data, order, np.int32(1), np.float32(1))
    with jax.numpy_dtype_promotion("standard"):
        return steps.run_window.lower(model, made, plan, *rest, **options).compile()


def ranking(shape: tuple[int, int], items: int, users: int = 1024, top: int = 20):
    """Ranks of so many users among so many items at width 64, 128 users at a time, compiled for shapes alone."""
    axes = Axes((), (), items + 2, users)
    placement = mesh.placement(mesh.Shape(*shape), axes)
    rows, split, sharding = items, None, None
    if placement is not None:
        rows, split = placement.rows("item"), engine.SplitItems(items, placement.data_shards, placement.mesh)
        sharding = jax.sharding.NamedSharding(placement.mesh, jax.sharding.PartitionSpec(DATA_AXIS))
    vectors = [
        jax.ShapeDtypeStruct((users, 64), jnp.float32),
        jax.ShapeDtypeStruct((rows, 64), jnp.float32, sharding=sharding),
    ]
    hidden = engine._Hidden(*[np.zeros((users // 128, 128 * 10), np.int32)] * 2)
    targets = np.zeros(users, np.int32)
    return engine._full.lower(*vectors, targets, hidden, rows=128, top=top, zero_hidden=False, split=split).compile()


def cost(ranked: bool = False, **changes) -> dict[str, Any]:
    """What the module's description says of `compiled`, or of `ranking`."""
    program = ranking(**changes) if ranked else compiled(**changes)
    memory = program.memory_analysis()
    sizes = {name: getattr(memory, f"{name}_size_in_bytes") for name in ("argument", "temp", "output", "alias")}
    return {**sizes, "flops": program.cost_analysis()["flops"], "exchanged": collectives(program.as_text())}


if __name__ == "__main__":
    for text in sys.argv[1:]:
        print(json.dumps(cost(**json.loads(text))), flush=True)
