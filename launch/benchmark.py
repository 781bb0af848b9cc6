"""Times training steps, evaluation and ranking of any method, backbone and data set, or a whole run; keeps no run.

python -m launch.benchmark --dataset=demo --method=llmesr --out=benchmark.json
"""

import dataclasses
import json
from pathlib import Path

from llmesr_jax.core.knobs import knob

from . import cli, setting_flags


@dataclasses.dataclass(frozen=True)
class Options:
    """What to time, and where to write the numbers."""

    groups: tuple[int, ...] = knob((1, 3), "numbers of seeds to train together; the steps of each such group are timed")
    count: int = knob(50, "training steps per timing", least=1)
    repeats: int = knob(5, "timings of each part; medians are shown", least=1)
    eval_users: int = knob(0, "users in evaluation, drawn once; 0: all", least=0)
    synthetic: str = knob("", "users,items,width: noise of this size, Zipf popularity, in place of a data set's files")
    whole: bool = knob(
        False, "train and test as launch.train does, in a temporary folder, and show where the time goes"
    )
    programs: bool = knob(
        False, "run one epoch and its test without the compilation cache: each program's operations and compile time"
    )
    compile_for: str = knob(
        "", "time nothing: compile a step for a GPU that need not be there (h100), and count its kernels"
    )
    gpu: bool = knob(False, "measure every GPU figure of docs/performance.md, in one call of at most 8 minutes")
    serve: bool = knob(False, "time recommendations instead: one history, 1,000, all users, a million items")
    out: str = knob("", "JSON file for the numbers")
    plot: str = knob("", "time nothing: draw the files of --files as a picture (.svg)")
    files: tuple[str, ...] = knob((), "files written by earlier --out, for --plot: all of steps, or all of --whole")


def define_flags() -> None:
    cli.define_flags()
    setting_flags.define(Options)


def main(argv, stop):
    from llmesr_jax.core.errors import InputError
    from llmesr_jax.experiments import (
        benchmark,
        benchmark_plot,
        gpu_benchmark,
        gpu_program,
        serving_benchmark,
        whole_run,
    )
    from llmesr_jax.training import experiment

    options = setting_flags.made(Options)
    if options.plot:
        return benchmark_plot.plot(options.files, options.plot)
    configs = cli.configs_from_flags()
    if 0 in options.groups:
        raise InputError("--groups: a group of 0 seeds has no steps; expected sizes from 1, as in --groups=1,3")
    size = options.synthetic.split(",") if options.synthetic else []
    if size and not (len(size) == 3 and all(n.isdigit() and int(n) for n in size)):
        raise InputError(
            f"--synthetic={options.synthetic}: is not a size; expected users,items,width, as in "
            "--synthetic=100000,50000,384"
        )
    if options.whole or options.programs:
        return _write(options, whole_run.run(configs, programs=options.programs, stop=stop))
    if options.gpu:
        return _write(options, gpu_benchmark.run(configs[0].data_dir))
    if options.compile_for not in ("", *gpu_program.DEVICES):
        raise InputError(
            f"--compile_for={options.compile_for}: is not known; expected one of: {', '.join(gpu_program.DEVICES)}"
        )
    results = {}
    for config in configs:
        if options.compile_for:
            results[config.method] = gpu_program.of(config, options.compile_for, options.groups, [*map(int, size)])
            continue
        made = benchmark.synthetic(config, *map(int, size)) if size else experiment.prepare(config)
        if options.serve:
            results[config.method] = serving_benchmark.run(made, repeats=options.repeats)
            print(serving_benchmark.table(results[config.method]) + "\n", flush=True)
            continue
        results[config.method] = benchmark.run(made, options.groups, options.count, options.repeats, options.eval_users)
        print(benchmark.table(results[config.method]) + "\n", flush=True)
    _write(options, results)


def _write(options, results):
    from llmesr_jax.core import files

    if options.out:
        files.write_text(Path(options.out), json.dumps(results, indent=1) + "\n")


def run() -> None:
    """The command: reads the command line, and exits."""
    define_flags()
    cli.run(main)


if __name__ == "__main__":
    run()
