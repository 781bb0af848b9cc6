"""Compiles a training step for a GPU that this machine does not have, and counts its operations.

JAX's plug-in for CUDA compiles for a described device, without the device itself (`jax.experimental.topologies`).
Matrix products are then not autotuned, so their kernels may differ from those on the device. Fusions, loops and memory
do not.
"""

from __future__ import annotations

import collections
import contextlib
import importlib.util
import math
import os
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from llmesr_jax.core.config_dict import ConfigDict
from llmesr_jax.core.errors import InputError
from llmesr_jax.experiments import benchmark
from llmesr_jax.models import backbones
from llmesr_jax.training import config as config_lib
from llmesr_jax.training import steps, traced
from llmesr_jax.training.experiment import Experiment, prepare
from llmesr_jax.training.program import Program

# From NVIDIA's data sheet for the H100 SXM, bytes and operations per second: they give a step's least time.
BANDWIDTH, TF32 = 3.35e12, 4.95e14
_TARGETS = {
    "h100": """
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: 84942979072
  shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 1 patch: 1 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
}
DEVICES = tuple(_TARGETS)
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_OPERATION = re.compile(r"(?:\}|\)|\]) ([a-z][\w\-]*)\(")
_SHAPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s64": 8, "u64": 8, "f64": 8}
_BODY = re.compile(r"body=%([\w.\-]+)")
_TRIPS = re.compile(r'known_trip_count":\{"n":"(\d+)"')
_NO_KERNEL = frozenset("parameter tuple get-tuple-element bitcast constant after-all while".split())


class Counts(NamedTuple):
    """The counts of a computation, without the loops in it.

    Attributes:
      kernels: launches of kernels, including products.
      products: matrix products.
      written: bytes that the kernels write.
      loops: for each loop its number of turns (None if only the device knows it) and the counts of its body.
    """

    kernels: int
    products: int
    written: int
    loops: tuple[tuple[int | None, Counts], ...]

    def known(self) -> int:
        """Launches, with every turn of a loop counted; a loop with an unknown number of turns counts as one turn."""
        return self.kernels + sum((turns or 1) * inner.known() for turns, inner in self.loops)

    def waits(self) -> int:
        """Loops in which each turn waits for the device to decide whether there is another one."""
        return sum((turns is None) + inner.waits() for turns, inner in self.loops)


def of(config: ConfigDict, device: str, groups: Sequence[int], size: Sequence[int] = ()) -> dict[str, Any]:
    """`run` for each number of seeds, with settings that are `auto` as on an accelerator; prints the counts.

    Args:
      config: of the run.
      device: one of `DEVICES`.
      groups: numbers of seeds that train together.
      size: users, items and embedding width of random data that replace the data set; () for the data set.
    Returns: {number of seeds: result of `run`}.
    """
    packs = backbones.packs(backbones.PLUGINS.load(config.backbone), config_lib.section(config, config.backbone))
    if packs and config.data.layout == "auto":
        config.data.layout = "packed"
    if config.train.blocks == "auto":
        config.train.blocks = "whole"
    made = benchmark.synthetic(config, *size) if size else prepare(config)
    found = {str(lanes): run(made, device, lanes) for lanes in groups}
    print("\n\n".join(map(table, found.values())) + "\n", flush=True)
    return found


def run(experiment: Experiment, device: str, lanes: int = 1) -> dict[str, Any]:
    """Compiles a window of steps for a device of `DEVICES`, and counts the operations of one step.

    Args:
      experiment: of `prepare`.
      device: one of `DEVICES`.
      lanes: seeds that train together.
    Returns: JSON values: counts of one step, bytes, seconds.
    Raises:
      InputError: the plug-in is not installed.
    """
    target = _device(device)
    program = Program.of(experiment)
    fresh = program.fresh(tuple(range(42, 42 + lanes)))
    program = program.started(experiment.config.precision)
    numbers = {key: np.full(lanes, value, np.float32) for key, value in traced.numbers(experiment.config).items()}
    order = np.zeros((lanes, program.width, program.plan.config.batch_size), np.int32)
    args, options = program.window(fresh["state"], fresh["sums"], order, 1, numbers)
    sharding = jax.sharding.SingleDeviceSharding(target)
    there = lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype, sharding=sharding)  # noqa: E731
    args = (*args[:3], *jax.tree.map(there, args[3:]))
    options["numbers_S"] = jax.tree.map(there, options["numbers_S"])
    started = time.perf_counter()
    lowered = steps.run_window.trace(*args, **options).lower(lowering_platforms=("cuda",))
    text, traced_at = lowered.as_text(), time.perf_counter()
    with _uncached():
        compiled = lowered.compile()
    step = step_of(compiled.as_text())
    memory, flops = compiled.memory_analysis(), benchmark.step_flops(experiment)
    return {
        "device": device,
        "method": experiment.config.method,
        "lanes": lanes,
        "operations": len(re.findall(r"^\s*(?:%\S+ = )?\"?stablehlo\.(?!return)", text, re.MULTILINE)),
        "stablehlo_products": text.count("stablehlo.dot_general"),
        "kernels": step.kernels,
        "products": step.products,
        "loops": len(step.loops),
        "launches": step.known(),
        "waits": step.waits(),
        "trace": traced_at - started,
        "compile": time.perf_counter() - traced_at,
        "temporary_bytes": memory.temp_size_in_bytes,
        "argument_bytes": memory.argument_size_in_bytes,
        "written_bytes": step.written,
        "flops": flops and flops * lanes,
    }


def step_of(text: str) -> Counts:
    """The counts of the body of the outermost loop, a step, in the compiled text of `steps.run_window`."""
    computations, entry, name = collections.defaultdict(list), "", ""
    for line in text.splitlines():
        if found := _COMPUTATION.match(line):
            name = found[2]
            entry = name if found[1] else entry
        elif line.startswith("}"):
            name = ""
        elif name:
            computations[name].append(line.partition(" = ")[::2])

    def count(name: str) -> Counts:
        kernels, products, written, loops = 0, 0, 0, []
        for left, right in computations[name]:
            found = _OPERATION.search(right)
            operation = found[1] if found else "parameter"
            if operation == "while":
                turns = _TRIPS.search(right)
                loops.append((int(turns[1]) if turns else None, count(_BODY.search(right)[1])))
            elif operation not in _NO_KERNEL:
                kernels += 1
                products += "gemm" in left or "__cublas" in right
                shapes = _SHAPE.findall(right[: found.start() + 1])
                written += sum(
                    _BYTES.get(kind, 4) * math.prod(map(int, filter(None, s.split(",")))) for kind, s in shapes
                )
        return Counts(kernels, products, written, tuple(loops))

    ((_, step),) = count(entry).loops
    return step


def table(found: dict[str, Any]) -> str:
    """The counts as text."""
    lines = [
        f"{found['method']}, {found['lanes']} seed{'s' if found['lanes'] > 1 else ''}, compiled for {found['device']}; "
        "nothing ran there, so nothing was timed",
        f"StableHLO              {found['operations']} operations, {found['stablehlo_products']} products",
        f"launches a step        {found['launches']}: {found['kernels']} kernels, {found['products']} of them products, "
        f"and {found['loops']} loops",
        f"loops that wait        {found['waits']}, once a turn; a turn of these counts as one above",
        f"temporary memory       {found['temporary_bytes'] / 2**20:.0f} MiB, "
        f"beside {found['argument_bytes'] / 2**20:.0f} MiB of data, tables and state",
        f"written by kernels     {found['written_bytes'] / 1e9:.2f} GB: "
        f"{found['written_bytes'] / BANDWIDTH * 1e3:.2f} ms at the card's bandwidth",
    ]
    if found["flops"]:
        lines.append(
            f"matrix products        {found['flops'] / 1e9:.2f} GFLOP: {found['flops'] / TF32 * 1e3:.2f} ms at the card's "
            "rate in TF32"
        )
    lines.append(f"traced, compiled here  {found['trace']:.1f} s, {found['compile']:.1f} s")
    return "\n".join(lines)


@contextlib.contextmanager
def _uncached() -> Iterator[None]:
    """A block without JAX's cache of compiled code, which can be read only on the device."""
    before = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)


def _device(name: str) -> Any:
    if not importlib.util.find_spec("jax_plugins.xla_cuda12") and not importlib.util.find_spec(
        "jax_plugins.xla_cuda13"
    ):
        raise InputError(
            f"--compile_for={name}: JAX's plug-in for CUDA is not installed; expected pip install jax-cuda12-plugin "
            "jax-cuda12-pjrt nvidia-cuda-nvcc-cu12, in the versions of jax (a GPU is not needed)"
        )
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")  # the check would look for a driver
    from jax.experimental import topologies

    return topologies.get_topology_desc(name, "cuda", target_config=_TARGETS[name], topology="1x1x1").devices[0]
