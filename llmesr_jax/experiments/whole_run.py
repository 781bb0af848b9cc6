"""Monitors a whole run: where its time goes, and which programs it compiles.

JAX reports when it traces, lowers and compiles (`jax.monitoring`), this library when it reads, trains and ranks
(`core.spans`). A span's own time is its length minus that of the spans inside it, so all parts add up to the whole. What
is compiled ahead in a thread (`models.kept`) counts only as far as the command waits for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from llmesr_jax.core import spans
from llmesr_jax.core.interrupts import Stop
from llmesr_jax.ranking import evaluate, metrics
from llmesr_jax.training import experiment, loop

_TRACE, _LOWER, _COMPILE = (
    f"/jax/core/compile/{name}_duration" for name in ("jaxpr_trace", "jaxpr_to_mlir_module", "backend_compile")
)
_STEPS = "jit(run_window)"
_HIT = "/jax/compilation_cache/cache_hits"
_PART_OF = {_TRACE: "trace", _LOWER: "trace", _COMPILE: "compile"}
PARTS = ("import", "data", "tables", "trace", "compile", "steps", "validation", "checkpoints", "test", "rest")
SHARE = 0.95  # of the best validation metric, for `reached`
_OPERATION = re.compile(r"^\s*(?:%\S+ = )?\"?stablehlo\.(?!return)", re.MULTILINE)


class Span(NamedTuple):
    """A named span of time of a thread, in seconds of `time.time`; JAX's spans also have the name of the function."""

    name: str
    start: float
    end: float
    function: str = ""
    thread: int = 0


@dataclasses.dataclass
class Program:
    """One compiled program.

    Attributes:
      name: of the function.
      operations: number of StableHLO operations; None if they were not counted.
      trace: seconds from Python to StableHLO.
      compile: seconds from StableHLO to machine code, or to read that from the cache.
      kept: whether it was compiled before, and read from the cache.
    """

    name: str
    operations: int | None
    trace: float
    compile: float
    kept: bool


class Recording:
    """The spans recorded while a command runs, in the order in which they ended.

    Attributes:
      start: of the command, seconds of `time.time`.
      spans: of all names and threads.
      thread: the command's.
    """

    def __init__(self, start: float):
        self.start, self.spans, self.thread = start, [], threading.get_ident()

    def hear(self, name: str, start: float, end: float, *, fun_name: str = "", **_: Any) -> None:
        """A listener of `core.spans` and of `jax.monitoring`."""
        if name in _PART_OF or not name.startswith("/"):
            self.spans.append(Span(name, start, end, fun_name, threading.get_ident()))

    def hear_hit(self, name: str, **_: Any) -> None:
        """A listener of JAX's events: a hit of the cache is reported before the span of the compilation ends."""
        if name == _HIT:
            now = time.time()
            self.spans.append(Span(name, now, now, thread=threading.get_ident()))

    def programs(self, operations: Sequence[int] = ()) -> tuple[list[Program], dict[str, float]]:
        """The programs, in the order of compilation; and {name: seconds} of functions that were only traced.

        Args:
          operations: the number of operations of each program.
        """
        found, traced, lowered, hits = [], {}, {}, set()
        outer = set().union(*(_outermost(found) for found in self._by_thread()))
        for one in self.spans:
            if one.name == _HIT:
                hits.add(one.thread)
            elif one.name == _TRACE and one in outer:
                traced[one.function] = traced.get(one.function, 0.0) + one.end - one.start
            elif one.name == _LOWER:
                lowered[one.thread] = one.end - one.start
            elif one.name == _COMPILE:
                name = re.sub(r"^jit\((.*)\)$", r"\1", one.function)
                count = operations[len(found)] if len(operations) > len(found) else None
                seconds = traced.pop(name, 0.0) + lowered.pop(one.thread, 0.0)
                found.append(Program(name, count, seconds, one.end - one.start, one.thread in hits))
                hits.discard(one.thread)
        return found, traced

    def _by_thread(self) -> list[list[Span]]:
        return [[one for one in self.spans if one.thread == thread] for thread in {one.thread for one in self.spans}]

    def parts(self) -> dict[str, float]:
        """Seconds of each of `PARTS` up to now; they add up to the time since the command's start."""
        found = dict.fromkeys(PARTS, 0.0)
        around = [("rest", self.start, time.time())]  # the spans that contain the next one
        found["rest"] = around[0][2] - self.start
        own = [one for one in self.spans if one.thread == self.thread]
        for one in sorted(own, key=lambda s: (s.start, -s.end)):
            part = _PART_OF.get(one.name, one.name)
            if part not in found:
                continue
            while len(around) > 1 and around[-1][2] <= one.start:
                around.pop()
            seconds = max(min(one.end, around[-1][2]) - max(one.start, around[-1][1]), 0.0)
            found[part] += seconds
            found[around[-1][0]] -= seconds
            around.append((part, one.start, one.end))
        return found

    def times(self, name: str) -> list[float]:
        """When each span of a name ended, seconds after the command's start."""
        return [one.end - self.start for one in self.spans if one.name == name]


def _outermost(found: Sequence[Span]) -> set[Span]:
    """The spans of tracing that are inside no other one."""
    outer, end = set(), -np.inf
    for one in sorted((s for s in found if s.name == _TRACE), key=lambda s: (s.start, -s.end)):
        if one.end > end:
            outer.add(one)
            end = one.end
    return outer


def run(configs: Sequence[ConfigDict], *, programs: bool = False, stop: Stop | None = None) -> dict[str, Any]:
    """Trains and tests as `launch.train` does, in a temporary folder, and prints where the time went.

    Args:
      configs: of the methods; their `workdir` is not used.
      programs: train one epoch only, compile everything without the cache, and print the programs instead of the parts.
      stop: as in `loop.train`.
    Returns: JSON values: what was printed, times in seconds.
    """
    start, reached_at, results = process_start(), {}, {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        counts = stack.enter_context(counted()) if programs else []
        recording = stack.enter_context(recorded(start))
        recording.hear("import", start, time.time())
        moved = {config.workdir: str(folder / config.method) for config in configs}
        for config in configs:
            config.workdir, config.start = moved[config.workdir], moved.get(config.start, config.start)
            config.train.epochs = 1 if programs else config.train.epochs
        for made in [experiment.prepare(config) for config in configs]:
            print(made.describe(), flush=True)
            method, validated = made.config.method, len(recording.times("validation"))
            results[method] = loop.train(made, stop=stop)["test"]
            times = recording.times("validation")[validated:]
            reached_at[method] = reached(folder / method / "metrics.jsonl", made.config.train.monitor, times)
        for protocol in metrics.PROTOCOLS:
            print("\n" + evaluate.results_table(results, protocol))
        parts = recording.parts()
    found, traced = recording.programs(counts)
    if programs:
        print("\n" + programs_table(found, traced), flush=True)
        return {"programs": [dataclasses.asdict(one) for one in found], "traced_only": traced}
    steps = [one.end - start for one in recording.spans if one.name == _COMPILE and one.function == _STEPS]
    first = steps[0] if steps else None
    print("\n" + whole_table(parts, first, reached_at), flush=True)
    reached_s = {method: one and {"epoch": one[0], "seconds": one[1]} for method, one in reached_at.items()}
    return {"parts": parts, "first_steps": first, "reached": reached_s, "programs": len(found)}


def process_start() -> float:
    """The time at which this process began, in seconds of `time.time`; the present time if the system does not say."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])  # field 22; names end in ")"
        up = float(Path("/proc/uptime").read_text().split()[0])
        return time.time() - (up - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError):
        return time.time()


@contextlib.contextmanager
def recorded(start: float) -> Iterator[Recording]:
    """A recording of what happens in the block."""
    recording = Recording(start)
    jax.monitoring.register_event_time_span_listener(recording.hear)
    jax.monitoring.register_event_listener(recording.hear_hit)
    try:
        with spans.heard_by(recording.hear):
            yield recording
    finally:
        jax.monitoring.unregister_event_time_span_listener(recording.hear)
        jax.monitoring.unregister_event_listener(recording.hear_hit)


@contextlib.contextmanager
def counted() -> Iterator[list[int]]:
    """A block without the cache of compiled code; after it, the list has the number of operations of each program."""
    counts: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        changes = {"jax_enable_compilation_cache": False, "jax_dump_ir_to": folder}
        before = {name: jax.config.values[name] for name in changes}
        for name, value in changes.items():
            jax.config.update(name, value)
        try:
            yield counts
        finally:
            for name, value in before.items():
                jax.config.update(name, value)
            # Files are numbered as they are written, which is the order of compiling.
            for path in sorted(Path(folder).glob("*_compile.mlir")):
                counts.append(len(_OPERATION.findall(path.read_text())))


def reached(metrics: Path, monitor: str, times: Sequence[float]) -> tuple[int, float] | None:
    """The first epoch whose validation metric, mean over seeds, is at least `SHARE` of the best, and its time.

    Args:
      metrics: `metrics.jsonl` of the run.
      monitor: the metric's name.
      times: seconds after which each epoch was validated.
    Returns: epoch and seconds; None if nothing was validated.
    """
    values: dict[int, list[float]] = {}
    for line in map(json.loads, metrics.read_text().splitlines()):
        if (value := line.get(f"valid/overall/{monitor}")) is not None:
            values.setdefault(line["epoch"], []).append(value)
    means = {epoch: float(np.mean(found)) for epoch, found in sorted(values.items())}
    if not means:
        return None
    epoch = next(e for e, value in means.items() if value >= SHARE * max(means.values()))
    return epoch, times[epoch - 1]


def programs_table(programs: Sequence[Program], traced: dict[str, float], most: int = 25) -> str:
    """The programs as text, the slowest first; one line for the rest after `most` of them."""
    lines = ["program                    operations   trace s  compile s"]
    ordered = sorted(programs, key=lambda p: -(p.trace + p.compile))

    def line(name: str, some: Sequence[Program]) -> str:
        count = sum(p.operations or 0 for p in some)
        kept = "  (kept)" if all(p.kept for p in some) else ""
        return (
            f"{name:<26.26} {count:>10} {sum(p.trace for p in some):>9.2f} {sum(p.compile for p in some):>10.2f}{kept}"
        )

    lines += [line(p.name, [p]) for p in ordered[:most]]
    if rest := ordered[most:]:
        lines.append(line(f"{len(rest)} more", rest))
    lines += [f"{f'traced only: {name}':<37.37} {s:>9.2f}" for name, s in sorted(traced.items(), key=lambda x: -x[1])]
    return "\n".join([*lines, line(f"{len(programs)} programs", programs)])


def whole_table(parts: dict[str, float], first_step: float | None, reached: dict[str, tuple[int, float] | None]) -> str:
    """The parts of a whole run as text."""
    lines = [f"{name:<12} {seconds:>7.1f} s" for name, seconds in parts.items()]
    lines.append(f"{'whole':<12} {sum(parts.values()):>7.1f} s, from command to table")
    if first_step is not None:
        lines.append(f"{'first steps':<12} {first_step:>7.1f} s after the command")
    for method, found in reached.items():
        if found is not None:
            lines.append(
                f"{method}: {SHARE:.0%} of the best validation metric after {found[1]:.1f} s (epoch {found[0]})"
            )
    return "\n".join(lines)
